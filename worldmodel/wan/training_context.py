"""What frames see in training: a clip packed twice, or a rollout through which gradients go.

Both see exactly what play's `RollingCache` would show them: sinks, then the window. What is done
differently has its reason: nothing here is overwritten while autograd, or a pass that is computed
a second time, may still need it. No mask is used: for every chunk, attention gets the keys that it
may see and no others, so the work is that of play and any fast kernel serves.

Letter of its own: a banks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.wan.kv_cache import (
    FrameConditions,
    Words,
    action_times_cos_sin,
    frame_cos_sin,
    ring_cos_sin,
)
from worldmodel.wan.model_config import Kind, Stream, WanConfig, WindowConfig
from worldmodel.wan.rope import apply_rope
from worldmodel.wan.stream_cache import Device


class _Streams:
    """How much each kind of attention sees, and how its keys turn with time."""

    def __init__(self, config: WanConfig, window: WindowConfig) -> None:
        self.window, self.streams = window, window.streams(config)
        self._cos_sin = {kind: ring_cos_sin(config, kind) for kind in self.streams}

    def past(
        self, kind: Kind, bank: int, kept: tuple[Tensor, Tensor], now: int
    ) -> tuple[Tensor, Tensor]:
        """What the chunk at `now` sees of the keys and values b n (f p) e of all earlier frames.

        Sinks that the window has left behind are seen as if they stood directly before it; their
        keys are rotated there unless they carry no time (a camera's).
        """
        (k, v), stream, sinks = kept, self.streams[kind], self.window.sink_frames
        p, late = stream.tokens, now + self.window.chunk_frames - sinks - stream.window
        if late <= 0:
            return k[:, :, : now * p], v[:, :, : now * p]
        first, ring = k[:, :, : sinks * p], slice((sinks + late) * p, now * p)
        if bank < stream.timed and sinks:
            cos, sin = self._cos_sin[kind](torch.tensor([late]))
            first = apply_rope(first, cos.to(k.device), sin.to(k.device))
        values = torch.cat((v[:, :, : sinks * p], v[:, :, ring]), dim=2)
        return torch.cat((first, k[:, :, ring]), dim=2), values


class WanTeacherForcing:
    """A clip once clean and once noisy, one after the other: [clean | noisy].

    A clean chunk sees the clean past and itself, a noisy chunk the *clean* past and itself: what
    the sampler sees in play (teacher forcing, Causal Forcing, arXiv 2602.02214, §3). That holds for
    what keys and mouse did, too.
    """

    def __init__(
        self,
        config: WanConfig,
        window: WindowConfig,
        frames: int,
        text: Words,
        device: Device = "cpu",
        conditions: FrameConditions | None = None,
    ) -> None:
        self.window, self.frames, self.text = window, frames, text
        self.conditions = conditions.repeat(2) if conditions else None
        self._streams = _Streams(config, window)
        cos, sin = frame_cos_sin(config, window, torch.arange(frames), device)
        self.rope_cos_sin = cos.repeat(2, 1), sin.repeat(2, 1)
        times = torch.arange(frames).repeat(2)
        self.action_cos_sin = action_times_cos_sin(config, times, device)

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor, kind: Kind = "frames") -> Tensor:
        """Both halves, chunk by chunk; t = 2 f p."""
        n, frames = self.window.chunk_frames, self.frames
        q, k = q.to(v.dtype), k.to(v.dtype)
        asking, asked = q.shape[2] // (2 * frames), k.shape[2] // (2 * frames)  # tokens of a frame
        clean = k[:, :, : frames * asked], v[:, :, : frames * asked]
        seen: tuple[list[Tensor], list[Tensor]] = [], []
        for now in range(0, frames, n):
            past = self._streams.past(kind, bank, clean, now)
            for part, first in zip(seen, (now, frames + now), strict=True):
                own = slice(first * asked, (first + n) * asked)
                here = q[:, :, first * asking : (first + n) * asking]
                part.append(_attend(here, past, (k[:, :, own], v[:, :, own])))
        return torch.cat((*seen[0], *seen[1]), dim=2)


class GrowingCache:
    """Keys and values of all frames of a rollout, kept without gradient.

    cache = GrowingCache(config, window, frames=21, text=embeddings)
    model(noisy, sigmas, cameras, cache.at(3))                # looks, and leaves nothing behind
    model(clean, zeros, cameras, cache.at(3, keeps=True))     # the clean pass: later chunks see it

    No slot is written twice, so a pass that is computed again for its gradient finds the past as it
    was. Play, which runs for hours, overwrites what it has left behind.
    """

    def __init__(
        self,
        config: WanConfig,
        window: WindowConfig,
        frames: int,
        text: Words,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
        conditions: FrameConditions | None = None,
    ) -> None:
        self.config, self.window, self.text, self.device = config, window, text, device
        self.conditions = conditions
        self.streams = _Streams(config, window)
        self.kept = {
            kind: _room(stream, batch, frames, dtype, device)
            for kind, stream in self.streams.streams.items()
        }

    def at(self, now: int, *, keeps: bool = False) -> "ChunkContext":
        """The context of one pass over the chunk that begins at frame `now`."""
        return ChunkContext(self, now, keeps=keeps)


def _room(
    stream: Stream, batch: int, frames: int, dtype: torch.dtype, device: Device
) -> tuple[Tensor, Tensor]:
    """Keys and values a b n (f p) e, still without their numbers."""
    tokens = frames * stream.tokens
    shape = (stream.banks, batch * stream.places, stream.heads, tokens, stream.head_width)
    keys = torch.zeros(shape, dtype=dtype, device=device)
    return keys, torch.zeros_like(keys)


class ChunkContext:
    """One pass over one chunk of a rollout."""

    def __init__(self, cache: GrowingCache, now: int, *, keeps: bool) -> None:
        self.cache, self.now, self.keeps, self.text = cache, now, keeps, cache.text
        n = cache.window.chunk_frames
        times = now + torch.arange(n)
        self.rope_cos_sin = frame_cos_sin(cache.config, cache.window, times, cache.device)
        self.action_cos_sin = action_times_cos_sin(cache.config, times, cache.device)
        whole = cache.conditions
        self.conditions = whole.at(slice(now, now + n)) if whole else None

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor, kind: Kind = "frames") -> Tensor:
        """Attention to the kept past and to the chunk itself: b n t e each -> b n t e."""
        cache, (keys, values) = self.cache, self.cache.kept[kind]
        q, k, v = (x.to(keys.dtype) for x in (q, k, v))
        if self.keeps:
            p = cache.streams.streams[kind].tokens
            here = slice(self.now * p, (self.now + cache.window.chunk_frames) * p)
            keys[bank, :, :, here], values[bank, :, :, here] = k.detach(), v.detach()
        past = cache.streams.past(kind, bank, (keys[bank], values[bank]), self.now)
        return _attend(q, past, (k, v))


def _attend(q: Tensor, past: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> Tensor:
    """Queries b n t e to the past's keys and values, then to the chunk's own."""
    k, v = (torch.cat(pair, dim=2) for pair in zip(past, own, strict=True))
    return F.scaled_dot_product_attention(q, k, v)
