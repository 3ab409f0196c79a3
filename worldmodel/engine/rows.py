"""Sessions as rows of one batch: each with its own time, joining and leaving at any frame.

    rows = BatchedEngine(engine, engine.rows(8))   # an `Engine` whose sessions are rows
    playing = rows.begin([3])                      # prime, denoise, save and load as ever
    playing.ready(condition)                       # or, instead of `denoise`, many at once:
    rows.run([playing, other])
    latents = playing.take()

All rows lie in one block of memory, the batch first. Those who play are moved to the front (a copy
of a row, and only when somebody came or went) and computed by programs of 8, 4, 2 and 1 rows, so
that no row is computed for nobody. Where a session alone takes fewer cores than there are, programs
run side by side, each on as many. What a row computes does not depend on its neighbours: its frames
are those of the session played alone. On a CPU that holds bit for bit: one row is computed by the
very program of a session alone, and a size whose rows come out otherwise is left out.
"""

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from torch import Tensor, nn

from worldmodel.engine import Engine, Playing
from worldmodel.engine.graphs import (
    FrameGraph,
    FrameInputs,
    FrameOutputs,
    empty_inputs,
    example_inputs,
)
from worldmodel.engine.static_rollout import StaticRollout
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.floor_plan import Sight
from worldmodel.world import Frame

FEWEST = 4  # rows that are worth a program of their own: two of 2 cost a third more than one of 4
DRAWS = 8  # of latents that are decoded in trial: bytes of frames hide some of what differs


class RowGraph(nn.Module):
    """`FrameGraph` with the batch first in every tensor, so that its first rows lie together."""

    def __init__(self, frame: FrameGraph) -> None:
        super().__init__()
        self.frame = frame

    def forward(self, *rows: Tensor) -> FrameOutputs:
        """`FrameInputs` with the batch first, one by one -> `FrameOutputs` with the batch first."""
        return _turn_outputs(self.frame(*_turn_inputs(FrameInputs(*rows))))


@dataclass(frozen=True, slots=True)
class RowDecoder:
    """A decoder of some rows, with tensors that no other one uses."""

    latents: Tensor  # b 1 c h w, which a run reads
    frames: Tensor  # b h w 3, uint8 on the CPU, which it writes
    run: Callable[[], None]


@runtime_checkable
class RowEngine(Protocol):
    """An engine that can compute rows."""

    @property
    def lanes(self) -> int:
        """Programs that it runs as fast side by side as alone."""

    def rows(self, count: int) -> "RowPool":
        """Room for so many sessions, and the programs to play them."""

    def row_run(self, inputs: FrameInputs, outputs: FrameOutputs) -> Callable[[], None]:
        """A run over all rows of tensors that have the batch first; one row as if alone."""

    def row_decoder(self, count: int) -> RowDecoder | None:
        """For the frames of so many rows at once; None where that saves nothing."""


class Row:
    """One row as a `Program` of its own; it may be moved between two runs."""

    def __init__(self, pool: "RowPool", place: int) -> None:
        self.pool = pool
        self.stand(place)

    def stand(self, place: int) -> None:
        """Here its tensors are from now on."""
        self.place = place
        one = slice(place, place + 1)
        self.inputs, self.outputs = alone(
            FrameInputs(*(x[one] for x in self.pool.inputs)),
            FrameOutputs(*(x[one] for x in self.pool.outputs)),
        )

    def run(self) -> None:
        """Compute the next frame of this row alone."""
        self.pool.run([self])


class RowPool:
    """The memory of all rows, and programs over the first 1, 2, 4 … of them."""

    def __init__(
        self,
        engine: RowEngine,
        config: ModelConfig,
        sampler: SamplerConfig,
        cached: torch.dtype,
        device: torch.device | str,
        rows: int,
    ) -> None:
        """Programs of every size are made here, which takes a while."""
        self.engine, self.config, self.sampler = engine, config, sampler
        self.inputs = empty_rows(config, sampler, rows, cached, device)
        self.outputs = empty_outputs(self.inputs, config)
        self._lanes = ThreadPoolExecutor(engine.lanes, "lane") if engine.lanes > 1 else None
        # By first row and size; no two that run side by side share memory.
        self._run_of = cache(self._new_run)
        self._decoder_of = cache(lambda _, size: engine.row_decoder(size))
        sizes = [size for size in sizes_of(rows) if size <= most_of(rows, engine.lanes)]
        self.sizes = [size for size in sizes if self._is_exact(size)]
        self.decoded = [size for size in sizes if self._decodes_exactly(size)]  # empty: none is
        self._rows = [Row(self, place) for place in range(rows)]  # by place
        self._free = list(self._rows)

    def begin(self, seed: int) -> StaticRollout:
        """A session on a row that nobody uses; it gives its row back when it is no longer used."""
        if not self._free:
            raise ValueError(f"all {len(self._rows)} rows are in use")
        row = self._free.pop()
        rollout = StaticRollout(row, self.config, self.sampler, [seed])
        weakref.finalize(rollout, self._free.append, row)
        return rollout

    def run(self, rows: "Sequence[Row]") -> None:
        """Compute some rows; what the others hold stays."""
        for place, row in enumerate(sorted(rows, key=lambda row: row.place)):
            if row.place != place:
                self._swap(row.place, place)
        self._side_by_side([self._run_of(*part) for part in self._parts(len(rows), self.sizes)])

    def decode(self, latents: Sequence[Tensor]) -> list[Frame]:
        """The frames h w 3 of sessions' latents 1 1 c h w, if there are `decoded` sizes."""
        used = []
        for first, size in self._parts(len(latents), self.decoded):
            decoder = self._decoder_of(first, size)
            assert decoder is not None, "a size that is decoded has a decoder"
            for target, latent in zip(decoder.latents, latents[first:], strict=False):
                target.copy_(latent[0])
            used.append(decoder)
        self._side_by_side([decoder.run for decoder in used])
        return [frame.numpy().copy() for decoder in used for frame in decoder.frames]

    def _parts(self, count: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """First row and size of the programs for so many rows."""
        most, parts, done = most_of(count, self.engine.lanes), [], 0
        for size in sizes:
            while size <= most and count - done >= size:
                parts.append((done, size))
                done += size
        return parts

    def _side_by_side(self, runs: Sequence[Callable[[], None]]) -> None:
        if self._lanes is None or len(runs) == 1:
            for run in runs:
                run()
        else:
            for task in [self._lanes.submit(run) for run in runs]:
                task.result()

    def _new_run(self, first: int, size: int) -> Callable[[], None]:
        """The program of so many rows from one on."""
        here = slice(first, first + size)
        return self.engine.row_run(
            FrameInputs(*(x[here] for x in self.inputs)),
            FrameOutputs(*(x[here] for x in self.outputs)),
        )

    @torch.inference_mode()
    def _is_exact(self, size: int) -> bool:
        """Whether so many rows at once come out as one by one, bit for bit; asked of CPUs only.

        Which kernels a library takes, and so in which order it adds, may depend on the size alone.
        """
        together = self._run_of(0, size)
        if size == 1 or self.inputs.k.device.type != "cpu":
            return True
        for kept, example in zip(self.inputs, example_inputs(self.inputs), strict=True):
            kept.copy_(example)
        together()
        found = [x[:size].clone() for x in self.outputs]
        for place in range(size):
            self._run_of(place, 1)()
        is_exact = all(torch.equal(x[:size], y) for x, y in zip(self.outputs, found, strict=True))
        for kept in self.inputs:
            kept.zero_()
        return is_exact

    @torch.no_grad()
    def _decodes_exactly(self, size: int) -> bool:
        """Whether so many frames at once come out as one by one, as `_is_exact` asks of rows."""
        decoder, one = self._decoder_of(0, size), self._decoder_of(0, 1)
        if decoder is None or one is None:
            return False
        if size == 1 or self.inputs.k.device.type != "cpu":
            return True
        generator = torch.Generator().manual_seed(0)
        for _ in range(DRAWS):
            drawn = torch.randn(decoder.latents.shape, generator=generator)
            decoder.latents.copy_(drawn)
            decoder.run()
            for latent, frame in zip(drawn, decoder.frames, strict=True):
                one.latents.copy_(latent[None])
                one.run()
                if not torch.equal(one.frames[0], frame):
                    return False
        return True

    @torch.inference_mode()
    def _swap(self, one: int, other: int) -> None:
        """Two rows change places."""
        for x in self.inputs:
            x[[one, other]] = x[[other, one]]
        first, second = self._rows[one], self._rows[other]
        self._rows[one], self._rows[other] = second, first
        first.stand(other)
        second.stand(one)


class BatchedEngine:
    """An engine that plays its sessions on the rows of a pool."""

    def __init__(self, engine: Engine, pool: RowPool) -> None:
        self.engine, self.pool = engine, pool
        self.name, self.threads = engine.name, engine.threads
        self.dtype, self.version = engine.dtype, engine.version
        self.look, self.decode = engine.look, engine.decode
        self.encode_view = engine.encode_view
        self.broken_weight = engine.broken_weight

    def begin(self, seeds: Sequence[int]) -> StaticRollout:
        """A rollout on a row of its own."""
        (seed,) = seeds
        return self.pool.begin(seed)

    def run(self, playing: Sequence[Playing]) -> None:
        """One run for sessions of this engine that are `ready`."""
        self.pool.run([_row_of(rollout) for rollout in playing])

    def decode_all(self, latents: Sequence[Tensor], sights: Sequence[Sight | None]) -> list[Frame]:
        """The frame h w 3 of each session's latents 1 1 c h w and of what it sees."""
        if self.pool.decoded and not any(sights):
            return self.pool.decode(latents)
        return [self.decode(x, sight)[0] for x, sight in zip(latents, sights, strict=True)]


def _row_of(playing: Playing) -> Row:
    if isinstance(playing, StaticRollout) and isinstance(playing.program, Row):
        return playing.program
    raise ValueError("this session is no row of a batch")


def most_of(rows: int, lanes: int) -> int:
    """How many of some rows one program computes, where several run side by side."""
    return max(FEWEST, -(-rows // lanes))


def sizes_of(rows: int) -> list[int]:
    """Powers of two up to a number of rows, the largest first."""
    return [2**n for n in reversed(range(rows.bit_length()))]


def empty_rows(
    config: ModelConfig,
    sampler: SamplerConfig,
    rows: int,
    cached: torch.dtype,
    device: torch.device | str = "cpu",
) -> FrameInputs:
    """Zeros in the shapes of `RowGraph`."""
    flat = empty_inputs(config, sampler, rows, cached, device)
    each = {name: getattr(flat, name).expand(rows, -1, -1) for name in ("mask", "cos", "sin")}
    each = {name: x if name == "mask" else x[:, None] for name, x in each.items()}
    return FrameInputs(*(x.contiguous() for x in _turn_inputs(flat._replace(**each))))


def empty_outputs(inputs: FrameInputs, config: ModelConfig) -> FrameOutputs:
    """Zeros in the shapes of what a run with these inputs computes."""
    one = inputs.k[..., : config.tokens_per_frame, :]
    kept = (torch.zeros_like(one, memory_format=torch.contiguous_format) for _ in "kv")
    return FrameOutputs(inputs.before.clone(), *kept)


def alone(inputs: FrameInputs, outputs: FrameOutputs) -> tuple[FrameInputs, FrameOutputs]:
    """The tensors of one row, batch first, as those of a session that is played alone."""
    turned = _turn_inputs(inputs)
    # A cache of one session knows one time: no batch in masks and angles.
    one = turned._replace(mask=turned.mask[0], cos=turned.cos[0, 0], sin=turned.sin[0, 0])
    return one, _turn_outputs(outputs)


def _turn_inputs(inputs: FrameInputs) -> FrameInputs:
    """Batch first, or back."""
    turned = {name: _turned(getattr(inputs, name)) for name in ("noise", "k", "v")}
    return inputs._replace(**turned)


def _turn_outputs(outputs: FrameOutputs) -> FrameOutputs:
    return FrameOutputs(outputs.latent, _turned(outputs.k), _turned(outputs.v))


def _turned(x: Tensor) -> Tensor:
    return rearrange(x, "i b ... -> b i ...")
