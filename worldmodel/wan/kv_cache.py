"""What a latent frame sees: all of a clip at once, or in play the kept past.

Attention hands over turned queries and keys, and values; a context keeps them in a bank and gives
back what was attended to. A model with cameras has a second bank for each layer: bank l is layer
l's, bank layers + l its camera branch's, whose keys and values stand in the anchor's frame.

Letters of its own: a banks, s slots.
"""

import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.model.frame_ring import FrameRing, slot_name
from worldmodel.storage.tensor_bits import as_array
from worldmodel.wan.camera import move
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.rope import apply_rope, rope_cos_sin, time_cos_sin

Device = torch.device | str
Text = Sequence[tuple[Tensor, Tensor]]  # keys and values b n t e of the prompt, a pair per layer
Words = Text | Tensor  # those, or embeddings b t c, which every pass then reads for itself


class WanContext(Protocol):
    """Supplies the past and the prompt to attention."""

    @property
    def text(self) -> Words:
        """The prompt that the frames follow: keys and values of its tokens, or embeddings."""

    @property
    def rope_cos_sin(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines t e/2 of the positions of the tokens that are passed in."""

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys, values b n t e each -> what was attended to, b n t e."""


class WholeClipContext:
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
        self.rope_cos_sin = frame_cos_sin(config, window, torch.arange(frames), device)
        self._seen = _earlier_blocks(config, window, frames).to(device) if causal else None

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over the clip: b n t e each -> b n t e."""
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
        self.ring = FrameRing(window.sink_frames, window.window_frames, self.p)
        tokens = window.slots * self.p
        shape = (config.banks, batch, config.heads, tokens, config.head_width)
        self.k = torch.zeros(shape, dtype=dtype, device=device)  # a b n (s p) e
        self.v = torch.zeros_like(self.k)
        sink_tokens = window.sink_frames * self.p
        self.sink_k = self.k[..., :sink_tokens, :].clone()  # as they came, never moved
        self.sink_v = self.v[..., :sink_tokens, :].clone()
        self.moved = torch.eye(4, dtype=torch.float64)  # of all re-anchorings, together
        self.now = 0
        self.rope_cos_sin = self._rope_now()
        self.lent: dict[int, weakref.ref[KeptSlot]] = {}  # of slots, as `save` handed them out
        self._is_begun = False  # whether the current block's slots have been written to
        self.lock = threading.RLock()  # a state may be looked at while play goes on

    @property
    def bytes(self) -> int:
        """Memory of everything that is kept."""
        kept = (self.k, self.v, self.sink_k, self.sink_v)
        return sum(x.element_size() * x.nelement() for x in kept)

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep the current block in its slots, attend to everything kept: b n t e -> b n t e."""
        if not self._is_begun:
            self._take_back(self._open_slots())
            self._is_begun = True
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
        self._move_to(self.now + self.window.block_frames)

    def re_anchor(self, motion: Tensor) -> None:
        """Let the world begin at another camera, at `motion` (4 4) in the old one.

        Projections become P motion, so kept P⁻¹ k and P⁻¹ v become motion⁻¹ P⁻¹ k: no score and no
        output changes. Sinks are moved from how they came, so that rounding does not add up.
        """
        self._take_back(range(self.window.sink_frames, self.window.slots))
        inverse = torch.linalg.inv(motion.double())
        self.moved = inverse @ self.moved
        sinks = self.window.sink_frames * self.p
        for kept, as_they_came in ((self.k, self.sink_k), (self.v, self.sink_v)):
            seen = kept[self.config.layers :]  # the camera banks
            came = as_they_came[self.config.layers :]
            self._move_into(seen[..., :sinks, :], came, self.moved)
            self._move_into(seen[..., sinks:, :], seen[..., sinks:, :], inverse)

    def save(self) -> dict[str, "KeptSlot | Tensor"]:
        """What is kept, by name, between two blocks: `slot.3` 2 a b n p e for each slot, `moved`.

        A slot that two calls found unchanged is the very same object in both answers, so states of
        neighbouring blocks share what they can. The slots of the block to come hold nothing.
        """
        kept: dict[str, KeptSlot | Tensor] = {"moved": self.moved.clone()}
        for slot in self._kept_slots(self.now):
            lent = self.lent.get(slot)
            found = lent() if lent else None
            if found is None:
                found = KeptSlot(self, slot)
                self.lent[slot] = weakref.ref(found)
            kept[slot_name(slot)] = found
        return kept

    def reset(self) -> None:
        """Forget everything, in the same memory; what was saved stays as it is."""
        self._take_back(range(self.window.slots))
        self.moved = torch.eye(4, dtype=torch.float64)
        self._move_to(0)

    def saved_shapes(self, now: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before frame `now`."""
        a, b, n, _, e = self.k.shape
        shape = (2, a, b, n, self.p, e)
        return {**{slot_name(slot): shape for slot in self._kept_slots(now)}, "moved": (4, 4)}

    def copy_of(self, slot: int) -> Tensor:
        """Keys and values of a slot on the CPU, sinks as they came: 2 a b n p e."""
        here = self.ring.place(slot)
        is_sink = slot < self.window.sink_frames
        k, v = (self.sink_k, self.sink_v) if is_sink else (self.k, self.v)
        return torch.stack((k[..., here, :], v[..., here, :])).cpu()

    def _kept_slots(self, now: int) -> list[int]:
        """The slots that the block at `now` and later ones see."""
        opened = self._open_slots(now)
        return [slot for slot in range(min(now, self.window.slots)) if slot not in opened]

    def _open_slots(self, now: int | None = None) -> range:
        """The slots that the block at `now` (the current one) is written to."""
        first = self.ring.slot(self.now if now is None else now)
        return range(first, first + self.window.block_frames)

    def _take_back(self, slots: Iterable[int]) -> None:
        """Before slots are written to: who still holds what they kept gets a copy."""
        for slot in slots:
            lent = self.lent.pop(slot, None)
            if found := lent() if lent else None:
                found.tensor()

    def load(self, saved: Mapping[str, Tensor], now: int) -> None:
        """Go on from what `save` gave before frame `now`; shapes and dtypes are the caller's."""
        self._take_back(range(self.window.slots))
        self.moved = saved["moved"].clone()
        for slot in self._kept_slots(now):
            here = self.ring.place(slot)
            self.k[..., here, :], self.v[..., here, :] = saved[slot_name(slot)]
        sinks, layers = self.window.sink_frames * self.p, self.config.layers
        for kept, as_they_came in ((self.k, self.sink_k), (self.v, self.sink_v)):
            as_they_came.copy_(kept[..., :sinks, :])
            self._move_into(kept[layers:, ..., :sinks, :], as_they_came[layers:], self.moved)
        self._move_to(now)

    def _move_into(self, kept: Tensor, came: Tensor, motion: Tensor) -> None:
        """Keep what came as another camera sees it; bank by bank, for fp32 takes memory."""
        matrix = motion.float().to(self.device)
        for to, bank in zip(kept, came, strict=True):
            to.copy_(move(bank, matrix))

    def _keep_sinks(self) -> None:
        """Keep the block's keys and values as they came, its camera banks in the first anchor."""
        here, back = self._here(), torch.linalg.inv(self.moved)
        for kept, sinks in ((self.k, self.sink_k), (self.v, self.sink_v)):
            layers = self.config.layers
            sinks[:layers, ..., here, :] = kept[:layers, ..., here, :]
            self._move_into(sinks[layers:, ..., here, :], kept[layers:, ..., here, :], back)

    def _move_to(self, now: int) -> None:
        """The positions of the block that begins at `now`, and the sinks where it sees them."""
        self.now, self._is_begun = now, False
        self.rope_cos_sin = self._rope_now()
        self._pin_sinks()

    def _pin_sinks(self) -> None:
        """Move the sinks' keys to where the block that is now open sees them."""
        sinks, layers = self.window.sink_frames, self.config.layers
        late = self.now + self.window.block_frames - self.window.slots
        if not sinks or late <= 0:
            return
        cos, sin = time_cos_sin(self.config, torch.tensor([late]))
        cos, sin = cos.to(self.device), sin.to(self.device)
        for to, bank in zip(self.k[:layers, ..., : sinks * self.p, :], self.sink_k, strict=False):
            to.copy_(apply_rope(bank, cos, sin))  # one by one: in fp32 all together take gigabytes

    def _here(self) -> slice:
        """The tokens of the current block's slots."""
        return self.ring.place(self.ring.slot(self.now), self.window.block_frames)

    def _rope_now(self) -> tuple[Tensor, Tensor]:
        times = self.now + torch.arange(self.window.block_frames)
        return frame_cos_sin(self.config, self.window, times, self.device)


class KeptSlot:
    """What a slot kept when a state was taken: it is copied to the host when somebody looks at it
    or before it is overwritten, whichever comes first, and never if nobody holds it any more.
    """

    def __init__(self, cache: RollingCache, slot: int) -> None:
        self._cache, self._slot = cache, slot
        self._tensor: Tensor | None = None
        a, b, n, _, e = cache.k.shape
        self.nbytes = 2 * a * b * n * cache.p * e * cache.k.element_size()

    def tensor(self) -> Tensor:
        """Keys and values 2 a b n p e on the CPU, which nobody writes to; from any thread."""
        with self._cache.lock, torch.inference_mode():
            if self._tensor is None:
                self._tensor = self._cache.copy_of(self._slot)
            return self._tensor

    def array(self) -> NDArray[Any]:
        """The same as numbers that numpy knows: bfloat16 as the 16 bits that it is."""
        return as_array(self.tensor())


def frame_cos_sin(
    config: WanConfig, window: WindowConfig, times: Tensor, device: Device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines t e/2 of all tokens of the frames at `times` f."""
    rows, columns = window.rows // config.patch, window.columns // config.patch
    cos, sin = rope_cos_sin(config, times, rows, columns)
    return cos.to(device), sin.to(device)


def _earlier_blocks(config: WanConfig, window: WindowConfig, frames: int) -> Tensor:
    """Which tokens u a token t may look at: those of its own block and of earlier ones."""
    block = torch.arange(frames) // window.block_frames
    p = window.tokens(config)
    seen = (block[:, None] >= block).repeat_interleave(p, dim=0)
    return seen.repeat_interleave(p, dim=1)


def heads(x: Tensor, count: int) -> Tensor:
    """Split the channels of b t d into heads: b n t e."""
    return rearrange(x, "b t (n e) -> b n t e", n=count)
