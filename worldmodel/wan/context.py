"""What a latent frame sees: all of a clip at once, or in play the kept past.

Attention hands over turned queries and keys, and values; a context keeps them in a bank and gives
back what was attended to. A model with cameras has a second bank for each layer: bank l is layer
l's, bank layers + l its camera branch's, whose keys and values stand in the anchor's frame.

Letters: a banks, b batch, n heads, t u tokens, e head width, f frames, p tokens a frame, s slots.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from worldmodel.wan.camera import move
from worldmodel.wan.config import WanConfig, WindowConfig
from worldmodel.wan.rope import time_turns, turn, turns

Device = torch.device | str
Text = Sequence[tuple[Tensor, Tensor]]  # keys and values b n t e of the prompt, a pair per layer
Words = Text | Tensor  # those, or embeddings b t c, which every pass then reads for itself


class Context(Protocol):
    """Supplies the past and the prompt to attention."""

    @property
    def text(self) -> Words:
        """The prompt."""

    @property
    def turns(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines t e/2 of the positions of the tokens that are passed in."""

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys, values b n t e each -> what was attended to, b n t e."""


class Clip:
    """All frames of a clip at once: every frame sees every other, or blocks see earlier blocks."""

    def __init__(
        self,
        config: WanConfig,
        window: WindowConfig,
        frames: int,
        text: Words,
        *,
        causal: bool,
        device: Device = "cpu",
    ) -> None:
        self.text = text
        self.turns = frame_turns(config, window, torch.arange(frames), device)
        self._seen = _earlier_blocks(config, window, frames).to(device) if causal else None

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over the clip."""
        del bank
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self._seen)


class RollingCache:
    """Keys and values of the sinks and of the last frames, in preallocated slots.

    Each pass over a block overwrites its slots, so the last pass before `advance` (the clean one)
    is what later blocks see. Slots fill from the front, sinks first, then a ring: what is valid is
    always a prefix, so attention needs no mask and memory never grows.

    Keys are turned to the time of their frame. Times are reduced to one turn in fp64, so scores
    depend on differences of time alone, however late it is. Sinks that the window has left behind
    are seen as if they stood directly before it: no query meets an age that training has not shown.
    """

    def __init__(
        self,
        config: WanConfig,
        window: WindowConfig,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
    ) -> None:
        self.config, self.window, self.device = config, window, device
        self.text: Text = ()
        self.p = window.tokens(config)
        tokens = window.slots * self.p
        shape = (config.banks, batch, config.heads, tokens, config.head_width)
        self.k = torch.zeros(shape, dtype=dtype, device=device)  # a b n (s p) e
        self.v = torch.zeros_like(self.k)
        sink_tokens = window.sink_frames * self.p
        self.sink_k = self.k[..., :sink_tokens, :].clone()  # as they came, never moved
        self.sink_v = self.v[..., :sink_tokens, :].clone()
        self.moved = torch.eye(4, dtype=torch.float64)  # of all re-anchorings, together
        self.now = 0
        self.turns = self._turns_now()
        self._copies: dict[str, Tensor] = {}  # of slots, as `save` handed them out
        self._written: set[int] = set()  # slots kept since then

    @property
    def bytes(self) -> int:
        """Memory of everything that is kept."""
        kept = (self.k, self.v, self.sink_k, self.sink_v)
        return sum(x.element_size() * x.nelement() for x in kept)

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep the current block in its slots and attend to everything kept."""
        here = self._here()
        self.k[bank, :, :, here] = k
        self.v[bank, :, :, here] = v
        valid = min(self.now + self.window.block_frames, self.window.slots) * self.p
        return F.scaled_dot_product_attention(
            q, self.k[bank, :, :, :valid], self.v[bank, :, :, :valid]
        )

    def advance(self) -> None:
        """Keep the current block and open the slots of the next one."""
        if self.now < self.window.sink_frames:
            self._keep_sinks()
        first = self._here().start // self.p
        self._written.update(range(first, first + self.window.block_frames))
        self._move_to(self.now + self.window.block_frames)

    def re_anchor(self, motion: Tensor) -> None:
        """Let the world begin at another camera, at `motion` (4 4) in the old one.

        Projections become P motion, so kept P⁻¹ k and P⁻¹ v become motion⁻¹ P⁻¹ k: no score and no
        output changes. Sinks are moved from how they came, so that rounding does not add up.
        """
        inverse = torch.linalg.inv(motion.double())
        self.moved = inverse @ self.moved
        sinks = self.window.sink_frames * self.p
        for kept, as_they_came in ((self.k, self.sink_k), (self.v, self.sink_v)):
            seen = kept[self.config.layers :]  # the camera banks
            seen[..., :sinks, :] = self._moved(as_they_came[self.config.layers :], self.moved)
            seen[..., sinks:, :] = self._moved(seen[..., sinks:, :], inverse)
        if self.config.cameras:
            self._written.update(range(self.window.sink_frames, min(self.now, self.window.slots)))

    def save(self) -> dict[str, Tensor]:
        """What is kept, by name, between two blocks: `slot.3` 2 a b n p e for each slot, `moved`.

        Copies on the CPU that nobody writes to again. A slot that two calls found unchanged is the
        very same tensor in both answers, so states of neighbouring blocks share what they can.
        """
        for slot in self._written:
            here = slice(slot * self.p, (slot + 1) * self.p)
            is_sink = slot < self.window.sink_frames
            k, v = (self.sink_k, self.sink_v) if is_sink else (self.k, self.v)
            self._copies[_slot_name(slot)] = torch.stack((k[..., here, :], v[..., here, :])).cpu()
        self._written.clear()
        return {**self._copies, "moved": self.moved.clone()}

    def saved_shapes(self, now: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before frame `now`."""
        a, b, n, _, e = self.k.shape
        slots = range(min(now, self.window.slots))
        return {**{_slot_name(slot): (2, a, b, n, self.p, e) for slot in slots}, "moved": (4, 4)}

    def load(self, saved: Mapping[str, Tensor], now: int) -> None:
        """Go on from what `save` gave before frame `now`; shapes and dtypes are the caller's."""
        self._copies = {name: pair for name, pair in saved.items() if name != "moved"}
        self.moved, self._written = saved["moved"].clone(), set()
        for slot in range(min(now, self.window.slots)):
            here = slice(slot * self.p, (slot + 1) * self.p)
            self.k[..., here, :], self.v[..., here, :] = saved[_slot_name(slot)]
        sinks, layers = self.window.sink_frames * self.p, self.config.layers
        for kept, as_they_came in ((self.k, self.sink_k), (self.v, self.sink_v)):
            as_they_came.copy_(kept[..., :sinks, :])
            kept[layers:, ..., :sinks, :] = self._moved(as_they_came[layers:], self.moved)
        self._move_to(now)

    def _moved(self, kept: Tensor, motion: Tensor) -> Tensor:
        return move(kept, motion.float().to(self.device))

    def _keep_sinks(self) -> None:
        """Keep the block's keys and values as they came, its camera banks in the first anchor."""
        here, back = self._here(), torch.linalg.inv(self.moved)
        for kept, sinks in ((self.k, self.sink_k), (self.v, self.sink_v)):
            layers = self.config.layers
            sinks[:layers, ..., here, :] = kept[:layers, ..., here, :]
            sinks[layers:, ..., here, :] = self._moved(kept[layers:, ..., here, :], back)

    def _move_to(self, now: int) -> None:
        """The positions of the block that begins at `now`, and the sinks where it sees them."""
        self.now = now
        self.turns = self._turns_now()
        self._pin_sinks()

    def _pin_sinks(self) -> None:
        """Move the sinks' keys to where the block that is now open sees them."""
        sinks, layers = self.window.sink_frames, self.config.layers
        late = self.now + self.window.block_frames - self.window.slots
        if not sinks or late <= 0:
            return
        cos, sin = time_turns(self.config, torch.tensor([late]))
        moved = turn(self.sink_k[:layers], cos.to(self.device), sin.to(self.device))
        self.k[:layers, ..., : sinks * self.p, :] = moved

    def _here(self) -> slice:
        """The tokens of the current block's slots."""
        sinks, ring = self.window.sink_frames, self.window.window_frames
        slot = self.now if self.now < sinks else sinks + (self.now - sinks) % ring
        return slice(slot * self.p, (slot + self.window.block_frames) * self.p)

    def _turns_now(self) -> tuple[Tensor, Tensor]:
        times = self.now + torch.arange(self.window.block_frames)
        return frame_turns(self.config, self.window, times, self.device)


def frame_turns(
    config: WanConfig, window: WindowConfig, times: Tensor, device: Device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines t e/2 of all tokens of the frames at `times` f."""
    rows, columns = window.rows // config.patch, window.columns // config.patch
    cos, sin = turns(config, times, rows, columns)
    return cos.to(device), sin.to(device)


def _earlier_blocks(config: WanConfig, window: WindowConfig, frames: int) -> Tensor:
    """Which tokens u a token t may look at: those of its own block and of earlier ones."""
    block = torch.arange(frames) // window.block_frames
    p = window.tokens(config)
    seen = (block[:, None] >= block).repeat_interleave(p, dim=0)
    return seen.repeat_interleave(p, dim=1)


def _slot_name(slot: int) -> str:
    return f"slot.{slot}"


def heads(x: Tensor, count: int) -> Tensor:
    """Split the channels of b t d into heads: b n t e."""
    return rearrange(x, "b t (n e) -> b n t e", n=count)
