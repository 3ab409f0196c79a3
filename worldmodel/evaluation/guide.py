"""What models are told of real clips, and where what they draw is seen from.

In a world that knows its place, a player's first states are the game's; from then on they follow
from the actions, as in play. In other worlds a condition is the action, and there are no views.

Letters: b batch (clips), f frames, n numbers of a state, k buttons, z numbers of a condition.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.evaluation.real import Clips
from worldmodel.evaluation.subject import Subjects
from worldmodel.model.motion import Motion

AT_ONCE = 256  # frames whose rays are read at once


@dataclass(frozen=True, slots=True)
class Guide:
    """Conditions and views of every frame of some clips."""

    conditions: Tensor  # b f z
    views: Tensor | None  # b f 4
    states: Tensor | None  # b f n, as the world has them

    def after(self, first: int) -> "Guide":
        """From frame `first` on."""
        views, states = (None if x is None else x[:, first:] for x in (self.views, self.states))
        return Guide(self.conditions[:, first:], views, states)


@torch.inference_mode()
def guide(subjects: Subjects, clips: Clips, known: int) -> Guide:
    """What a world is told of clips whose first `known` frames have the game's states."""
    motion, autoencoder = subjects.motion, subjects.autoencoder
    if motion is None:
        return Guide(clips.actions, None, None)
    assert clips.states is not None, "clips of a world with places are recorded with their states"
    states = follow(motion, clips.states, clips.actions, known)
    views = motion.views(states)
    parts = zip(clips.actions.split(AT_ONCE, dim=1), views.split(AT_ONCE, dim=1), strict=True)
    conditions = [autoencoder.conditions(actions, seen) for actions, seen in parts]
    return Guide(torch.cat(conditions, dim=1), views, states)


@torch.inference_mode()
def follow(motion: Motion, states: Tensor, actions: Tensor, known: int) -> Tensor:
    """States b f n of which the first `known` frames stay and the others follow from actions."""
    followed = list(states[:, :known].unbind(1))
    for done in actions[:, known:].unbind(1):
        followed.append(motion(followed[-1], done))
    return torch.stack(followed, dim=1)
