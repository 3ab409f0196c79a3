"""How fast a world plays on this machine, and where the time goes.

A frame is what play does for it, one after the other: action tokens, every denoising step, decode,
convert and show (into a window without a screen), the clean pass. Latency runs from the moment
when the action is read to the end of the flip that shows its frame; an input event that comes at a
random moment waits half a frame time more on average, which `latency_ms` includes by drawing such
a moment for every frame. Efficiency is floating-point operations over this machine's own measured
matrix rate and the frame time. The last line is one JSON object.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode
from tqdm import trange

from worldmodel.action import Action
from worldmodel.players import RandomPlayer
from worldmodel.world import Frame
from worldmodel.worlds.find import find_world
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.settings import Settings, available_cores

WARM_UP = 40  # frames, past the point where the cache wraps
GROWTH = (100, 1_000, 10_000)
GROWTH_WINDOW = 50

Show = Callable[[Frame], object]


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of every frame: f each."""

    denoise: NDArray[np.float64]
    decode: NDArray[np.float64]
    present: NDArray[np.float64]
    clean: NDArray[np.float64]
    whole: NDArray[np.float64]


def bench(
    name: str | None, settings: Settings, frames: int, show: Show, *, growth: bool
) -> dict[str, Any]:
    """Play `frames` frames as fast as they come; returns what the JSON line holds."""
    world = NativeWorld.load(find_world(name), settings)
    world.reset(0, seed=0)
    player = RandomPlayer(world.actions, 0)
    _play(world, player, 1, WARM_UP, show)
    times = _play(world, player, 1 + WARM_UP, frames, show)
    # An event waits for the rest of the frame that is being made when it comes.
    wait = np.random.default_rng(0).random(frames) * times.whole
    latency = wait + times.denoise + times.decode + times.present
    flop = flop_per_frame(world)
    peak = _peak_gflops(world.transformer.dtype)
    seconds = float(np.median(times.whole)) / 1000
    result = {
        "world": world.name,
        "device": _device_name(world.device),
        "dtype": str(world.transformer.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "fps": round(1 / float(np.mean(times.whole)) * 1000, 1),
        "latency_ms": {f"p{q}": round(float(np.percentile(latency, q)), 1) for q in (50, 95, 99)},
        "split_ms": {
            part: round(float(np.median(getattr(times, part))), 2)
            for part in ("denoise", "clean", "decode", "present")
        },
        "gflop_per_frame": round(flop / 1e9, 3),
        "peak_gflops": round(peak, 1),
        "efficiency": round(flop / 1e9 / peak / seconds, 3),
        "rss_mb": round(_resident_mb(), 1),
        "steps": world.sampler.steps,
        "python": platform.python_version(),
    }
    if growth:
        result["growth"] = _growth(world, player, show)
    return result


def print_bench(result: dict[str, Any]) -> None:
    """A table for a person, then one line of JSON."""
    latency, split = result["latency_ms"], result["split_ms"]
    lines = [
        f"world            {result['world']}, {result['steps']} denoising steps",
        f"machine          {result['device']}, {result['threads']} threads, {result['dtype']}, "
        f"torch {result['torch']}",
        f"frame rate       {result['fps']:.1f} frames/s, uncapped",
        f"input to frame   p50 {latency['p50']} ms, p95 {latency['p95']} ms, "
        f"p99 {latency['p99']} ms",
        "split (median)   " + ", ".join(f"{part} {ms} ms" for part, ms in split.items()),
        f"work             {result['gflop_per_frame']} GFLOP a frame; matrix peak "
        f"{result['peak_gflops']} GFLOP/s; efficiency {100 * result['efficiency']:.1f} %",
        f"memory           {result['rss_mb']} MB resident",
    ]
    lines.extend(
        f"at frame {row['frame']:6}  {row['frame_ms']} ms a frame, {row['rss_mb']} MB resident"
        for row in result.get("growth", [])
    )
    print("\n".join(lines))  # noqa: T201  # this is the command's output
    print(json.dumps(result))  # noqa: T201


def _play(world: NativeWorld, player: RandomPlayer, first: int, frames: int, show: Show) -> Times:
    rows = []
    for index in trange(first, first + frames, desc="bench", leave=False):
        action: Action = player.act(index)
        began = time.perf_counter()
        frame = world.generate(action)
        made = time.perf_counter()
        show(frame)
        shown = time.perf_counter()
        world.remember()
        ended = time.perf_counter()
        split = world.split
        rows.append(
            (
                split.denoise,
                split.decode,
                1000 * (shown - made),
                1000 * (ended - shown),
                1000 * (ended - began),
            )
        )
    return Times(*np.asarray(rows).T)


def _growth(world: NativeWorld, player: RandomPlayer, show: Show) -> list[dict[str, float]]:
    """Frame time and memory around frames 100, 1 000 and 10 000 of one session."""
    world.reset(0, seed=0)
    rows, played = [], 0
    for target in GROWTH:
        _play(world, player, 1 + played, target - GROWTH_WINDOW - played, show)
        times = _play(world, player, 1 + target - GROWTH_WINDOW, GROWTH_WINDOW, show)
        played = target
        median = round(float(np.median(times.whole)), 2)
        rows.append({"frame": target, "frame_ms": median, "rss_mb": round(_resident_mb(), 1)})
    return rows


def flop_per_frame(world: NativeWorld) -> int:
    """Multiplications and additions of one frame's matrix products, attention, convolutions."""
    attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop}
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        world.generate(Action())
        world.remember()
    return int(counter.get_total_flops())


def _attention_flop(
    q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: object, **__: object
) -> int:
    """Of the products in attention, b n t e with b n u e, which torch does not count on CPUs."""
    b, n, t, e = q
    return 2 * b * n * t * k[2] * (e + v[3])


def _peak_gflops(dtype: torch.dtype, size: int = 1024) -> float:
    """The best rate of a square matrix product in the dtype of the model, here and now."""
    a = torch.randn(size, size).to(dtype)
    best = 0.0
    for _ in range(12):
        began = time.perf_counter()
        torch.mm(a, a)
        best = max(best, 2 * size**3 / (time.perf_counter() - began) / 1e9)
    return best


def _resident_mb() -> float:
    """Memory of this process now (Linux), its peak (macOS), not a number (Windows)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # not a file to keep
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        if sys.platform == "win32":
            return float("nan")
        import resource  # Windows has no such module

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor()}, {available_cores()} cores"
