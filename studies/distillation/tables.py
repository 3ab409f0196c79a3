"""The tables of the page, as Markdown. A number that was not measured is a dash."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from studies.distillation.compare import Results
from studies.distillation.figures import (
    DriftFigures,
    Estimate,
    Figures,
    difference,
    mean_of,
    ratio_of,
)
from studies.distillation.play_speed import speed_key_of
from studies.distillation.training_costs import cost_of
from studies.distillation.unseen import UnseenFigures
from studies.markdown import markdown_table
from worldmodel.evaluation.drift import WINDOW
from worldmodel.evaluation.quality import HORIZONS

NONE = "–"
Cells = list[str]


def shown(estimate: Estimate, digits: int = 2) -> str:
    """A figure with half its 95 % interval."""
    return f"{estimate.value:.{digits}f} ± {estimate.error:.{digits}f}"


def psnr_table(results: Results) -> list[str]:
    """dB at growing horizons."""
    head = ["", "denoising steps", "next frame", *map(str, HORIZONS)]
    rows = [_named(results, name, _psnr_cells(one)) for name, one in results.rows.items()]
    if results.real:
        gap = [NONE] * len(HORIZONS)
        copy, limit = (mean_of(x) for x in (results.real.copy_psnr, results.real.limit_psnr))
        rows.append(["*copy of the last frame*", NONE, shown(copy), *gap])
        rows.append(["*limit: the autoencoder*", NONE, shown(limit), *gap])
    return markdown_table(head, rows)


def _psnr_cells(one: Figures) -> Cells:
    cells = [shown(mean_of(one.next_psnr))]
    return [*cells, *(shown(mean_of(one.psnr[str(h)])) for h in HORIZONS)]


def paired_table(results: Results) -> list[str]:
    """dB more than another row has, clip by clip: what all clips have in common drops out."""
    mark = results.rows[results.mark]
    rows = []
    for name, one in results.rows.items():
        if name != results.mark:
            cells = [_gained(difference(one.next_psnr, mark.next_psnr))]
            cells += [_gained(difference(one.psnr[str(h)], mark.psnr[str(h)])) for h in HORIZONS]
            rows.append(_named(results, name, cells))
    return markdown_table(["", "denoising steps", "next frame", *map(str, HORIZONS)], rows)


def _gained(gain: Estimate) -> str:
    """In bold where the interval leaves zero out."""
    text = f"{gain.value:+.2f} ± {gain.error:.2f}"
    return text if gain.low <= 0 <= gain.high else f"**{text}**"


def ssim_table(results: Results) -> list[str]:
    """SSIM at growing horizons."""

    def cells(one: Figures) -> Cells:
        near = shown(mean_of(one.next_ssim), 3)
        return [near, *(shown(mean_of(one.ssim[str(h)]), 3) for h in HORIZONS)]

    rows = [_named(results, name, cells(one)) for name, one in results.rows.items()]
    return markdown_table(["", "denoising steps", "next frame", *map(str, HORIZONS)], rows)


def behaviour_table(results: Results) -> list[str]:
    """Distribution, obedience, motion, sharpness, over the rollouts."""
    real = results.real
    assert real is not None, "figures of rows come with those of the real game"

    def cells(one: Figures) -> Cells:
        return [
            shown(one.frechet, 1),
            shown(one.turn_correlation),
            _percent(one.button_accuracy),
            shown(ratio_of(one.flow, real.flow)),
            shown(ratio_of(one.sharpness, real.sharpness)),
        ]

    head = ["", "denoising steps", "Fréchet", "turning r", "keys", "motion", "sharpness at 64"]
    rows = [_named(results, name, cells(one)) for name, one in results.rows.items()]
    marks = [shown(real.frechet, 1), shown(real.turn_correlation), _percent(real.button_accuracy)]
    return markdown_table(head, [*rows, ["*the real game*", NONE, *marks, "1", "1"]])


def drift_table(results: Results) -> list[str]:
    """A window that every row has played, the last one, and how far play stays a picture."""
    shortest = min(
        (len(d.windows) for r in results.rows.values() for d in r.drift.values()), default=1
    )

    def part(drift: DriftFigures | None) -> Cells:
        if not drift:
            return [NONE] * 5
        last, shared = drift.windows[-1], drift.windows[shortest - 1]
        return [
            f"{shared.frechet[0]:.1f} ({shared.frechet[1]:.1f})",
            f"{last.frechet[0]:.1f} ({last.frechet[1]:.1f})",
            f"{last.detail[0]:.1f} ({last.detail[1]:.1f})",
            f"{last.brightness[0]:.0f} ({last.brightness[1]:.0f})",
            f"{100 * drift.inside:.1f} %",
        ]

    def cells(one: Figures) -> Cells:
        frames = max((drift.frames for drift in one.drift.values()), default=0)
        return [str(frames), *part(one.drift.get("random")), *part(one.drift.get("idle"))]

    kinds = [
        f"Fréchet at {shortest * WINDOW}",
        "Fréchet",
        "detail",
        "brightness",
        "within the range",
    ]
    head = ["", "denoising steps", "frames", *(f"random: {k}" for k in kinds)]
    head += [f"idle: {k}" for k in kinds]
    return markdown_table(head, [_named(results, n, cells(one)) for n, one in results.rows.items()])


def speed_table(results: Results) -> list[str]:
    """What a player waits for."""
    rows = []
    for name, one in results.rows.items():
        key = speed_key_of(one.weights, one.sampler.sigmas)
        speed = results.speeds.rows.get(key) if results.speeds else None
        reference = results.speeds.reference.get(key) if results.speeds else None
        cells = [NONE] * 8
        if speed and reference:
            cells = [
                f"{speed.first_frame_ms:.1f} ms",
                f"{speed.wait_ms:.0f} ms" if speed.wait_ms else "0",
                f"{speed.frames_per_second:.0f}",
                f"{speed.chunk_ms:.1f} ms",
                f"{speed.gflop_per_frame:.2f}",
                f"{speed.engine}, threads: {speed.threads}",
                f"{reference.first_frame_ms:.1f} ms",
                f"{reference.frames_per_second:.0f}",
            ]
        rows.append(_named(results, name, cells))
    head = ["", "denoising steps", "first frame", "wait for a chunk's end", "frames/s"]
    head += ["a chunk or frame", "GFLOP a frame", "engine"]
    head += ["first frame, reference engine", "frames/s, reference engine"]
    return markdown_table(head, rows)


def cost_table(results: Results) -> list[str]:
    """What training took after the teacher, for every row, measured or not."""
    comparison, out = results.comparison, results.comparison.out
    rows, seen = [], list[tuple[Sequence[Path], Sequence[Path]]]()
    for row in comparison.rows.values():
        stages = row.stage2, row.stage3
        if any(stages) and stages not in seen:  # rows of the same runs cost the same
            seen.append(stages)
            second, third = (_cost_cells(runs, out) for runs in stages)
            rows.append([row.title, *second, *third[:3]])
    for run in comparison.shared:
        rows += [["*several build on it*", *_cost_cells([run], out), NONE, NONE, NONE]]
    head = ["", "stage 2: runs", "minutes", "PFLOP", "stored", "stage 3: runs", "minutes", "PFLOP"]
    return markdown_table(head, rows)


def _cost_cells(runs: Sequence[Path], out: Path) -> Cells:
    cost, names = cost_of(runs, out), ", ".join(run.name for run in runs)
    if not runs:
        return ["none", NONE, NONE, NONE]
    if not cost:
        return [f"{names}: not run", NONE, NONE, NONE]
    stored = f"{cost.megabytes:.0f} MB" if cost.megabytes else "0"
    return [names, f"{cost.minutes:.1f}", f"{cost.petaflops:.3f}", stored]


def unseen_table(results: Results) -> list[str]:
    """dB at the first and eighth frame on the sets of `unseen`."""
    unseen = results.unseen
    assert unseen is not None, "asked for only where there is one"
    names = [n for n in results.comparison.generalisation if _in_all(n, unseen.sets.values())]
    titles = [results.comparison.rows[name].title for name in names]
    head = ["", "clips (in motion)", "copy", "autoencoder"]
    head += [f"{title}, {what}" for title in titles for what in ("frame 1", "share", "frame 8")]
    rows = []
    for what, one in unseen.sets.items():
        cells = [what, f"{one.clips} ({one.moving})", shown(one.copy), shown(one.limit)]
        for name in names:
            first, eighth = one.rows[name]
            gap = one.limit.value - one.copy.value
            share = f"{100 * (first.value - one.copy.value) / gap:.0f} %" if gap > 0 else NONE
            cells += [shown(first), share, shown(eighth)]
        rows.append(cells)
    return markdown_table(head, rows)


def _in_all(name: str, sets: Iterable[UnseenFigures]) -> bool:
    return all(name in one.rows for one in sets)


def _named(results: Results, name: str, cells: Cells) -> Cells:
    one, title = results.rows[name], results.comparison.rows[name].title
    chunk = f", {one.chunk_frames} frames together" if one.chunk_frames > 1 else ""
    return [title, f"{one.steps}{chunk}", *cells]


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.0f} ± {100 * estimate.error:.0f} %"
