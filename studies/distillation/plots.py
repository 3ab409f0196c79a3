"""The plots of the page: quality against horizon, against cost, along long play."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.distillation.compare import Results
from studies.distillation.figures import mean_of
from studies.distillation.play_speed import speed_key_of
from studies.distillation.training_costs import cost_of
from worldmodel.config import UserError
from worldmodel.evaluation.drift import WINDOW
from worldmodel.evaluation.quality import HORIZONS

DPI = 110
PALETTE, COLOURS = "tab20", 20  # each second one is the pale one of a pair
MIDDLE = "16"  # the horizon that quality is plotted at against cost
assert int(MIDDLE) in HORIZONS


def save_plots(results: Results) -> list[Path]:
    """Three PNGs in the folder of the figures; returns their paths."""
    try:
        import matplotlib
    except ImportError as error:
        raise UserError("plots need matplotlib: pip install 'worldmodel[train]'") from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    paths = []
    for name, size, draw in (
        ("horizon", (1, 2), _draw_horizon),
        ("cost", (1, 3), _draw_cost),
        ("drift", (2, 2), _draw_drift),
    ):
        figure, axes = pyplot.subplots(
            *size, figsize=(4.6 * size[1], 3.6 * size[0] + 1.2), layout="constrained"
        )
        draw(results, axes)
        named: dict[str, Any] = {}
        for axis in axes.flat:
            axis.grid(alpha=0.3)
            lines, labels = axis.get_legend_handles_labels()
            named |= dict(zip(labels, lines, strict=True))
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, fontsize=7)
        path = results.comparison.out / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
        pyplot.close(figure)
        paths.append(path)
    return paths


def _style(results: Results, name: str) -> dict[str, Any]:
    """The same colour for a row in every plot, strong ones first; chunk-wise rows are dashed."""
    number = list(results.comparison.rows).index(name)
    half = COLOURS // 2
    shade = 2 * (number % half) + (number >= half)
    dashed = results.rows[name].chunk_frames > 1
    from matplotlib import colormaps  # as the caller did

    return {
        "color": colormaps[PALETTE](shade),
        "linestyle": "--" if dashed else "-" if number < half else ":",
        "label": results.comparison.rows[name].title,
    }


def _logarithmic(axis: Any, ticks: Sequence[float]) -> None:
    """A logarithmic axis to the right, with plain numbers at these places."""
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axis.set_xticks([], minor=True)


def _draw_horizon(results: Results, axes: Any) -> None:
    for name, one in results.rows.items():
        axes[0].plot(range(1, len(one.curve) + 1), one.curve, lw=1.2, **_style(results, name))
        means = [mean_of(one.ssim[str(h)]).value for h in HORIZONS]
        axes[1].plot(HORIZONS, means, marker=".", lw=1.2, **_style(results, name))
    axes[0].set(xlabel="frame of the rollout", ylabel="PSNR, dB")
    axes[1].set(xlabel="frame of the rollout", ylabel="SSIM")
    for axis in axes:
        _logarithmic(axis, HORIZONS)


def _draw_cost(results: Results, axes: Any) -> None:
    speeds = results.speeds.rows if results.speeds else {}
    for name, one in results.rows.items():
        style = _style(results, name) | {"linestyle": "", "capsize": 2}
        style["marker"] = "s" if one.chunk_frames > 1 else "o"
        speed = speeds.get(speed_key_of(one.weights, one.sampler.sigmas))
        row = results.comparison.rows[name]
        trained = cost_of((*row.stage2, *row.stage3), results.comparison.out)
        values = one.psnr[MIDDLE]
        quality = mean_of(values)
        if speed:
            error = one.frechet.error
            axes[0].errorbar(speed.gflop_per_frame, one.frechet.value, error, **style)
            axes[1].errorbar(speed.first_frame_ms, one.frechet.value, error, **style)
        if trained:
            axes[2].errorbar(trained.petaflops, quality.value, quality.error, **style)
    axes[0].set(xlabel="GFLOP a frame", ylabel="Fréchet distance")
    axes[1].set(xlabel="first-frame latency, ms", ylabel="Fréchet distance")
    _logarithmic(axes[0], (0.5, 1, 2, 4, 8))
    _logarithmic(axes[1], (5, 10, 20, 50, 100, 200))
    axes[2].set(xlabel="stages 2 and 3, PFLOP", ylabel=f"PSNR at frame {MIDDLE}, dB")
    axes[2].set_xlim(left=0)


def _draw_drift(results: Results, axes: Any) -> None:
    for column, play in enumerate(("random", "idle")):
        for name, one in results.rows.items():
            if not (drift := one.drift.get(play)):
                continue
            frames = [(number + 0.5) * WINDOW for number in range(len(drift.windows))]
            detail = [window.detail[0] / window.detail[1] for window in drift.windows]
            apart = [window.frechet[0] for window in drift.windows]
            style = _style(results, name) | {"marker": ".", "lw": 1.2}
            axes[0, column].plot(frames, detail, **style)
            axes[1, column].plot(frames, apart, **style)
        longest = max(
            (one.drift[play] for one in results.rows.values() if play in one.drift),
            key=lambda drift: drift.frames,
            default=None,
        )
        if longest:
            frames = [(number + 0.5) * WINDOW for number in range(len(longest.windows))]
            real = [window.frechet[1] for window in longest.windows]
            axes[1, column].plot(frames, real, color="black", lw=2, label="the real game")
        axes[0, column].set(title=f"{play} play", ylabel="detail, share of the game's")
        axes[1, column].set(xlabel="frame", ylabel="Fréchet distance", yscale="log")
