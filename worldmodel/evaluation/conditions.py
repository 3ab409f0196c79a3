"""What models are given of real clips, and where what they draw is seen from.

In a world that knows its place, a player's first states are the game's; from then on they follow
from the actions, as in play. In other worlds a condition is the action, and there are no views.

Where numbers are predicted (`model.events`), they follow from what the world draws itself: those of
the first frame that is not known are drawn here, later ones in play (`evaluation.played`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.config import ConfigError
from worldmodel.evaluation.reference_clips import Clips
from worldmodel.evaluation.subject import Subjects
from worldmodel.model.autoencoder import encode_frames
from worldmodel.model.events import Events, Recent
from worldmodel.model.motion import Motion
from worldmodel.model.state_numbers import with_state
from worldmodel.worlds.happenings import Happenings

AT_ONCE = 256  # frames whose rays are read at once


@dataclass(frozen=True, slots=True)
class Guide:
    """Conditions and views of every frame of some clips."""

    conditions: Tensor  # b f z
    views: Tensor | None  # b f n
    states: Tensor | None  # b f v, as the world has them

    def after(self, first: int) -> "Guide":
        """Conditions, views and states of the frames from `first` on."""
        views, states = (None if x is None else x[:, first:] for x in (self.views, self.states))
        return Guide(self.conditions[:, first:], views, states)


@torch.inference_mode()
def guide(subjects: Subjects, clips: Clips, known: int) -> Guide:
    """What a world is given of clips whose first `known` frames have the game's states."""
    motion, events = subjects.motion, subjects.events
    if motion is None and events is None:
        return Guide(clips.actions, None, None)
    assert clips.states is not None, "clips of a world with a state are recorded with it"
    states = clips.states
    if motion is not None:
        states = follow(motion, states, clips.actions, known)
    if events is not None and known < states.shape[1]:
        # Numbers are predicted; after frame `known` the game's stand in for them.
        before = clips.cut(0, known)
        latents = encode_frames(subjects.autoencoder, before.frames[:, -events.config.seen :])
        happenings = Happenings(events)
        happenings.begin(recent_of(events, before, latents), range(len(states)))
        sampled = happenings.step(states[:, known - 1], clips.actions[:, known])
        states = torch.cat((states[:, :known], sampled[:, None], states[:, known + 1 :]), dim=1)
    return Guide(condition(subjects, clips.actions, states), subjects.views(states), states)


def recent_of(events: Events, clips: Clips, latents: Tensor) -> Recent:
    """What events follow from, of clips b f and of the latents of their last frames."""
    assert clips.states is not None
    frames, seen = events.config.frames, events.config.seen
    if clips.states.shape[1] < frames:
        raise ConfigError(
            f"numbers follow from {frames} frames, a clip begins with {clips.states.shape[1]}"
        )
    return Recent(
        clips.states[:, -frames:].float(), clips.actions[:, -frames:], latents[:, -seen:].float()
    )


def condition(subjects: Subjects, actions: Tensor, states: Tensor) -> Tensor:
    """What a transformer is given of frames with actions b f (k+2) and states b f v: b f z."""
    file = subjects.file
    actions = with_state(file.transformer, file.state, states, actions)
    if file.autoencoder.plan is None:
        return subjects.autoencoder.conditions(actions, None)
    views = subjects.views(states)
    assert views is not None, "a world with a floor plan knows its place"
    parts = zip(actions.split(AT_ONCE, dim=1), views.split(AT_ONCE, dim=1), strict=True)
    return torch.cat([subjects.autoencoder.conditions(done, view) for done, view in parts], dim=1)


@torch.inference_mode()
def follow(motion: Motion, states: Tensor, actions: Tensor, known: int) -> Tensor:
    """States b f v of which the first `known` frames stay and the others follow from actions."""
    followed = list(states[:, :known].unbind(1))
    for done in actions[:, known:].unbind(1):
        followed.append(motion(followed[-1], done))
    return torch.stack(followed, dim=1)
