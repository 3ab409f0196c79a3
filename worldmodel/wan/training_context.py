"""What frames see in training: a clip packed twice, or a rollout through which gradients go.

Both see exactly what play's `RollingCache` would show them: sinks, then the window. What is done
differently has its reason: nothing here is overwritten while autograd, or a pass that is computed
a second time, may still need it. No mask is used: for every block, attention gets the keys that it
may see and no others, so the work is that of play and any fast kernel serves.

Letter of its own: a banks.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.wan.kv_cache import Device, Words, frame_cos_sin
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.rope import apply_rope, time_cos_sin


def seen_past(
    config: WanConfig, window: WindowConfig, kept: tuple[Tensor, Tensor], now: int, *, timed: bool
) -> tuple[Tensor, Tensor]:
    """Of the keys and values b n (f p) e of all earlier frames, what the block at `now` sees.

    Sinks that the window has left behind are seen as if they stood directly before it; their keys
    are turned there unless they carry no time (a camera's, not `timed`).
    """
    k, v = kept
    p, sinks = window.tokens(config), window.sink_frames
    late = now + window.block_frames - window.slots
    if late <= 0:
        return k[:, :, : now * p], v[:, :, : now * p]
    first, ring = k[:, :, : sinks * p], slice((sinks + late) * p, now * p)
    if timed and sinks:
        cos, sin = time_cos_sin(config, torch.tensor([late]))
        first = apply_rope(first, cos.to(k.device), sin.to(k.device))
    values = torch.cat((v[:, :, : sinks * p], v[:, :, ring]), dim=2)
    return torch.cat((first, k[:, :, ring]), dim=2), values


class WanTeacherForcing:
    """A clip once clean and once noisy, one after the other: [clean | noisy].

    A clean block sees the clean past and itself, a noisy block the *clean* past and itself: what
    the sampler sees in play (teacher forcing, Causal Forcing, arXiv 2602.02214, §3).
    """

    def __init__(
        self,
        config: WanConfig,
        window: WindowConfig,
        frames: int,
        text: Words,
        device: Device = "cpu",
    ) -> None:
        self.config, self.window, self.frames, self.text = config, window, frames, text
        cos, sin = _clip_turns(config, window, frames, device)
        self.rope_cos_sin = cos.repeat(2, 1), sin.repeat(2, 1)

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Both halves, block by block; t = 2 f p."""
        p, n = self.window.tokens(self.config), self.window.block_frames
        q, k, half = q.to(v.dtype), k.to(v.dtype), self.frames * p
        clean = k[:, :, :half], v[:, :, :half]
        seen: tuple[list[Tensor], list[Tensor]] = [], []
        for now in range(0, self.frames, n):
            past = seen_past(self.config, self.window, clean, now, timed=bank < self.config.layers)
            for part, first in zip(seen, (now * p, half + now * p), strict=True):
                here = slice(first, first + n * p)
                part.append(_attend(q[:, :, here], past, (k[:, :, here], v[:, :, here])))
        return torch.cat((*seen[0], *seen[1]), dim=2)


class GrowingCache:
    """Keys and values of all frames of a rollout, kept without gradient.

    cache = GrowingCache(config, window, frames=21, text=embeddings)
    model(noisy, sigmas, cameras, cache.at(3))                # looks, and leaves nothing behind
    model(clean, zeros, cameras, cache.at(3, keeps=True))     # the clean pass: later blocks see it

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
    ) -> None:
        self.config, self.window, self.text, self.device = config, window, text, device
        tokens = frames * window.tokens(config)
        shape = (config.banks, batch, config.heads, tokens, config.head_width)
        self.k = torch.zeros(shape, dtype=dtype, device=device)  # a b n (f p) e
        self.v = torch.zeros_like(self.k)

    def at(self, now: int, *, keeps: bool = False) -> "BlockContext":
        """The context of one pass over the block that begins at frame `now`."""
        return BlockContext(self, now, keeps=keeps)


class BlockContext:
    """One pass over one block of a rollout."""

    def __init__(self, cache: GrowingCache, now: int, *, keeps: bool) -> None:
        self.cache, self.now, self.keeps, self.text = cache, now, keeps, cache.text
        times = now + torch.arange(cache.window.block_frames)
        self.rope_cos_sin = frame_cos_sin(cache.config, cache.window, times, cache.device)

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention to the kept past and to the block itself: b n t e each -> b n t e."""
        cache, dtype = self.cache, self.cache.k.dtype
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
        if self.keeps:
            p = cache.window.tokens(cache.config)
            here = slice(self.now * p, (self.now + cache.window.block_frames) * p)
            cache.k[bank, :, :, here], cache.v[bank, :, :, here] = k.detach(), v.detach()
        kept = cache.k[bank], cache.v[bank]
        timed = bank < cache.config.layers
        return _attend(
            q, seen_past(cache.config, cache.window, kept, self.now, timed=timed), (k, v)
        )


def _attend(q: Tensor, past: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> Tensor:
    """Queries b n t e to the past's keys and values, then to the block's own."""
    k, v = (torch.cat(pair, dim=2) for pair in zip(past, own, strict=True))
    return F.scaled_dot_product_attention(q, k, v)


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)  # kept, so it must also serve where gradients are taken
def _clip_turns(
    config: WanConfig, window: WindowConfig, frames: int, device: Device
) -> tuple[Tensor, Tensor]:
    return frame_cos_sin(config, window, torch.arange(frames), device)
