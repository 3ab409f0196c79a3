"""What a latent frame sees: all of a clip at once, or in play the kept past.

Attention hands over rotated queries and keys, and values; a context keeps them in a bank and gives
back what was attended to. There are up to three kinds: frames attend to frames, and in models with
an action module to what keys and mouse did. A model with cameras has a second bank of frames for
each layer: bank l is layer l's, bank layers + l its camera branch's, whose keys and values stand in
the anchor's frame.

Letters of its own: a banks, s slots, r rows of actions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from worldmodel.wan.model_config import Kind, WanConfig, WindowConfig
from worldmodel.wan.rope import action_cos_sin, rope_cos_sin, time_cos_sin
from worldmodel.wan.stream_cache import Device, KeptSlot, StreamCache, TimeCosSin

Text = Sequence[tuple[Tensor, Tensor]]  # keys and values b n t e of what is read, one per layer
Words = Text | Tensor  # those, or embeddings b t c, which every pass then reads for itself
CosSin = tuple[Tensor, Tensor]  # cosines and sines


@dataclass(frozen=True, slots=True)
class FrameConditions:
    """What each latent frame of an image-to-video model is given beside its noise level."""

    picture: Tensor  # b f c h w: mask and latents of the picture, beside the noise
    keys: Tensor  # b f r k: for each frame, the rows of keys that it is given
    mouse: Tensor | None = None  # b f r m

    def repeat(self, times: int) -> "FrameConditions":
        """The same frames so many times, one after the other: b (times f)."""
        return self._each(lambda x: torch.cat([x] * times, dim=1))

    @property
    def still(self) -> "FrameConditions":
        """The same picture with keys and mouse that do nothing: zeros, as training has them."""
        return replace(self._each(torch.zeros_like), picture=self.picture)

    def at(self, frames: slice) -> "FrameConditions":
        """The conditions of some of the frames."""
        return self._each(lambda x: x[:, frames])

    def to(self, device: Device) -> "FrameConditions":
        """The same frames on a device."""
        return self._each(lambda x: x.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "FrameConditions":
        mouse = None if self.mouse is None else change(self.mouse)
        return FrameConditions(change(self.picture), change(self.keys), mouse)


def no_conditions(config: WanConfig, window: WindowConfig, frames: int) -> FrameConditions | None:
    """One session's frames without any: an empty picture, keys and mouse that do nothing."""
    if config.picture is None:
        return None
    picture = torch.zeros(1, frames, config.condition_channels, window.rows, window.columns)
    actions = config.actions
    rows, keys, mouse = (actions.rows, actions.keys, actions.mouse) if actions else (0, 0, 0)
    still = torch.zeros(1, frames, rows, mouse) if mouse else None
    return FrameConditions(picture, torch.zeros(1, frames, rows, keys), still)


class WanContext(Protocol):
    """Supplies the past, the prompt and the conditions to attention."""

    @property
    def text(self) -> Words:
        """What the frames follow, a prompt or a picture: keys and values, or embeddings."""

    @property
    def conditions(self) -> FrameConditions | None:
        """Those of the frames that are passed in, where the model takes any."""

    @property
    def rope_cos_sin(self) -> CosSin:
        """Cosines and sines t e/2 of the positions of the tokens that are passed in."""

    @property
    def action_cos_sin(self) -> CosSin | None:
        """Cosines and sines f e/2 of the times of the frames that are passed in."""

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor, kind: Kind = "frames") -> Tensor:
        """Queries b n t e, keys and values b n u e -> what was attended to, b n t e.

        Of the mouse, b counts every place of every session; of the keys, u counts frames.
        """


class WholeClipContext:
    """All frames of a clip at once: every frame sees every other, or chunks see earlier chunks."""

    def __init__(
        self,
        config: WanConfig,
        window: WindowConfig,
        frames: int,
        text: Words,
        *,
        causal: bool,
        device: Device = "cpu",
        conditions: FrameConditions | None = None,
    ) -> None:
        self.text, self.conditions = text, conditions
        self.rope_cos_sin = frame_cos_sin(config, window, torch.arange(frames), device)
        self.action_cos_sin = action_times_cos_sin(config, torch.arange(frames), device)
        self._seen = _earlier_chunks(window, frames).to(device) if causal else None

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor, kind: Kind = "frames") -> Tensor:
        """Attention over the clip: b n t e each -> b n t e."""
        del bank, kind
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask(q, k))

    def _mask(self, q: Tensor, k: Tensor) -> Tensor | None:
        """Which tokens u a token t may look at."""
        if self._seen is None:
            return None
        frames = len(self._seen)
        seen = self._seen.repeat_interleave(q.shape[2] // frames, dim=0)
        return seen.repeat_interleave(k.shape[2] // frames, dim=1)


class RollingCache:
    """Play's past: a ring of frames, and rings of what keys and mouse did, that move on together.

    Memory never grows (`FrameRing`).
    """

    def __init__(
        self,
        config: WanConfig,
        window: WindowConfig,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
    ) -> None:
        window.tokens(config)  # refuses what no memory holds
        self.config, self.window, self.device, self.dtype = config, window, device, dtype
        self.text: Text = ()
        self.conditions: FrameConditions | None = None  # of the current chunk
        self.rings: dict[Kind, StreamCache] = {
            kind: StreamCache(stream, window, ring_cos_sin(config, kind), batch, dtype, device)
            for kind, stream in window.streams(config).items()
        }
        self.frames = self.rings["frames"]
        self._find_positions()

    @property
    def now(self) -> int:
        """The latent frame at which the current chunk begins."""
        return self.frames.now

    @property
    def bytes(self) -> int:
        """Memory of everything that is kept."""
        return sum(ring.bytes for ring in self.rings.values())

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor, kind: Kind = "frames") -> Tensor:
        """Keep the current chunk, attend to all that it sees: b n t e each -> b n t e."""
        return self.rings[kind].attend(bank, q, k, v)

    def advance(self) -> None:
        """Keep the current chunk and open the slots of the next one."""
        for ring in self.rings.values():
            ring.advance()
        self._find_positions()

    def re_anchor(self, motion: Tensor) -> None:
        """Let the world begin at another camera (`StreamCache.re_anchor`)."""
        self.frames.re_anchor(motion)

    def reset(self) -> None:
        """Forget everything, in the same memory; what was saved stays as it is."""
        for ring in self.rings.values():
            ring.reset()
        self._find_positions()

    def save(self) -> dict[str, KeptSlot | Tensor]:
        """What is kept, by name, between two chunks: `slot.3`, `mouse.slot.3`, …, and `moved`."""
        kept: dict[str, KeptSlot | Tensor] = {"moved": self.frames.moved.clone()}
        for kind, ring in self.rings.items():
            kept |= {_of(kind, name): slot for name, slot in ring.save().items()}
        return kept

    def saved_shapes(self, now: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before frame `now`."""
        shapes: dict[str, tuple[int, ...]] = {"moved": (4, 4)}
        for kind, ring in self.rings.items():
            shapes |= {_of(kind, name): shape for name, shape in ring.saved_shapes(now).items()}
        return shapes

    def load(self, saved: Mapping[str, Tensor], now: int) -> None:
        """Go on from what `save` gave before frame `now`; shapes and dtypes are the caller's."""
        for kind, ring in self.rings.items():
            slots = {name: saved[_of(kind, name)] for name in ring.saved_shapes(now)}
            moved = saved["moved"] if kind == "frames" else torch.eye(4, dtype=torch.float64)
            ring.load(slots, moved, now)
        self._find_positions()

    def _find_positions(self) -> None:
        """The positions of the current chunk."""
        times = self.now + torch.arange(self.window.chunk_frames)
        self.rope_cos_sin = frame_cos_sin(self.config, self.window, times, self.device)
        self.action_cos_sin = action_times_cos_sin(self.config, times, self.device)


def _of(kind: Kind, name: str) -> str:
    return name if kind == "frames" else f"{kind}.{name}"


def ring_cos_sin(config: WanConfig, kind: Kind) -> TimeCosSin:
    """What rotates keys of a kind with time: times f -> cosines and sines f e/2."""
    if kind == "frames":
        return partial(time_cos_sin, config)
    assert config.actions is not None
    return partial(action_cos_sin, config.actions)


def frame_cos_sin(config: WanConfig, window: WindowConfig, times: Tensor, device: Device) -> CosSin:
    """Cosines and sines t e/2 of all tokens of the frames at `times` f."""
    rows, columns = window.rows // config.patch, window.columns // config.patch
    cos, sin = rope_cos_sin(config, times, rows, columns)
    return cos.to(device), sin.to(device)


def action_times_cos_sin(config: WanConfig, times: Tensor, device: Device) -> CosSin | None:
    """Cosines and sines f e/2 of times for attention to keys and mouse, where there is any."""
    if config.actions is None:
        return None
    cos, sin = action_cos_sin(config.actions, times)
    return cos.to(device), sin.to(device)


def _earlier_chunks(window: WindowConfig, frames: int) -> Tensor:
    """Which frames a frame may look at: those of its own chunk and of earlier ones."""
    chunk = torch.arange(frames) // window.chunk_frames
    return chunk[:, None] >= chunk


def heads(x: Tensor, count: int) -> Tensor:
    """Split the channels of b t d into heads: b n t e."""
    return rearrange(x, "b t (n e) -> b n t e", n=count)
