"""What a frame costs as a world grows: one part at a time, everything else as in `random:16m`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from worldmodel.config import UserError
from worldmodel.evaluation.random_world import SIZES, Size, random_world
from worldmodel.evaluation.speed import Screen, bench, bench_world
from worldmodel.system.printable import tell
from worldmodel.system.progress import through
from worldmodel.worlds.run_settings import RunSettings

BASE = SIZES["16m"]
GROWTH: dict[str, list[Size]] = {
    "context frames": [replace(BASE, context=n) for n in (4, 8, 16, 32, 64)],
    "tokens a frame": [
        replace(BASE, rows=r, columns=c) for r, c in ((3, 4), (6, 8), (8, 10), (12, 16))
    ],
    "million parameters": [replace(BASE, width=w) for w in (192, 256, 384, 512, 768)],
    "denoising steps": [replace(BASE, steps=n) for n in (1, 2, 4, 8)],
}


def measure_sizes(
    sizes: Sequence[str | None], settings: RunSettings, frames: int, screen: Screen
) -> list[dict[str, Any]]:
    """`bench` of several worlds, one after the other."""
    return [bench(name, settings, frames, screen) for name in through(sizes, desc="worlds")]


def measure_growth(settings: RunSettings, frames: int, screen: Screen) -> dict[str, list[Any]]:
    """For each thing that can grow: rows of [how much of it, result of `bench`]."""
    rows: dict[str, list[Any]] = {}
    for what, sizes in GROWTH.items():
        rows[what] = []
        for size in through(sizes, desc=what):
            result = bench_world(random_world(size, settings), frames, screen)
            amount = {
                "context frames": size.context,
                "tokens a frame": result["tokens"],
                "million parameters": round(result["parameters"] / 1e6, 1),
                "denoising steps": size.steps,
            }[what]
            rows[what].append([amount, result])
    return rows


def plot_growth(rows: dict[str, list[Any]], path: Path) -> None:
    """Milliseconds a frame, whole and by part, against each amount."""
    try:
        import matplotlib
    except ImportError as error:
        raise UserError("plots need matplotlib: pip install 'worldmodel[train]'") from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(rows), figsize=(3.2 * len(rows), 3), layout="constrained")
    for axis, (what, points) in zip(axes, rows.items(), strict=True):
        amounts = [amount for amount, _ in points]
        for part in ("denoise", "decode"):
            axis.plot(amounts, [r["split_ms"][part] for _, r in points], "o--", label=part, lw=1)
        whole = [r["frame_ms"]["p50"] for _, r in points]
        axis.plot(amounts, whole, "o-", label="whole frame", color="black")
        axis.set(xlabel=what, ylim=(0, None), xlim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("ms a frame")
    axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def print_sizes(results: Sequence[dict[str, Any]]) -> None:
    """Print a row of the table for each world."""
    header = (
        "parameters  tokens   pixels     frames/s  latency p50/p95   GFLOP   efficiency  memory"
    )
    tell(f"{'world':<12}{header}")
    for r in results:
        height, width = r["frame_size"]
        memory = f"{r.get('gpu_mb', r['rss_mb']):.0f} MB"
        latency = f"{r['latency_ms']['p50']:.1f}/{r['latency_ms']['p95']:.1f} ms"
        tell(
            f"{r['world']:<14}{r['parameters'] / 1e6:8.1f} M {r['tokens']:7} "
            f"{width:5}x{height:<5} {r['fps']:8.1f}  {latency:>15}  {r['gflop_per_frame']:8.2f} "
            f"{100 * r['efficiency']:8.1f} %  {memory:>9}"
        )
