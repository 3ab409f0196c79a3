"""What a world is shown before play: a start's clip as latents and conditions."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import UserError
from worldmodel.model.autoencoder import Autoencoder, encode_frames
from worldmodel.model.events import Events, Recent
from worldmodel.model.motion import Motion
from worldmodel.model.state_numbers import with_state
from worldmodel.storage.episode import Episode
from worldmodel.worlds.world_folder import WorldFile


@dataclass(frozen=True, slots=True)
class ContextFrames:
    """What a world is shown before play."""

    latents: Tensor  # 1 f c h w
    conditions: Tensor  # 1 f z
    state: Tensor | None  # 1 v, in the last frame
    recent: Recent | None = None  # what events follow from, in a world with events


@dataclass(frozen=True, slots=True)
class ContextEncoder:
    """Turns clips, and places to stand at, into context frames of one world."""

    file: WorldFile
    autoencoder: Autoencoder
    motion: Motion | None
    events: Events | None
    actions: ActionSpec
    device: torch.device

    def encode(self, clip: Episode) -> ContextFrames:
        """What a start shows, at most what is visible."""
        longest = self.file.transformer.context_frames + self.file.transformer.sink_frames
        frames = torch.from_numpy(np.ascontiguousarray(clip.frames[-longest:]))
        actions = torch.from_numpy(self.actions.encode(clip.actions[-longest:]))
        latents = encode_frames(self.autoencoder, frames[None])
        actions = actions[None].to(self.device)
        if self.motion is None and self.events is None:
            return ContextFrames(latents, actions, None)
        states = self._states(clip)[-longest:][None]
        return self.of_states(latents, actions, states)

    def of_states(self, latents: Tensor, actions: Tensor, states: Tensor) -> ContextFrames:
        """Latents 1 f c h w in which actions 1 f (k+2) and states 1 f v were what they are."""
        recent = self._recent(states, actions, latents)
        return ContextFrames(latents, self._conditions(actions, states), states[:, -1], recent)

    def _conditions(self, actions: Tensor, states: Tensor) -> Tensor:
        """What the transformer is given of frames: actions b f (k+2), states b f v -> b f z."""
        with torch.inference_mode():
            views = None
            if self.motion is not None:
                views = self.motion.views(states).to(self.device)
            actions = with_state(self.file.transformer, self.file.state, states, actions)
            return self.autoencoder.conditions(actions, views)

    def _recent(self, states: Tensor, actions: Tensor, latents: Tensor) -> Recent | None:
        """What events follow from, of frames before play b f …; none in a world without."""
        if self.events is None:
            return None
        config = self.events.config
        parts = (
            (x.float().cpu(), frames)
            for x, frames in (
                (states, config.frames),
                (actions, config.frames),
                (latents, config.seen),
            )
        )
        return Recent(*(_last(x, frames) for x, frames in parts))

    def _states(self, clip: Episode) -> Tensor:
        """The state in every frame of a start, f v; a `UserError` if it does not say it."""
        assert self.file.state is not None
        if clip.state is None or clip.state.spec.names != self.file.state.names:
            found = "no state" if clip.state is None else ", ".join(clip.state.spec.names)
            raise UserError(
                f"{self.file.name} has a state, so a start must say where it is: a clip with the "
                f"state {', '.join(self.file.state.names)} (found {found}); a picture does not"
            )
        values = torch.from_numpy(clip.state.values)
        needed = [] if self.motion is None else list(self.motion.roles.view)
        if scene := self.file.autoencoder.scene:
            needed += [self.file.state.index(name) for name in scene.objects.viewer]
        if not bool(torch.isfinite(values[:, needed]).all()):
            raise UserError(
                f"{self.file.name}: a start's clip does not know its place in every frame"
            )
        return values


def _last(x: Tensor, frames: int) -> Tensor:
    """The last frames of b f …, the first one again where there are fewer: b `frames` …."""
    missing = frames - x.shape[1]
    if missing > 0:
        x = torch.cat((x[:, :1].repeat_interleave(missing, dim=1), x), dim=1)
    return x[:, x.shape[1] - frames :].clone()
