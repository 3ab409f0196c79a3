"""The past in play: keys and values of the frames that are still seen, in preallocated slots.

    cache = KVCache(config)
    model(latents, sigmas, actions, cache)    # as often as the sampler asks; the last pass counts
    cache.advance()                           # the chunk is the past; the next one begins

Letter of its own: s slots.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import ClipContext, Device, kept_rope
from worldmodel.model.frame_ring import FrameRing, SlotCopies, slot_name
from worldmodel.model.sinks import pin_sinks, pinned_time


class KVCache:
    """Keys and values of the sinks and of the last frames, in preallocated slots.

    Each pass over a chunk overwrites that chunk's slots and its latents, so the last pass before
    `advance` (the clean one) is what later frames see. The slots fill from the front, sinks first,
    then a ring: what is valid is always a prefix, so attention needs no mask, memory never grows.

    Where a pass is differentiated, its gradient goes through its own keys and values alone: what is
    kept is detached, and attention reads a copy, so that no later frame writes into what autograd
    has saved.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
    ) -> None:
        self.config, self.device = config, device
        self.ring = ring = ring_of(config)
        shape = (
            config.time_layers,
            batch,
            config.heads,
            ring.slots * ring.tokens,
            config.head_width,
        )
        self.k = torch.zeros(shape, dtype=dtype, device=device)  # l b n (s p) e
        self.v = torch.zeros_like(self.k)
        sink_tokens = config.sink_frames * config.tokens_per_frame
        self.sink_k = self.k[..., :sink_tokens, :].clone()  # as they came, never moved
        self.now = 0
        self.rope_cos_sin = kept_rope(config, 0, config.chunk_frames, device)
        self.last = torch.zeros(batch, 1, *config.latent_shape, device=device)
        self._current = self.last
        self._copies = SlotCopies()

    @property
    def slot(self) -> int:
        """Where the current chunk is kept: the slot of its first frame."""
        return self.ring.slot(self.now)

    def previous(self, latents: Tensor) -> Tensor:
        """The frame that was kept last, for each one passed in: b f c h w."""
        self._current = latents
        return self.last.expand_as(latents)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep the current chunk in its slots, attend to everything kept: b n t e -> b n t e."""
        here = self.ring.place(self.slot, self.config.chunk_frames)
        k, v = k.to(self.k.dtype), v.to(self.v.dtype)
        self.k[layer, :, :, here] = k.detach()
        self.v[layer, :, :, here] = v.detach()
        valid = min(self.now + self.config.chunk_frames, self.ring.slots) * self.ring.tokens
        keys, values = self.k[layer, :, :, :valid], self.v[layer, :, :, :valid]
        if q.requires_grad or k.requires_grad:
            before, after = slice(here.start), slice(here.stop, None)
            keys = torch.cat((keys[:, :, before], k, keys[:, :, after]), dim=2)
            values = torch.cat((values[:, :, before], v, values[:, :, after]), dim=2)
        return F.scaled_dot_product_attention(q, keys, values)

    def begin(self, frames: int) -> "Beginning":
        """The context of one pass over all the `frames` frames before play; `keep` follows it."""
        assert self.now == 0
        assert frames <= self.ring.slots
        return Beginning(self, frames)

    def keep(self, clip: "Beginning") -> None:
        """The frames of a pass over `begin`'s context are the past; play begins after them."""
        self.sink_k.copy_(self.k[..., : self.sink_k.shape[3], :])
        self._copies.change(range(clip.frames))
        self.last = clip.latents[:, -1:].detach()
        self._move_to(clip.frames)

    def advance(self, latents: Tensor | None = None) -> None:
        """Keep the current chunk and open the slots of the next one.

        `latents` b f c h w: how it looks, where the last pass over it has seen it noisy.
        """
        chunk = self.config.chunk_frames
        if self.now < self.ring.sinks:
            here = self.ring.place(self.now, chunk)
            self.sink_k[..., here, :] = self.k[..., here, :]
        self._copies.change(range(self.slot, self.slot + chunk))
        kept = self._current if latents is None else latents
        self.last = kept[:, -1:].detach()
        self._move_to(self.now + chunk)

    def save(self) -> dict[str, Tensor]:
        """What is kept, by name, between two frames: `slot.3` 2 l b n p e for each slot, `last`."""
        return {**self._copies.save(self._pair), "last": self.last.to("cpu", copy=True)}

    @property
    def time(self) -> int:
        """The time of the frame that comes next."""
        return self.now

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of keys and values."""
        return self.k.dtype

    def saved_shapes(self, time: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before frame `time`."""
        latent = (self.k.shape[1], 1, *self.config.latent_shape)
        return {**slot_shapes(self.config, self.k.shape[1], time), "last": latent}

    def load(self, saved: Mapping[str, Tensor], time: int) -> None:
        """Go on from what `save` gave before frame `time`; shapes and dtypes are the caller's."""
        kept = min(time, self.ring.slots)
        for cached in (self.k, self.v):
            cached.zero_()  # whatever broke may have left values that are not numbers
        for slot in range(kept):
            here, (k, v) = self.ring.place(slot), saved[slot_name(slot)]
            self.k[..., here, :], self.v[..., here, :] = k, v
            if slot < self.ring.sinks:
                self.sink_k[..., here, :] = k
        self._copies.load(saved, kept)
        self.last = self._current = saved["last"].to(self.device)
        self._move_to(time)

    def holds_numbers(self) -> bool:
        """Whether what was kept last is finite."""
        here = self.ring.place(self.ring.slot(self.now - 1))
        kept = self.k[..., here, :], self.v[..., here, :]
        return all(bool(torch.isfinite(x).all()) for x in kept)

    def _move_to(self, now: int) -> None:
        """The positions of frame `now`, and the sinks where it sees them."""
        config = self.config
        self.now = now
        self.rope_cos_sin = kept_rope(config, now, config.chunk_frames, self.device)
        if self.ring.sinks and pinned_time(config, 0, now) > 0:
            sinks = self.ring.place(0, self.ring.sinks)
            self.k[..., sinks, :] = pin_sinks(config, self.sink_k, now)

    def _pair(self, slot: int) -> Tensor:
        """Keys as they came and values of a slot, 2 l b n p e."""
        here = self.ring.place(slot)
        k = self.sink_k if slot < self.ring.sinks else self.k
        return torch.stack((k[..., here, :], self.v[..., here, :]))


def ring_of(config: ModelConfig) -> FrameRing:
    """Where frames of the past are kept in play."""
    return FrameRing(config.sink_frames, config.context_frames, config.tokens_per_frame)


def slot_shapes(config: ModelConfig, batch: int, frames: int) -> dict[str, tuple[int, ...]]:
    """Keys and values of each slot that `frames` frames have filled."""
    slots = min(frames, ring_of(config).slots)
    pair = (2, config.time_layers, batch, config.heads, config.tokens_per_frame, config.head_width)
    return {slot_name(slot): pair for slot in range(slots)}


class Beginning(ClipContext):
    """A clip that is read at once into an empty cache, instead of chunk by chunk."""

    latents: Tensor  # b f c h w, of the pass

    def __init__(self, cache: KVCache, frames: int) -> None:
        super().__init__(cache.config, frames, cache.device)
        self.cache, self.frames = cache, frames

    def previous(self, latents: Tensor) -> Tensor:
        """The frame before each frame of the clip, zero before the first: b f c h w."""
        self.latents = latents
        return super().previous(latents)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within the clip, b n t e -> b n t e, and fill the cache's slots with k and v."""
        tokens = self.frames * self.cache.ring.tokens
        self.cache.k[layer, :, :, :tokens], self.cache.v[layer, :, :, :tokens] = k, v
        return super().attend(layer, q, k, v)
