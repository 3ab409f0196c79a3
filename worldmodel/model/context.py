"""What a frame may look at: the one seam between training and play.

Attention hands every layer's queries, keys and values to a `Context` and gets back what they
attended to. In training a `ClipContext` has all frames at once; in play a `KVCache` has kept the
past. The transformer cannot tell them apart.

Every frame sees itself, the `context_frames - 1` frames before it, and the `sink_frames` first
frames of the rollout for good. Keys carry the time of their frame (`rotary`). A sink that the
window has left behind is seen as if it stood directly before the window: however long the play,
no query meets an age that training has not shown.

With `chunk_frames` above 1, frames come in chunks, counted from the first frame of the rollout. The
frames of a chunk see each other, the later ones too, and all see what its last frame sees; to all
of them the frame before is the last one of the chunk before, the last that is clean when the chunk
is drawn (block-causal attention, Causal Forcing, arXiv 2602.02214, §3). `WholeClip` is the other
extreme: all of a clip is one chunk.

Letters: l layers, b batch, n heads, t u tokens, e head width, f g frames, p tokens a frame, i
chunks, j tokens a chunk.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from worldmodel.model.configs import ModelConfig
from worldmodel.model.rotary import apply_rope, rope_cos_sin, time_angles

Device = torch.device | str


class Context(Protocol):
    """Supplies the past to attention."""

    @property
    def rope_cos_sin(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines t e/2 of the positions of the tokens that are passed in."""

    def previous(self, latents: Tensor) -> Tensor:
        """The frame before each one passed in, as remembered; nought before the first: b f c h w.

        The transformer calls it once a pass, with the latents of that pass.
        """

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Turned queries and keys, values: b n t e each -> what was attended to, b n t e."""


def visible(config: ModelConfig, frames: int) -> Tensor:
    """Which frame g a frame f may look at, itself included: bool f g."""
    assert frames % config.chunk_frames == 0, f"{frames} frames are no whole number of chunks"
    times = torch.arange(frames)
    age = last_of_chunk(config, times)[:, None] - times
    in_window = age < config.context_frames
    return (age >= 0) & (in_window | (times < config.sink_frames))


def last_of_chunk(config: ModelConfig, times: Tensor) -> Tensor:
    """The last frame of the chunk of every frame f."""
    return times // config.chunk_frames * config.chunk_frames + config.chunk_frames - 1


def pinned_time(config: ModelConfig, sink: int, now: int) -> int:
    """The time at which a query of the chunk that begins at `now` sees sink frame `sink`."""
    end = now + config.chunk_frames
    return max(sink, end - config.context_frames - config.sink_frames + sink)


class ClipContext:
    """All frames of a clip at once, each seeing the past: used on clean latents."""

    def __init__(self, config: ModelConfig, frames: int, device: Device = "cpu") -> None:
        self.config = config
        self.rope_cos_sin = _kept_turns(config, 0, frames, device)
        self.hidden = _kept_mask(config, frames, device)

    def previous(self, latents: Tensor) -> Tensor:
        """The clip, one chunk later, of every chunk its last frame."""
        return _before_chunks(latents, self.config.chunk_frames)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention over the clip."""
        del layer
        scores = _scores(self.config, q, k).masked_fill(self.hidden, -torch.inf)
        return scores.softmax(dim=-1) @ v


class TeacherForcing:
    """A clip once clean and `copies` times noisy, packed along time: [clean | noisy | noisy ...].

    Clean frames see the clean past and themselves; a noisy frame sees the *clean* past and its
    noisy chunk, never another copy: exactly what the sampler sees in play. Several copies share the
    cost of the clean half. Of the mask's blocks only those that can be seen are computed: noisy
    queries meet the clean keys in one product, and their own chunk's keys in another.
    """

    def __init__(
        self, config: ModelConfig, frames: int, copies: int = 1, device: Device = "cpu"
    ) -> None:
        self.config, self.frames, self.copies = config, frames, copies
        self.clean = ClipContext(config, frames, device)
        cos, sin = self.clean.rope_cos_sin
        self.rope_cos_sin = cos.repeat(1 + copies, 1), sin.repeat(1 + copies, 1)
        self.hidden = _kept_past(config, frames, device)

    def previous(self, latents: Tensor) -> Tensor:
        """The clean half's, for both kinds of frames."""
        return self.clean.previous(latents[:, : self.frames]).repeat(1, 1 + self.copies, 1, 1, 1)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Both kinds of frames; t = (1 + copies) f p."""
        p, j = self.config.tokens_per_frame, self.config.tokens_per_chunk
        sizes = (self.frames * p, self.copies * self.frames * p)
        (qc, qn), (kc, kn), (vc, vn) = (x.split(sizes, dim=2) for x in (q, k, v))
        clean = self.clean.attend(layer, qc, kc, vc)

        hidden = self.hidden.repeat(self.copies, 1)
        past = _scores(self.config, qn, kc, self.copies).masked_fill(hidden, -torch.inf)
        qi, ki, vi = (rearrange(x, "b n (i j) e -> b n i j e", j=j) for x in (qn, kn, vn))
        own = rearrange(qi @ ki.mT * q.shape[-1] ** -0.5, "b n i j u -> b n (i j) u")
        weights = torch.cat((past, own), dim=-1).softmax(dim=-1)
        past, own = weights.split((sizes[0], j), dim=-1)
        seen_itself = rearrange(own, "b n (i j) u -> b n i j u", j=j) @ vi
        noisy = past @ vc + rearrange(seen_itself, "b n i j e -> b n (i j) e")
        return torch.cat((clean, noisy), dim=2)


class WholeClip:
    """Every frame sees the whole clip, what comes after it too: bidirectional diffusion.

    The first `known` b frames of each clip are shown clean, what is drawn follows them: to all the
    frames after those, the frame before is the last one of them, and nought if there are none.
    """

    def __init__(self, config: ModelConfig, frames: int, known: Tensor) -> None:
        self.rope_cos_sin = _kept_turns(config, 0, frames, known.device)
        times = torch.arange(frames, device=known.device)
        self.before = torch.minimum(times, known[:, None]) - 1  # b f

    def previous(self, latents: Tensor) -> Tensor:
        """The frame before each known one, the last known one for the rest."""
        before = self.before[..., None, None, None]
        found = latents.gather(1, before.clamp(min=0).expand_as(latents))
        return torch.where(before < 0, 0.0, found)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over all of the clip."""
        del layer
        return F.scaled_dot_product_attention(q, k, v)


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
        self.slots = config.sink_frames + config.context_frames
        tokens = self.slots * config.tokens_per_frame
        shape = (config.layers, batch, config.heads, tokens, config.head_width)
        self.k = torch.zeros(shape, dtype=dtype, device=device)  # l b n (s p) e
        self.v = torch.zeros_like(self.k)
        sink_tokens = config.sink_frames * config.tokens_per_frame
        self.sink_k = self.k[..., :sink_tokens, :].clone()  # as they came, never moved
        self.now = 0
        self.rope_cos_sin = _kept_turns(config, 0, config.chunk_frames, device)
        self.last = torch.zeros(batch, 1, *config.latent_shape, device=device)
        self._current = self.last
        self._copies: dict[str, Tensor] = {}  # of slots, as `save` handed them out
        self._written: set[int] = set()  # slots kept since then

    @property
    def slot(self) -> int:
        """Where the current chunk is kept: the slot of its first frame."""
        return self._slot_of(self.now)

    def previous(self, latents: Tensor) -> Tensor:
        """The frame that was kept last."""
        self._current = latents
        return self.last.expand_as(latents)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep the current chunk in its slots and attend to everything kept."""
        p = self.config.tokens_per_frame
        here = slice(self.slot * p, self.slot * p + self.config.tokens_per_chunk)
        k, v = k.to(self.k.dtype), v.to(self.v.dtype)
        self.k[layer, :, :, here] = k.detach()
        self.v[layer, :, :, here] = v.detach()
        valid = min(self.now + self.config.chunk_frames, self.slots) * p
        keys, values = self.k[layer, :, :, :valid], self.v[layer, :, :, :valid]
        if q.requires_grad or k.requires_grad:
            before, after = slice(here.start), slice(here.stop, None)
            keys = torch.cat((keys[:, :, before], k, keys[:, :, after]), dim=2)
            values = torch.cat((values[:, :, before], v, values[:, :, after]), dim=2)
        return F.scaled_dot_product_attention(q, keys, values)

    def begin(self, frames: int) -> "Beginning":
        """The context of one pass over all the `frames` frames before play; they are kept."""
        assert self.now == 0
        assert frames <= self.config.sink_frames + self.config.context_frames
        return Beginning(self, frames)

    def advance(self, latents: Tensor | None = None) -> None:
        """Keep the current chunk and open the slots of the next one.

        `latents` b f c h w: how it looks, where the last pass over it has seen it noisy.
        """
        config, p = self.config, self.config.tokens_per_frame
        if self.now < config.sink_frames:
            here = slice(self.now * p, self.now * p + config.tokens_per_chunk)
            self.sink_k[..., here, :] = self.k[..., here, :]
        self._written.update(range(self.slot, self.slot + config.chunk_frames))
        kept = self._current if latents is None else latents
        self.last = kept[:, -1:].detach()
        self._move_to(self.now + config.chunk_frames)

    def save(self) -> dict[str, Tensor]:
        """What is kept, by name, between two frames: `slot.3` 2 l b n p e for each slot, `last`.

        Copies on the CPU that nobody writes to again. A slot that two calls found unchanged is the
        very same tensor in both answers: a second of play costs a second's slots, not copies of
        the whole cache.
        """
        for slot in self._written:
            self._copies[slot_name(slot)] = self._copy(slot)
        self._written.clear()
        return {**self._copies, "last": self.last.to("cpu", copy=True)}

    @property
    def time(self) -> int:
        """Of the frame that comes next."""
        return self.now

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self.k.dtype

    def saved_shapes(self, time: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before frame `time`."""
        latent = (self.k.shape[1], 1, *self.config.latent_shape)
        return {**slot_shapes(self.config, self.k.shape[1], time), "last": latent}

    def load(self, saved: Mapping[str, Tensor], time: int) -> None:
        """Go on from what `save` gave before frame `time`; shapes and dtypes are the caller's."""
        config, p = self.config, self.config.tokens_per_frame
        kept = {slot: saved[slot_name(slot)] for slot in range(min(time, self.slots))}
        for cached in (self.k, self.v):
            cached.zero_()  # whatever broke may have left values that are not numbers
        for slot, (k, v) in kept.items():
            here = slice(slot * p, (slot + 1) * p)
            self.k[..., here, :], self.v[..., here, :] = k, v
            if slot < config.sink_frames:
                self.sink_k[..., here, :] = k
        self._copies, self._written = {slot_name(s): pair for s, pair in kept.items()}, set()
        self.last = self._current = saved["last"].to(self.device)
        self._move_to(time)

    def holds_numbers(self) -> bool:
        """Whether what was kept last is finite."""
        p, slot = self.config.tokens_per_frame, self._slot_of(self.now - 1)
        here = slice(slot * p, (slot + 1) * p)
        kept = self.k[..., here, :], self.v[..., here, :]
        return all(bool(torch.isfinite(x).all()) for x in kept)

    def _slot_of(self, frame: int) -> int:
        sinks, ring = self.config.sink_frames, self.config.context_frames
        return frame if frame < sinks else sinks + (frame - sinks) % ring

    def _move_to(self, now: int) -> None:
        """The positions of frame `now`, and the sinks where it sees them."""
        config = self.config
        self.now = now
        self.rope_cos_sin = _kept_turns(config, now, config.chunk_frames, self.device)
        if config.sink_frames and pinned_time(config, 0, now) > 0:
            tokens = config.sink_frames * config.tokens_per_frame
            self.k[..., :tokens, :] = _pin_sinks(config, self.sink_k, now)

    def _copy(self, slot: int) -> Tensor:
        """Keys as they came and values of a slot, 2 l b n p e."""
        p = self.config.tokens_per_frame
        here = slice(slot * p, (slot + 1) * p)
        k = self.sink_k if slot < self.config.sink_frames else self.k
        return torch.stack((k[..., here, :], self.v[..., here, :])).cpu()


def slot_shapes(config: ModelConfig, batch: int, frames: int) -> dict[str, tuple[int, ...]]:
    """Keys and values of each slot that `frames` frames have filled."""
    slots = min(frames, config.sink_frames + config.context_frames)
    pair = (2, config.layers, batch, config.heads, config.tokens_per_frame, config.head_width)
    return {slot_name(slot): pair for slot in range(slots)}


def slot_name(slot: int) -> str:
    """Under which a slot is saved: sinks first, then the ring."""
    return f"slot.{slot}"


class Beginning(ClipContext):
    """A clip that is read at once into an empty cache, instead of chunk by chunk."""

    def __init__(self, cache: KVCache, frames: int) -> None:
        super().__init__(cache.config, frames, cache.device)
        self.cache, self.frames = cache, frames

    def previous(self, latents: Tensor) -> Tensor:
        """As in any clip; the cache keeps the last frame."""
        self.cache._current = latents
        return super().previous(latents)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As in any clip; the cache keeps keys and values, after the last layer the time too."""
        cache, config = self.cache, self.config
        tokens = self.frames * config.tokens_per_frame
        cache.k[layer, :, :, :tokens], cache.v[layer, :, :, :tokens] = k, v
        if layer == config.layers - 1:
            cache.sink_k.copy_(cache.k[..., : cache.sink_k.shape[3], :])
            cache._written.update(range(self.frames))
            cache.now = self.frames - config.chunk_frames
            cache.advance()
        return super().attend(layer, q, k, v)


def _before_chunks(latents: Tensor, chunk: int) -> Tensor:
    """The last frame before the chunk of each frame b f c h w, nought in the first chunk."""
    last = torch.cat((torch.zeros_like(latents[:, :1]), latents[:, chunk - 1 : -1 : chunk]), dim=1)
    return last.repeat_interleave(chunk, dim=1)


@lru_cache(maxsize=512)
@torch.inference_mode(mode=False)  # kept, so it must also serve where gradients are taken
def _kept_turns(
    config: ModelConfig, first: int, frames: int, device: Device
) -> tuple[Tensor, Tensor]:
    """Turns of `frames` frames from `first` on; kept, since a copy to a GPU waits for the GPU."""
    return rope_cos_sin(config, first + torch.arange(frames), device)


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)
def _kept_mask(config: ModelConfig, frames: int, device: Device) -> Tensor:
    """Which tokens of a clip are hidden from which: t u."""
    return _over_tokens(~visible(config, frames), config).to(device)


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)
def _kept_past(config: ModelConfig, frames: int, device: Device) -> Tensor:
    """The same of the clean tokens from the noisy ones, which see earlier chunks alone: t u."""
    chunks = torch.arange(frames) // config.chunk_frames
    past = visible(config, frames) & (chunks[:, None] != chunks)
    return _over_tokens(~past, config).to(device)


def _over_tokens(mask: Tensor, config: ModelConfig) -> Tensor:
    """A mask over frames f g as one over their tokens t u."""
    p = config.tokens_per_frame
    return mask.repeat_interleave(p, dim=0).repeat_interleave(p, dim=1)


def _pin_sinks(config: ModelConfig, k: Tensor, now: int) -> Tensor:
    """Move the sinks' keys ... t e to where a query of the chunk that begins at `now` sees them."""
    cos, sin = _sink_turns(config, now, k.device)
    return apply_rope(k.float(), cos, sin).to(k.dtype)


@lru_cache(maxsize=512)
@torch.inference_mode(mode=False)
def _sink_turns(config: ModelConfig, now: int, device: Device) -> tuple[Tensor, Tensor]:
    """Cosines and sines t e/2 of how far the sinks have moved."""
    moved_by = torch.tensor([pinned_time(config, s, now) - s for s in range(config.sink_frames)])
    angles = time_angles(config, moved_by).repeat_interleave(config.tokens_per_frame, dim=0)
    return angles.cos().to(device), angles.sin().to(device)


def _scores(config: ModelConfig, q: Tensor, k: Tensor, copies: int = 1) -> Tensor:
    """Scaled products of queries b n (r f p) e and clean keys b n (f p) e: b n (r f p) u."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    p, sinks = config.tokens_per_frame, config.sink_frames * config.tokens_per_frame
    frames = k.shape[2] // p
    if not sinks or frames <= config.sink_frames + config.context_frames:
        return scores
    # Past the window, sinks stand at another time for every frame. (Training clips are shorter.)
    scores = scores.clone()
    for f in range(config.sink_frames + config.context_frames, frames):
        pinned = _pin_sinks(config, k[:, :, :sinks], f // config.chunk_frames * config.chunk_frames)
        for r in range(copies):
            here = slice((r * frames + f) * p, (r * frames + f + 1) * p)
            scores[:, :, here, :sinks] = q[:, :, here] @ pinned.mT * q.shape[-1] ** -0.5
    return scores
