"""Several sessions of one world of keys and mouse as one batch, all as old as each other.

    batch = WanBatch(world, 8)
    frames = batch.begin(starts, seeds)        # b h w 3
    frames = batch.step(actions)               # an action for each session

Each sees what a session alone sees, but for the rounding of another batch size. Worlds of words and
cameras are not played so: what is heard, and where the anchor is, is one for a whole cache.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.wan.kv_cache import FrameConditions, RollingCache
from worldmodel.wan.streaming_decoder import as_bytes
from worldmodel.wan.wan_rollout import WanRollout, seeded_noise
from worldmodel.world import Frame, WorldFaultError
from worldmodel.worlds.wan.row_control import RowControl
from worldmodel.worlds.wan.world import WanWorld


class WanBatch:
    """A rollout of so many sessions, their decoder's memory, and what each player does."""

    def __init__(self, world: WanWorld, count: int) -> None:
        model, file = world.parts.transformer, world.file
        if file.controls is None:
            raise UserError(
                f"{world.name}: only worlds that keys and mouse steer play as a batch; of those "
                "that words steer, each session needs a WorldEnv of its own"
            )
        self.world, self.file, self.model = world, file, model
        self.cache = RollingCache(model.config, file.window, count, model.dtype, model.device)

    @torch.inference_mode()
    def begin(self, starts: Sequence[int], seeds: Sequence[int]) -> Frame:
        """The first frame of every session, b h w 3."""
        given = [self.world.start_at(start).picture for start in starts]
        self.pictures = [picture for picture in given if picture is not None]
        assert len(self.pictures) == len(starts), "worlds of keys and mouse begin with a picture"
        noise = seeded_noise([torch.Generator().manual_seed(seed) for seed in seeds])
        samplers = self.world.sampler, self.world.first_sampler
        self.cache.reset()
        self.rollout = WanRollout(
            self.model, self.file.window, *samplers, noise, len(starts), self.cache
        )
        self.rollout.say(self.model.read_text(torch.stack([p.features for p in self.pictures])))
        self.stream = self.world.parts.decoder.stream()
        self.controls = [RowControl(self.file) for _ in starts]
        self.frames: deque[Frame] = deque()  # of all sessions, not shown
        return self._next()

    @torch.inference_mode()
    def step(self, actions: Sequence[Action]) -> Frame:
        """The next frame of every session; a chunk is drawn when all of the last one is shown."""
        for control, action in zip(self.controls, actions, strict=True):
            control.feed(action)
        return self._next()

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """Nothing: no number of the game is known."""
        return {}

    def _next(self) -> Frame:
        if not self.frames:
            latents = self.rollout.denoise(conditions=self._conditions())
            for latent in rearrange(latents, "b f c h w -> b c f h w").split(1, dim=2):
                shown = as_bytes(self.stream.decode(latent))
                shown = rearrange(shown, "b c t h w -> t b h w c").contiguous()
                self.frames.extend(np.asarray(shown.cpu().numpy(), np.uint8))
            if not bool(torch.isfinite(latents).all()):
                raise WorldFaultError("its latents hold values that are not numbers")
            self.rollout.remember()
        return self.frames.popleft()

    def _conditions(self) -> FrameConditions:
        """The conditions of all sessions' next chunk."""
        sizes, frames = self.file.transformer.picture, self.file.window.chunk_frames
        assert sizes is not None
        pictures = [
            picture.channels(self.cache.now, frames, sizes.mask_channels)
            for picture in self.pictures
        ]
        keys, mice = zip(*(control.next(frames) for control in self.controls), strict=True)
        mouse = [rows for rows in mice if rows is not None]
        return FrameConditions(
            torch.cat(pictures), torch.cat(keys), torch.cat(mouse) if mouse else None
        )
