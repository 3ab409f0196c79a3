"""Worlds that draw several frames at a time, played one frame at a time all the same."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from worldmodel.model.kv_cache import KVCache
from worldmodel.rollout import Rollout


class ChunkedPlaying:
    """Frame by frame out of a rollout that draws several frames at a time.

    A chunk is drawn when its first frame is asked for, as if the action were held for all of it:
    what a player does while the others are shown counts from the next chunk on. That delay is what
    chunks cost.
    """

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.cache = ChunkedCache(rollout)

    @property
    def generators(self) -> list[Generator]:
        """The noise generator of each session."""
        return self.rollout.generators

    @generators.setter
    def generators(self, generators: list[Generator]) -> None:
        self.rollout.generators = generators

    @property
    def drawn(self) -> int:
        """Chunks drawn so far, priming apart."""
        return self.rollout.drawn

    @drawn.setter
    def drawn(self, drawn: int) -> None:
        self.rollout.drawn = drawn

    @property
    def pulls(self) -> bool:
        """Chunks know no `view_pull`."""
        return False

    def prime(self, latents: Tensor, conditions: Tensor) -> None:
        """Show the worlds their past: clean latents b f c h w and the conditions b f z in it."""
        self.rollout.prime(latents, conditions)

    def denoise(self, condition: Tensor) -> Tensor:
        """The next frame: condition b 1 z -> clean latent b 1 c h w."""
        cache = self.cache
        if cache.shown == 0:
            cache.actions = condition.repeat(1, cache.frames, 1)
            cache.chunk = self.rollout.denoise(cache.actions)
        return cache.chunk[:, cache.shown : cache.shown + 1]

    def remember(self, view: Tensor | None = None) -> None:
        """After the last frame of a chunk, the chunk's clean pass; chunks know no `view_pull`."""
        assert view is None, "a world's file with chunks and a view_pull is refused"
        self.cache.shown += 1
        if self.cache.shown == self.cache.frames:
            self.rollout.remember()
            self.cache.shown = 0


class ChunkedCache:
    """A `Cache` that also knows how much of the current chunk has been shown."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout, self.frames = rollout, rollout.model.config.chunk_frames
        self.shown = 0
        self.chunk = self.actions = torch.empty(0)

    @property
    def kept(self) -> KVCache:
        """The chunks before this one."""
        return self.rollout.cache

    @property
    def time(self) -> int:
        """The time of the frame that comes next."""
        return self.kept.time + self.shown

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of keys and values."""
        return self.kept.dtype

    def saved_shapes(self, time: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before frame `time`."""
        shown = time % self.frames
        shapes = self.kept.saved_shapes(time - shown)
        batch, config = self.kept.k.shape[1], self.kept.config
        if shown:
            k = self.kept.k
            shapes["slot.own"] = (2, *k.shape[:3], config.tokens_per_chunk, k.shape[4])
            shapes["chunk"] = (batch, self.frames, *config.latent_shape)
            shapes["actions"] = (batch, self.frames, config.condition_width)
        return shapes

    def save(self) -> dict[str, Tensor]:
        """What the cache keeps, and the current chunk unless none of it has been shown."""
        saved = self.kept.save()
        if self.shown:
            k, v = (x[..., self._own, :] for x in (self.kept.k, self.kept.v))
            saved["slot.own"] = torch.stack((k, v)).cpu()
            saved |= {"chunk": self.chunk.float().cpu(), "actions": self.actions.float().cpu()}
        return saved

    def load(self, saved: Mapping[str, Tensor], time: int) -> None:
        """Go on from what `save` gave before frame `time`; shapes and dtypes are the caller's."""
        self.shown = time % self.frames
        self.kept.load(saved, time - self.shown)
        if self.shown:
            device, own = self.kept.k.device, saved["slot.own"]
            self.kept.k[..., self._own, :], self.kept.v[..., self._own, :] = own
            self.chunk, self.actions = saved["chunk"].to(device), saved["actions"].to(device)
            self.rollout.resume(self.chunk, self.actions)

    def holds_numbers(self) -> bool:
        """Whether what was kept last is finite."""
        return self.kept.holds_numbers()

    @property
    def _own(self) -> slice:
        """Where the current chunk's keys stand: the last denoising step's, until the clean pass."""
        first = self.kept.slot * self.kept.config.tokens_per_frame
        return slice(first, first + self.kept.config.tokens_per_chunk)
