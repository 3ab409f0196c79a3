"""How fast a world plays on this machine, and where the time goes.

A frame is what play does for it, one after the other: action tokens, every denoising step, decode,
convert (scale it to the window and draw over it) and present (flip), then the clean pass. Latency
runs from the moment when an input event comes to the end of the flip that shows its frame: an event
comes at a random moment and waits until the frame that is being made is done, which `wait` is the
median of. Efficiency is floating-point operations over frame time and a matrix rate that was
measured here: the machine's best, and that at the model's own shapes. The last line is one JSON
object.
"""

import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.action import Action
from worldmodel.config import ConfigError
from worldmodel.engine.graphs import example_views
from worldmodel.engine.torch_engine import TorchEngine
from worldmodel.evaluation.machine_peak import measure_machine
from worldmodel.evaluation.random_world import PREFIX, SIZES, parse_size, random_world
from worldmodel.model.counting import ON_CPUS
from worldmodel.players import RandomPlayer
from worldmodel.rollout import Rollout
from worldmodel.system.memory import resident_mb
from worldmodel.system.other_programs import Others
from worldmodel.system.printable import counted
from worldmodel.system.progress import Progress, through
from worldmodel.world import Frame
from worldmodel.worlds.find import find_world
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.native_batch import NativeBatch
from worldmodel.worlds.run_settings import RunSettings, available_cores

WARM_UP = 40  # frames, past the point where the cache wraps
GROWTH_WINDOW = 50  # frames that each row of a soak is the median of
BLOCK = 20  # frames that each of two settings plays before the other one's turn
PARTS = ("denoise", "clean", "decode", "convert", "present", "wait")


class Screen(Protocol):
    """Shows frames, and says how long that took."""

    def show(self, frame: Frame) -> object:
        """Convert a frame and present it on the screen."""

    @property
    def convert_ms(self) -> float:
        """Milliseconds that converting the last frame took."""

    @property
    def present_ms(self) -> float:
        """Milliseconds that presenting the last frame took."""


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of every frame: f each."""

    denoise: NDArray[np.float64]
    decode: NDArray[np.float64]
    convert: NDArray[np.float64]
    present: NDArray[np.float64]
    clean: NDArray[np.float64]
    whole: NDArray[np.float64]

    @property
    def wait(self) -> NDArray[np.float64]:
        """How long an event at a random moment of each frame waits for the next one to begin."""
        return np.random.default_rng(0).random(len(self.whole)) * self.whole

    @property
    def latency(self) -> NDArray[np.float64]:
        """From the event to the end of the flip."""
        return self.wait + self.denoise + self.decode + self.convert + self.present


def bench(
    name: str | None, settings: RunSettings, frames: int, screen: Screen, soak: Sequence[int] = ()
) -> dict[str, Any]:
    """`bench_world` of a world by name: none for the default one, or `random:…`."""
    with _saying("loading the world"):
        world = open_to_measure(name, settings)
    return bench_world(world, frames, screen, soak)


def bench_world(
    world: NativeWorld, frames: int, screen: Screen, soak: Sequence[int] = ()
) -> dict[str, Any]:
    """Play `frames` frames as fast as they come; returns what the JSON line holds.

    `soak`: frame numbers of one long session at which frame time and memory are looked at.
    """
    world.reset(0, seed=0)
    player = RandomPlayer(world.actions, 0)
    _play(world, player, 1, WARM_UP, screen)
    others = Others()
    times = _play_watched(world, player, 1 + WARM_UP, frames, screen)
    other_cores = others.cores()
    together = 1 if world.engine.name == "torch" else 2  # frames in a pass: see engine.graphs
    with _saying("counting the work, measuring the machine"):
        flop = flop_per_frame(world)
        machine = measure_machine(world.file.transformer, world.device, together)
    dtype, seconds = world.engine.dtype, float(np.median(times.whole)) / 1000
    computing = float(np.median(times.denoise + times.decode + times.clean)) / 1000
    result = {
        "world": world.name,
        "device": _device_name(world.device),
        "engine": f"{world.engine.name} {world.engine.version}",
        "dtype": dtype,
        "threads": world.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "fps": round(1000 / float(np.mean(times.whole)), 1),
        "latency_ms": _percentiles(times.latency),
        "frame_ms": _percentiles(times.whole),
        "split_ms": {part: round(float(np.median(getattr(times, part))), 2) for part in PARTS},
        "gflop_per_frame": round(flop / 1e9, 3),
        "peak_gflops": machine.square[dtype],
        "efficiency": round(flop / 1e9 / machine.square[dtype] / seconds, 3),
        "efficiency_at_model_shapes": round(
            flop / 1e9 / machine.model_shapes[dtype] / computing, 3
        ),
        "machine": asdict(machine),
        "other_cores": other_cores,
        "rss_mb": round(resident_mb(), 1),
        "steps": world.sampler.steps,
        "parameters": sum(p.numel() for p in world.transformer.parameters()),
        "tokens": world.file.transformer.tokens_per_frame,
        "context_frames": world.file.transformer.context_frames,
        "frame_size": list(world.frame_size),
    }
    if world.device.type == "cuda":
        result["gpu_mb"] = round(torch.cuda.max_memory_allocated(world.device) / 1e6, 1)
    if soak:
        result["soak"] = _soak(world, player, screen, soak)
    return result


def open_to_measure(name: str | None, settings: RunSettings) -> NativeWorld:
    """A world that is here, or one of random weights (`random:38m`)."""
    if name and name.startswith(PREFIX):
        size = name.removeprefix(PREFIX)
        label = f"random-{size}" if size in SIZES else "random"
        return random_world(parse_size(size), settings, label)
    return NativeWorld.load(find_world(name), settings)


def compare(
    name: str | None, settings: RunSettings, pair: tuple[str, str], frames: int, screen: Screen
) -> dict[str, Any]:
    """Two settings in turns of a few frames, so that a noisy machine treats both alike.

    A setting is `key=value,key=value` with the keys of `RunSettings`. The ratio is the median over
    turns of B's frame time over A's: above 1, A is faster.
    """
    worlds = [open_to_measure(name, apply_settings(settings, text)) for text in pair]
    players = [RandomPlayer(world.actions, 0) for world in worlds]
    for world, player in zip(worlds, players, strict=True):
        world.reset(0, seed=0)
        _play(world, player, 1, WARM_UP, screen)
    rows: list[list[float]] = []
    others = Others()
    for turn in through(range(max(3, frames // BLOCK)), desc="turns"):
        row = []
        for world, player in zip(worlds, players, strict=True):
            torch.set_num_threads(world.threads)  # one number for all of torch: each its own
            times = _play(world, player, 1 + WARM_UP + turn * BLOCK, BLOCK, screen)
            row.append(float(np.median(times.whole)))
        rows.append(row)
    ratios = sorted(b / a for a, b in rows)
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    return {
        "world": worlds[0].name,
        "a": {"settings": pair[0], "on": worlds[0].running_on, "frame_ms": round(medians[0], 2)},
        "b": {"settings": pair[1], "on": worlds[1].running_on, "frame_ms": round(medians[1], 2)},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(ratios[0], 3), round(ratios[-1], 3)],
        "turns": len(rows),
        "other_cores": others.cores(),
    }


def apply_settings(settings: RunSettings, text: str) -> RunSettings:
    """Settings with what `text` says, for instance `engine=torch,dtype=float32`."""
    changed: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        default = asdict(settings).get(key, ...)
        if default is ... or key == "start" or not value:
            keys = ", ".join(k for k in asdict(settings) if k != "start")
            raise ConfigError(f"{part!r}: expected key=value with one of {keys}")
        if isinstance(default, int) and not value.isdecimal():
            raise ConfigError(f"{part!r}: expected a whole number")
        changed[key] = int(value) if isinstance(default, int) else value
    return replace(settings, **changed)


def throughput(
    name: str | None, settings: RunSettings, sessions: Sequence[int], frames: int
) -> dict[str, Any]:
    """Several players in one process, as one batch: what all of them get together."""
    world = open_to_measure(name, settings)
    rows, others = [], Others()
    for count in through(sessions, desc="sessions"):
        batch = NativeBatch(world, count)
        batch.begin([0] * count, range(count))
        players = [RandomPlayer(world.actions, seed) for seed in range(count)]
        times = []
        for index in range(1, 1 + WARM_UP + frames):
            began = time.perf_counter()
            batch.step([player.act(index) for player in players])
            times.append(1000 * (time.perf_counter() - began))
        median = statistics.median(times[WARM_UP:])
        rows.append(
            {
                "sessions": count,
                "frame_ms": round(median, 2),
                "fps_each": round(1000 / median, 1),
                "fps_together": round(1000 * count / median, 1),
            }
        )
    return {
        "world": world.name,
        "on": world.running_on,
        "sessions": rows,
        "other_cores": others.cores(),
    }


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """A line at the terminal while something takes seconds."""
    with Progress(desc=what, bar_format="{desc} …"):
        yield


def _percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95, 99)}


def _play(
    world: NativeWorld, player: RandomPlayer, first: int, frames: int, screen: Screen
) -> Times:
    rows = []
    for index in range(first, first + frames):
        action: Action = player.act(index)
        began = time.perf_counter()
        frame = world.generate(action)
        screen.show(frame)
        world.remember()
        ended = time.perf_counter()
        split = world.split
        rows.append(
            (
                split.denoise,
                split.decode,
                screen.convert_ms,
                screen.present_ms,
                split.clean,
                1000 * (ended - began),
            )
        )
    return Times(*np.asarray(rows).T)


def _play_watched(
    world: NativeWorld, player: RandomPlayer, first: int, frames: int, screen: Screen
) -> Times:
    """The same with a bar, which moves between frames and costs none of them anything."""
    parts = []
    with Progress(total=frames, desc="playing", unit="frame") as progress:
        for done in range(0, frames, BLOCK):
            count = min(BLOCK, frames - done)
            parts.append(_play(world, player, first + done, count, screen))
            progress.update(count)
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Times)]
    return Times(*map(np.concatenate, columns))


def _soak(
    world: NativeWorld, player: RandomPlayer, screen: Screen, targets: Sequence[int]
) -> list[dict[str, float]]:
    """Frame time and memory around some frames of one session."""
    world.reset(0, seed=0)
    rows, played = [], 0
    with Progress(total=max(targets), desc="soak", unit="frame") as progress:
        for target in sorted(set(targets)):
            while played < target - GROWTH_WINDOW:
                count = min(100, target - GROWTH_WINDOW - played)
                _play(world, player, 1 + played, count, screen)
                played += count
                progress.update(count)
            times = _play(world, player, 1 + played, target - played, screen)
            progress.update(target - played)
            played = target
            median = round(float(np.median(times.whole)), 2)
            rows.append({"frame": target, "frame_ms": median, "rss_mb": round(resident_mb(), 1)})
    return rows


def flop_per_frame(world: NativeWorld) -> int:
    """Multiplications and additions of one frame's matrix products, attention, convolutions.

    Counted on torch, whatever engine plays, with a full cache.
    """
    config = world.file.transformer
    reference = TorchEngine(
        world.transformer, world.autoencoder, world.sampler, "float32", world.device
    )
    playing, chunk = Rollout(reference.model, world.sampler, [0]), config.chunk_frames
    playing.prime(*world.first_past)
    actions = torch.zeros(1, chunk, config.condition_width, device=world.device)
    for _ in range(config.context_frames + config.sink_frames):
        playing.step(actions)
    with FlopCounterMode(display=False, custom_mapping=ON_CPUS) as counter:
        frames = playing.step(actions)
        drawn = int(counter.get_total_flops())
        view = world.file.autoencoder.view
        sight = reference.look(example_views(view, 1)) if view else None
        reference.decode(frames[:, :1], sight)
    return int(counter.get_total_flops() - drawn + drawn / chunk)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor()}, {counted(available_cores(), 'core')}"
