"""What a frame may look at: the one seam between training and play.

Attention hands every layer's queries, keys and values to a `Context` and gets back what they
attended to. In training a `Clip` has all frames at once; in play a `KVCache` has kept the past. The
transformer cannot tell them apart.

Every frame sees itself, the `context_frames - 1` frames before it, and the `sink_frames` first
frames of the rollout for good. Keys carry the time of their frame (`rotary`). A sink that the
window has left behind is seen as if it stood directly before the window: however long the play,
no query meets an age that training has not shown.

Letters: l layers, b batch, n heads, t u tokens, e head width, f g frames, p tokens a frame.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from worldmodel.config import ModelConfig
from worldmodel.model.rotary import time_angles, turn, turns

Device = torch.device | str


class Context(Protocol):
    """Supplies the past to attention."""

    @property
    def turns(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines t e/2 of the positions of the tokens that are passed in."""

    def previous(self, latents: Tensor) -> Tensor:
        """The frame before each one passed in, as remembered; nought before the first: b f c h w.

        The transformer calls it once a pass, with the latents of that pass.
        """

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Turned queries and keys, values: b n t e each -> what was attended to, b n t e."""


def visible(config: ModelConfig, frames: int) -> Tensor:
    """Which frame g a frame f may look at, itself included: bool f g."""
    times = torch.arange(frames)
    age = times[:, None] - times
    in_window = age < config.context_frames
    return (age >= 0) & (in_window | (times < config.sink_frames))


def pinned_time(config: ModelConfig, sink: int, now: int) -> int:
    """The time at which a query at `now` sees sink frame number `sink`."""
    return max(sink, now + 1 - config.context_frames - config.sink_frames + sink)


class Clip:
    """All frames of a clip at once, each seeing the past: used on clean latents."""

    def __init__(self, config: ModelConfig, frames: int, device: Device = "cpu") -> None:
        self.config = config
        self.turns = turns(config, torch.arange(frames), device)
        self.hidden = _over_tokens(~visible(config, frames), config).to(device)

    def previous(self, latents: Tensor) -> Tensor:
        """The clip, one frame later."""
        return _one_later(latents)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention over the clip."""
        del layer
        scores = _scores(self.config, q, k).masked_fill(self.hidden, -torch.inf)
        return scores.softmax(dim=-1) @ v


class TeacherForcing:
    """A clip once clean and `copies` times noisy, packed along time: [clean | noisy | noisy ...].

    Clean frames see the clean past and themselves; a noisy frame sees the *clean* past and its
    noisy self, never another copy: exactly what the sampler sees in play. Several copies share the
    cost of the clean half. Of the mask's blocks only those that can be seen are computed: noisy
    queries meet the clean keys in one product, and their own frame's keys in another.
    """

    def __init__(
        self, config: ModelConfig, frames: int, copies: int = 1, device: Device = "cpu"
    ) -> None:
        self.config, self.frames, self.copies = config, frames, copies
        self.clean = Clip(config, frames, device)
        cos, sin = self.clean.turns
        self.turns = cos.repeat(1 + copies, 1), sin.repeat(1 + copies, 1)
        past = visible(config, frames) & ~torch.eye(frames, dtype=torch.bool)
        self.hidden = _over_tokens(~past, config).to(device)

    def previous(self, latents: Tensor) -> Tensor:
        """The clean half, one frame later, for both kinds of frames."""
        return _one_later(latents[:, : self.frames]).repeat(1, 1 + self.copies, 1, 1, 1)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Both kinds of frames; t = (1 + copies) f p."""
        p = self.config.tokens_per_frame
        sizes = (self.frames * p, self.copies * self.frames * p)
        (qc, qn), (kc, kn), (vc, vn) = (x.split(sizes, dim=2) for x in (q, k, v))
        clean = self.clean.attend(layer, qc, kc, vc)

        hidden = self.hidden.repeat(self.copies, 1)
        past = _scores(self.config, qn, kc, self.copies).masked_fill(hidden, -torch.inf)
        qf, kf, vf = (rearrange(x, "b n (f p) e -> b n f p e", p=p) for x in (qn, kn, vn))
        own = rearrange(qf @ kf.mT * q.shape[-1] ** -0.5, "b n f p q -> b n (f p) q")
        weights = torch.cat((past, own), dim=-1).softmax(dim=-1)
        past, own = weights.split((sizes[0], p), dim=-1)
        seen_itself = rearrange(own, "b n (f p) q -> b n f p q", p=p) @ vf
        noisy = past @ vc + rearrange(seen_itself, "b n f p e -> b n (f p) e")
        return torch.cat((clean, noisy), dim=2)


class KVCache:
    """Keys and values of the sinks and of the last frames, in preallocated slots.

    Each pass over a frame overwrites that frame's slot and its latents, so the last pass before
    `advance` (the clean one) is what later frames see. The slots fill from the front, sinks first,
    then a ring: what is valid is always a prefix, so attention needs no mask, memory never grows.
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
        self.turns = turns(config, torch.tensor([0]), device)
        self.last = torch.zeros(batch, 1, *config.latent_shape, device=device)
        self._current = self.last
        self._copies: dict[str, Tensor] = {}  # of slots, as `save` handed them out
        self._written: set[int] = set()  # slots kept since then

    @property
    def slot(self) -> int:
        """Where the current frame is kept."""
        return self._slot_of(self.now)

    def previous(self, latents: Tensor) -> Tensor:
        """The frame that was kept last."""
        self._current = latents
        return self.last

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep the current frame in its slot and attend to everything kept."""
        p = self.config.tokens_per_frame
        here = slice(self.slot * p, (self.slot + 1) * p)
        self.k[layer, :, :, here] = k
        self.v[layer, :, :, here] = v
        valid = min(self.now + 1, self.slots) * p
        return F.scaled_dot_product_attention(
            q, self.k[layer, :, :, :valid], self.v[layer, :, :, :valid]
        )

    def advance(self) -> None:
        """Keep the current frame and open the slot of the next one."""
        config, p = self.config, self.config.tokens_per_frame
        if self.now < config.sink_frames:
            here = slice(self.now * p, (self.now + 1) * p)
            self.sink_k[..., here, :] = self.k[..., here, :]
        self._written.add(self.slot)
        self.last = self._current
        self._move_to(self.now + 1)

    def save(self) -> dict[str, Tensor]:
        """What is kept, by name, between two frames: `slot.3` 2 l b n p e for each slot, `last`.

        Copies on the CPU that nobody writes to again. A slot that two calls found unchanged is the
        very same tensor in both answers: a second of play costs a second's slots, not copies of
        the whole cache.
        """
        for slot in self._written:
            self._copies[_slot_name(slot)] = self._copy(slot)
        self._written.clear()
        return {**self._copies, "last": self.last.to("cpu", copy=True)}

    def load(self, saved: Mapping[str, Tensor], now: int) -> None:
        """Go on from what `save` gave before frame `now`; shapes and dtypes are the caller's."""
        config, p = self.config, self.config.tokens_per_frame
        kept = {slot: saved[_slot_name(slot)] for slot in range(min(now, self.slots))}
        for cached in (self.k, self.v):
            cached.zero_()  # whatever broke may have left values that are not numbers
        for slot, (k, v) in kept.items():
            here = slice(slot * p, (slot + 1) * p)
            self.k[..., here, :], self.v[..., here, :] = k, v
            if slot < config.sink_frames:
                self.sink_k[..., here, :] = k
        self._copies, self._written = {_slot_name(s): pair for s, pair in kept.items()}, set()
        self.last = self._current = saved["last"].to(self.device)
        self._move_to(now)

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
        self.now, self.turns = now, turns(config, torch.tensor([now]), self.device)
        if config.sink_frames and pinned_time(config, 0, now) > 0:
            tokens = config.sink_frames * config.tokens_per_frame
            self.k[..., :tokens, :] = _pin_sinks(config, self.sink_k, now)

    def _copy(self, slot: int) -> Tensor:
        """Keys as they came and values of a slot, 2 l b n p e."""
        p = self.config.tokens_per_frame
        here = slice(slot * p, (slot + 1) * p)
        k = self.sink_k if slot < self.config.sink_frames else self.k
        return torch.stack((k[..., here, :], self.v[..., here, :])).cpu()


def saved_shapes(config: ModelConfig, batch: int, now: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what `KVCache.save` gives before frame `now`."""
    slots = min(now, config.sink_frames + config.context_frames)
    pair = (2, config.layers, batch, config.heads, config.tokens_per_frame, config.head_width)
    shapes: dict[str, tuple[int, ...]] = {_slot_name(slot): pair for slot in range(slots)}
    return {**shapes, "last": (batch, 1, *config.latent_shape)}


def _slot_name(slot: int) -> str:
    return f"slot.{slot}"


def _one_later(latents: Tensor) -> Tensor:
    """Latents b f c h w moved on by one frame, the first nought."""
    return torch.cat((torch.zeros_like(latents[:, :1]), latents[:, :-1]), dim=1)


def _over_tokens(mask: Tensor, config: ModelConfig) -> Tensor:
    """A mask over frames f g as one over their tokens t u."""
    p = config.tokens_per_frame
    return mask.repeat_interleave(p, dim=0).repeat_interleave(p, dim=1)


def _pin_sinks(config: ModelConfig, k: Tensor, now: int) -> Tensor:
    """Move the sinks' keys ... t e to where a query at `now` sees them."""
    moved_by = torch.tensor([pinned_time(config, s, now) - s for s in range(config.sink_frames)])
    angles = time_angles(config, moved_by).repeat_interleave(config.tokens_per_frame, dim=0)
    angles = angles.to(k.device)
    return turn(k.float(), angles.cos(), angles.sin()).to(k.dtype)


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
        pinned = _pin_sinks(config, k[:, :, :sinks], f)
        for r in range(copies):
            here = slice((r * frames + f) * p, (r * frames + f + 1) * p)
            scores[:, :, here, :sinks] = q[:, :, here] @ pinned.mT * q.shape[-1] ** -0.5
    return scores
