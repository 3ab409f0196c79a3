"""How fast the rows play, all of them in turns, so that a busy machine treats them alike.

Each row is made a world and played on the engine that is fastest for it here, frame by frame: what
a player waits for. Only the reference engine plays every kind of row, so all are timed on it as
well: there methods are compared, not engines. A row that draws chunks computes at a chunk's first
frame and shows the others from memory; what the player does meanwhile counts from the next chunk.
"""

import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from studies.distillation.rows import Contender
from studies.distillation.yardstick import digest, load_decoder
from worldmodel.config import UserError
from worldmodel.evaluation.speed import flop_per_frame
from worldmodel.players import RandomPlayer
from worldmodel.storage.episodes import load_episode
from worldmodel.system.progress import through
from worldmodel.training.runs import load_transformer
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.networks import Networks
from worldmodel.worlds.run_settings import EngineName, RunSettings
from worldmodel.worlds.starts import Start
from worldmodel.worlds.world_folder import TRANSFORMER, WorldFile

TURN = 24  # frames that a row plays before the next one's turn; whole chunks
REFERENCE: EngineName = "torch"


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Of one row; times are medians."""

    engine: str
    threads: int
    first_frame_ms: float  # from the action to the first frame that obeys it
    chunk_ms: float  # computing all that is drawn at once, clean pass and decoding included
    frames_per_second: float
    wait_ms: float  # in play at the world's rate, until a chunk's end lets an action count, mean
    gflop_per_frame: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Speeds:
    """Of several rows, measured in turns; by `speed_key`."""

    machine: str
    rows: dict[str, Speed]  # on the fastest engine for each
    reference: dict[str, Speed] = field(default_factory=dict)  # on the one that plays them all


def speed_key(contender: Contender) -> str:
    """Rows that compute the same are as fast."""
    return speed_key_of(contender.weights, contender.sampler.sigmas)


def speed_key_of(weights: str, sigmas: Sequence[float]) -> str:
    """The same, from what a row's figures say."""
    return digest([weights, *sigmas])


def measure_speeds(
    contenders: Sequence[Contender], folder: Path, world: WorldFile, frames: int
) -> Speeds:
    """Play about `frames` frames of every row."""
    engines: tuple[EngineName, ...] = ("auto", REFERENCE)
    clocks = {
        (engine, speed_key(one)): _Clock(_world_of(one, folder, world, engine))
        for one in through(contenders, desc="engines")
        for engine in engines
    }
    for _ in through(range(max(2, -(-frames // TURN))), desc="speed, turns"):
        for clock in clocks.values():
            clock.play(TURN)
    fastest, reference = (
        {key: clock.speed() for (name, key), clock in clocks.items() if name == engine}
        for engine in engines
    )
    return Speeds(
        machine=f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"torch {torch.__version__}",
        rows=fastest,
        reference=reference,
    )


def _world_of(
    contender: Contender, folder: Path, world: WorldFile, engine: EngineName
) -> NativeWorld:
    file = replace(
        world,
        name=f"row-{contender.name}",
        transformer=contender.model.config,
        sampler=contender.sampler,
        sha256={**world.sha256, TRANSFORMER: contender.weights},
    )
    model = load_transformer(contender.row.run, contender.model.config)
    name, caption = next(iter(world.starts.items()))
    clip = load_episode(folder / "starts" / name)
    decoder = load_decoder(folder, world)
    settings = RunSettings(device="cpu", engine=engine)
    return NativeWorld.of(file, Networks(model, decoder), [Start(caption, clip)], settings)


class _Clock:
    """A world and the times of its frames."""

    def __init__(self, world: NativeWorld) -> None:
        self.world, self.chunk = world, world.file.transformer.chunk_frames
        if TURN % self.chunk:
            raise UserError(f"chunk_frames = {self.chunk} does not divide {TURN}")
        self.player, self.index = RandomPlayer(world.actions, 0), 0
        self.first: list[float] = []
        self.whole: list[float] = []
        world.reset(0, seed=0)

    def play(self, frames: int) -> None:
        torch.set_num_threads(self.world.threads)  # one number for all of torch: each its own
        for _ in range(frames // self.chunk):
            began = time.perf_counter()
            for frame in range(self.chunk):
                self.index += 1
                self.world.generate(self.player.act(self.index))
                if frame == 0:
                    self.first.append(1000 * (time.perf_counter() - began))
                self.world.remember()
            self.whole.append(1000 * (time.perf_counter() - began))

    def speed(self) -> Speed:
        world, chunk_ms = self.world, statistics.median(self.whole)
        period = 1000 / world.file.frames_per_second
        return Speed(
            engine=f"{world.engine.name} in {world.engine.dtype}",
            threads=world.threads,
            first_frame_ms=statistics.median(self.first),
            chunk_ms=chunk_ms,
            frames_per_second=1000 * self.chunk / chunk_ms,
            wait_ms=(self.chunk - 1) / 2 * period,
            gflop_per_frame=flop_per_frame(world) / 1e9,
        )


def are_known(contenders: Sequence[Contender], speeds: Speeds | None) -> bool:
    """Whether all of them have been measured."""
    known = speeds.rows.keys() & speeds.reference.keys() if speeds else set()
    return all(speed_key(one) in known for one in contenders)
