"""The page: tables and plots between two marks; what people wrote around them stays."""

from pathlib import Path

from studies.distillation.claims import claims_table
from studies.distillation.compare import Results
from studies.distillation.figures import RealFigures, mean_of
from studies.distillation.play_speed import TURN
from studies.distillation.plots import save_plots
from studies.distillation.tables import (
    behaviour_table,
    cost_table,
    drift_table,
    paired_table,
    psnr_table,
    speed_table,
    ssim_table,
    unseen_table,
)
from studies.markdown import write_between
from worldmodel.evaluation.inverse_dynamics import ABLE
from worldmodel.system.printable import tell, tell_json

BEGIN = "<!-- measured: begin. `worldmodel evaluate --compare` writes this part; do not edit it -->"
END = "<!-- measured: end -->"


def write_page(results: Results) -> Path:
    """Write the measured part of the page anew; a page that is not there yet is begun."""
    page = results.comparison.page
    if results.rows and results.real:
        save_plots(results)
    write_between(page, "What distillation costs", BEGIN, END, "\n".join(measured_part(results)))
    return page


def measured_part(results: Results) -> list[str]:
    """All tables, with the sentences without which they could be misread."""
    lines = []
    if results.rows and results.real:
        lines += [*_quality_part(results), *_play_part(results)]
    lines += ["### What training took", "", *cost_table(results), ""]
    if results.comparison.claims:
        lines += ["### The paper's claims", "", *claims_table(results), ""]
    if results.unseen:
        lines += _unseen_part(results)
    lines += _missing_part(results)
    if results.rows and results.real:
        folder = results.comparison.out.name
        names = {
            "horizon": "PSNR and SSIM against the horizon",
            "cost": "Quality against the cost of a frame and of training",
            "drift": "Long play: detail and Fréchet distance, window by window",
        }
        lines += ["### Plots", ""]
        lines += [f"![{what}]({folder}/{name}.png)" for name, what in names.items()]
    return lines


def _quality_part(results: Results) -> list[str]:
    real, plan = results.real, results.plan
    assert real is not None, "checked by the caller"
    return [
        "### Quality against the real game",
        "",
        f"{real.clips} clips, each of a seed of the game and of the noise of its own (from "
        f"{plan.seed} on, never trained on); ± is half a 95 % interval over clips. Rows see the "
        "same starts, actions and noise and are shown by the same decoder.",
        "",
        "PSNR in dB: next frame with true history (frames in motion), then free rollout at frame",
        "",
        *psnr_table(results),
        "",
        f"The same against *{results.comparison.rows[results.mark].title}*, clip by clip",
        "",
        *paired_table(results),
        "",
        "SSIM",
        "",
        *ssim_table(results),
        "",
        "Over the whole rollout of 64 frames. Actions are read by an inverse-dynamics model "
        f"({real.inverse_dynamics}): "
        "Fréchet in its features, turning and keys (balanced accuracy) as it reads them back. "
        "Motion: mean optical flow as a share of the real game's, which moves by "
        f"{mean_of(real.flow).value:.2f} pixels a frame.",
        "",
        *_warning(real),
        *behaviour_table(results),
        "",
    ]


def _warning(real: RealFigures) -> list[str]:
    """A model that cannot read the real game says nothing about a learned one."""
    if real.turn_correlation.value >= ABLE:
        return []
    found = f"{real.turn_correlation.value:.2f}"
    return [
        f"**This model reads turning from real frames with r = {found}: it "
        "has not learned to, and its columns mean nothing. Give it more "
        "--inverse-dynamics-steps.**",
        "",
    ]


def _play_part(results: Results) -> list[str]:
    plan = results.plan
    machine = f" ({results.speeds.machine})" if results.speeds else ""
    return [
        "### Long play",
        "",
        f"{plan.streams} streams of each kind; the last window of 200 frames, the real game "
        "doing the same in parentheses. Within the range: single frames as bright and "
        "as detailed as the game's are, a tenth of the span aside.",
        "",
        *drift_table(results),
        "",
        "### Speed",
        "",
        f"One session, rows in turns of {TURN} frames{machine}. First frame: from the action "
        "to the first decoded frame that obeys it. Where chunks are drawn, an action also waits "
        "for the chunk's end, on average as long as the next column says at the world's own rate. "
        "The fastest engine is another one for each kind of row; the last two columns are of the "
        "reference engine, eager torch, which plays them all.",
        "",
        *speed_table(results),
        "",
    ]


def _unseen_part(results: Results) -> list[str]:
    unseen = results.unseen
    assert unseen is not None, "checked by the caller"
    return [
        "### Starts, routes and actions never seen",
        "",
        f"Of {unseen.possible} combinations of at most two keys and five ways of turning, "
        f"{len(unseen.never)} never occur in the {unseen.training_frames} frames of training: "
        f"{'; '.join(unseen.never)}. An action is held for eight frames after the same starts. "
        "Share: of the dB between a copy of the last frame and the autoencoder's limit.",
        "",
        *unseen_table(results),
        "",
    ]


def _missing_part(results: Results) -> list[str]:
    if not results.missing:
        return []
    titles = results.comparison.rows
    lines = [f"- {titles[name].title}: {why}" for name, why in results.missing.items()]
    return ["### Not measured", "", *lines, ""]


def print_results(results: Results) -> None:
    """The measured part, then one line of JSON."""
    tell(*measured_part(results))
    rows = {
        name: {
            "psnr": {h: round(mean_of(values).value, 2) for h, values in one.psnr.items()},
            "frechet": one.frechet.value,
            "minutes": one.minutes,
        }
        for name, one in results.rows.items()
    }
    tell_json({"rows": rows, "missing": results.missing})
