"""Keys and values of the sinks and of the last frames of one kind of attention, in fixed slots.

Each pass over a chunk overwrites its slots, so the last pass before `advance` (the clean one) is
what later chunks see. Slots fill from the front, sinks first, then a ring of whole chunks. Where a
window ends within a chunk, the frames of that chunk that are too old lie in the ring unseen.

Keys are rotated to the time of their frame. Times are reduced to one turn in fp64, so scores depend
on differences of time alone, however late it is. Sinks that the window has left behind are seen as
if they stood directly before it: no query meets an age that training has not shown.

Letters of its own: a banks, s slots. A batch b counts every place of every session.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.model.frame_ring import FrameRing, slot_name
from worldmodel.storage.tensor_bits import as_array
from worldmodel.wan.camera import move
from worldmodel.wan.model_config import Stream, WindowConfig
from worldmodel.wan.rope import apply_rope

Device = torch.device | str
TimeCosSin = Callable[[Tensor], tuple[Tensor, Tensor]]  # times f -> cosines, sines f e/2


class StreamCache:
    """What one kind of attention keeps; banks after the timed ones see through cameras."""

    def __init__(
        self,
        stream: Stream,
        window: WindowConfig,
        cos_sin: TimeCosSin,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
    ) -> None:
        self.stream, self.window, self.device = stream, window, device
        self.p, self._cos_sin = stream.tokens, cos_sin
        self.slots = window.kept_frames(stream.window)
        sinks = window.sink_frames
        self.ring = FrameRing(sinks, self.slots - sinks, self.p)
        rows = batch * stream.places
        shape = (stream.banks, rows, stream.heads, self.slots * self.p, stream.head_width)
        self.k = torch.zeros(shape, dtype=dtype, device=device)  # a b n (s p) e
        self.v = torch.zeros_like(self.k)
        sink_tokens = sinks * self.p
        self.sink_k = self.k[..., :sink_tokens, :].clone()  # as they came, never moved
        self.sink_v = self.v[..., :sink_tokens, :].clone()
        self.moved = torch.eye(4, dtype=torch.float64)  # of all re-anchorings, together
        self.now = 0
        self.lent: dict[int, weakref.ref[KeptSlot]] = {}  # of slots, as `save` handed them out
        self._is_begun = False  # whether the current chunk's slots have been written to
        self.lock = threading.RLock()  # a state may be looked at while play goes on

    @property
    def bytes(self) -> int:
        """Memory of everything that is kept."""
        kept = (self.k, self.v, self.sink_k, self.sink_v)
        return sum(x.element_size() * x.nelement() for x in kept)

    def attend(self, bank: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep the current chunk in its slots, attend to what it sees: b n t e -> b n t e."""
        if not self._is_begun:
            self._take_back(self._open_slots())
            self._is_begun = True
        here = self._here()
        self.k[bank, :, :, here] = k
        self.v[bank, :, :, here] = v
        return F.scaled_dot_product_attention(q, self._seen(self.k[bank]), self._seen(self.v[bank]))

    def advance(self) -> None:
        """Keep the current chunk and open the slots of the next one."""
        if self.now < self.window.sink_frames:
            self._keep_sinks()
        self._move_to(self.now + self.window.chunk_frames)

    def re_anchor(self, motion: Tensor) -> None:
        """Let the world begin at another camera, at `motion` (4 4) in the old one.

        Projections become P motion, so kept P⁻¹ k and P⁻¹ v become motion⁻¹ P⁻¹ k: no score and no
        output changes. Sinks are moved from how they came, so that rounding does not add up.
        """
        self._take_back(range(self.window.sink_frames, self.slots))
        inverse = torch.linalg.inv(motion.double())
        self.moved = inverse @ self.moved
        sinks = self.window.sink_frames * self.p
        for kept, as_they_came in ((self.k, self.sink_k), (self.v, self.sink_v)):
            seen = kept[self.stream.timed :]  # the camera banks
            came = as_they_came[self.stream.timed :]
            self._move_into(seen[..., :sinks, :], came, self.moved)
            self._move_into(seen[..., sinks:, :], seen[..., sinks:, :], inverse)

    def save(self) -> "dict[str, KeptSlot]":
        """What is kept, by name, between two chunks: `slot.3` 2 a b n p e for each slot.

        A slot that two calls found unchanged is the very same object in both answers, so states of
        neighbouring chunks share what they can. Slots that no later chunk sees hold nothing.
        """
        kept: dict[str, KeptSlot] = {}
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
        self._take_back(range(self.slots))
        self.moved = torch.eye(4, dtype=torch.float64)
        self._move_to(0)

    def saved_shapes(self, now: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before frame `now`."""
        a, b, n, _, e = self.k.shape
        return {slot_name(slot): (2, a, b, n, self.p, e) for slot in self._kept_slots(now)}

    def load(self, saved: Mapping[str, Tensor], moved: Tensor, now: int) -> None:
        """Go on from what `save` gave before frame `now`; shapes and dtypes are the caller's."""
        self._take_back(range(self.slots))
        self.moved = moved.clone()
        for slot in self._kept_slots(now):
            here = self.ring.place(slot)
            self.k[..., here, :], self.v[..., here, :] = saved[slot_name(slot)]
        sinks, timed = self.window.sink_frames * self.p, self.stream.timed
        for kept, as_they_came in ((self.k, self.sink_k), (self.v, self.sink_v)):
            as_they_came.copy_(kept[..., :sinks, :])
            self._move_into(kept[timed:, ..., :sinks, :], as_they_came[timed:], self.moved)
        self._move_to(now)

    def copy_of(self, slot: int) -> Tensor:
        """Keys and values of a slot on the CPU, sinks as they came: 2 a b n p e."""
        here = self.ring.place(slot)
        is_sink = slot < self.window.sink_frames
        k, v = (self.sink_k, self.sink_v) if is_sink else (self.k, self.v)
        return torch.stack((k[..., here, :], v[..., here, :])).cpu()

    def _seen(self, kept: Tensor) -> Tensor:
        """What the current chunk sees of b n (s p) e; a view, unless it lies in pieces."""
        runs = self._seen_runs()
        if len(runs) == 1:
            return kept[:, :, runs[0]]
        return torch.cat([kept[:, :, run] for run in runs], dim=2)

    def _seen_runs(self) -> list[slice]:
        """The tokens of the seen slots, neighbours together."""
        runs: list[list[int]] = []
        for slot in sorted(self._seen_slots(self.now)):
            if runs and runs[-1][1] == slot:
                runs[-1][1] = slot + 1
            else:
                runs.append([slot, slot + 1])
        return [slice(first * self.p, end * self.p) for first, end in runs]

    def _seen_slots(self, now: int) -> set[int]:
        """Sinks and the window, as the chunk at `now` sees them, its own frames included."""
        end, sinks = now + self.window.chunk_frames, self.window.sink_frames
        recent = range(max(sinks, end - self.stream.window), end)
        return {*range(min(sinks, end)), *map(self.ring.slot, recent)}

    def _kept_slots(self, now: int) -> list[int]:
        """The slots that were written to and that the chunk at `now` sees."""
        opened = self._open_slots(now)
        return [slot for slot in sorted(self._seen_slots(now)) if slot not in opened]

    def _open_slots(self, now: int | None = None) -> range:
        """The slots that the chunk at `now` (the current one) is written to."""
        first = self.ring.slot(self.now if now is None else now)
        return range(first, first + self.window.chunk_frames)

    def _here(self) -> slice:
        """The tokens of the slots of the current chunk."""
        return self.ring.place(self.ring.slot(self.now), self.window.chunk_frames)

    def _take_back(self, slots: Iterable[int]) -> None:
        """Before slots are written to: who still holds what they kept gets a copy."""
        for slot in slots:
            lent = self.lent.pop(slot, None)
            if found := lent() if lent else None:
                found.tensor()

    def _move_into(self, kept: Tensor, came: Tensor, motion: Tensor) -> None:
        """Keep what came as another camera sees it; bank by bank, for fp32 takes memory."""
        matrix = motion.float().to(self.device)
        for to, bank in zip(kept, came, strict=True):
            to.copy_(move(bank, matrix))

    def _keep_sinks(self) -> None:
        """Keep the chunk's keys and values as they came, its camera banks in the first anchor."""
        here, back = self._here(), torch.linalg.inv(self.moved)
        for kept, sinks in ((self.k, self.sink_k), (self.v, self.sink_v)):
            timed = self.stream.timed
            sinks[:timed, ..., here, :] = kept[:timed, ..., here, :]
            self._move_into(sinks[timed:, ..., here, :], kept[timed:, ..., here, :], back)

    def _move_to(self, now: int) -> None:
        """The chunk that begins at `now` is open, and the sinks are where it sees them."""
        self.now, self._is_begun = now, False
        self._pin_sinks()

    def _pin_sinks(self) -> None:
        """Move the sinks' keys to where the chunk that is now open sees them."""
        sinks, timed = self.window.sink_frames, self.stream.timed
        late = self.now + self.window.chunk_frames - sinks - self.stream.window
        if not sinks or late <= 0:
            return
        cos, sin = self._cos_sin(torch.tensor([late]))
        cos, sin = cos.to(self.device), sin.to(self.device)
        for to, bank in zip(self.k[:timed, ..., : sinks * self.p, :], self.sink_k, strict=False):
            to.copy_(apply_rope(bank, cos, sin))  # one by one: in fp32 all together take gigabytes


class KeptSlot:
    """What a slot kept when a state was taken: it is copied to the host when somebody looks at it
    or before it is overwritten, whichever comes first, and never if nobody holds it any more.
    """

    def __init__(self, stream: StreamCache, slot: int) -> None:
        self._cache, self._slot = stream, slot
        self._tensor: Tensor | None = None
        a, b, n, _, e = stream.k.shape
        self.nbytes = 2 * a * b * n * stream.p * e * stream.k.element_size()

    def tensor(self) -> Tensor:
        """Keys and values 2 a b n p e on the CPU, which nobody writes to; from any thread."""
        with self._cache.lock, torch.inference_mode():
            if self._tensor is None:
                self._tensor = self._cache.copy_of(self._slot)
            return self._tensor

    def array(self) -> NDArray[Any]:
        """The same as numbers that numpy knows: bfloat16 as the 16 bits that it is."""
        return as_array(self.tensor())
