"""What a finished run is worth: one sentence, the three numbers that matter, a picture.

Two things cost nothing and need no training: the frame before in place of the next one (*copy*),
and nothing a model draws can be better than its autoencoder's own reconstruction (*limit*). An
autoencoder whose limit is no better than the copy shows a world that does not move: a run stops
there, and so does every stage that would be trained on it.

All are PSNR in dB, over unseen frames in which something moves.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.metrics import in_motion, psnr
from worldmodel.model.autoencoder import Autoencoder, decode_latents, encode_frames
from worldmodel.storage.episodes import find_episodes, load_episode
from worldmodel.training.probe import Marks, Probe
from worldmodel.training.processes import local
from worldmodel.training.sample_grids import save_grid
from worldmodel.training.stage import Stage
from worldmodel.training.state_episodes import views_of

PAIRS = 256  # of a frame and the one before it
PAIRS_OF_EPISODE = 8
SHOWN = 12  # frames of a picture
UNMEASURED = "done: nothing was measured"
DEAD, WILD = 0.25, 4.0  # spread or motion of sampled clips, as a share of true ones'


class FailedError(UserError):
    """A run has ended in something that cannot be used; its picture shows what."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person should know of a run before going on with it."""

    sentence: str
    figures: dict[str, float]
    failed: bool = False

    def facts(self, picture: Path | None) -> dict[str, object]:
        """What `summary.json` of a run says of its verdict."""
        known = {k: round(v, 3) if math.isfinite(v) else None for k, v in self.figures.items()}
        seen = {"picture": picture.as_posix()} if picture else {}
        return {"verdict": self.sentence, "figures": known, **seen}


@runtime_checkable
class ProbedStage(Protocol):
    """A stage whose model draws latents of a finished autoencoder."""

    @property
    def probe(self) -> Probe:
        """The unseen clips that a run is judged by."""


@runtime_checkable
class ShowingStage(Protocol):
    """A stage that trains an autoencoder, or its decoder."""

    @property
    def shown(self) -> Autoencoder:
        """The averaged weights, which a verdict is about."""

    @property
    def unseen(self) -> Path:
        """The folder of held-out episodes."""


@runtime_checkable
class JudgingStage(Protocol):
    """A stage that knows itself what it is worth."""

    def judge(self, figures: Mapping[str, float | None]) -> tuple[str, dict[str, float], bool]:
        """A sentence on the figures measured last, those that matter, whether the run failed."""


def check_latents_show(stage: Stage, folder: Path) -> None:
    """Refuse to train on an autoencoder that shows less than a copy of the last frame does."""
    if not isinstance(stage, ProbedStage):
        return
    marks = stage.probe.marks
    if not marks.is_known or marks.has_gap:
        return
    picture = folder / "samples" / "autoencoder.png"
    save_grid(picture, [frames[:SHOWN, -1] for frames in (stage.probe.frames, stage.probe.shown)])
    raise FailedError(f"{folder}: {no_gap(marks)}; nothing is trained on it. Look at {picture}")


def no_gap(marks: Marks) -> str:
    """The sentence on an autoencoder that is of no use."""
    found = f"{marks.limit:.1f} dB" if math.isfinite(marks.limit) else "as no picture at all"
    return (
        f"the autoencoder shows unseen frames in motion at {found}, a copy of the frame before "
        f"at {marks.copy:.1f} dB"
    )


def last_picture(folder: Path) -> Path | None:
    """The contact sheet that a run wrote last, if its stage draws any."""
    return max((folder / "samples").glob("[0-9]*[0-9].png"), default=None)


def where_to_look(folder: Path) -> str:
    """What to do about a failed run."""
    picture = last_picture(folder)
    look = f"Look at {picture}, then train" if picture else "Train"
    return (
        f"{look} it again in an empty folder, for longer, with lower learning rates or a larger "
        "model"
    )


def judge(stage: Stage, figures: Mapping[str, float | None]) -> Verdict:
    """The verdict on a finished stage, from the figures that it measured last.

    What was not measured (a log that was removed, another process's part) is not called failed.
    """
    if broken := _broken(stage):
        return Verdict(f"FAILED: {broken} holds values that are not numbers", {}, failed=True)
    if isinstance(stage, ShowingStage):
        return _judge_pictures(_measure_pairs(stage.shown, stage.unseen), figures)
    if isinstance(stage, ProbedStage):
        return _judge_next_frame(stage.probe.marks, figures)
    if isinstance(stage, JudgingStage):
        return Verdict(*stage.judge(figures))
    return _judge_life(figures)


def _broken(stage: Stage) -> str | None:
    """The first averaged weight that holds values which are no numbers."""
    for name, weight in stage.ema.state_dict().items():
        if weight.is_floating_point() and not bool(torch.isfinite(local(weight)).all()):
            return name
    return None


def _measure_pairs(autoencoder: Autoencoder, folder: Path) -> Marks:
    """Unseen frames that moved, shown by the autoencoder and by the frame before each."""
    frames, before, views = read_moving_pairs(folder, autoencoder)
    if not len(frames):
        return Marks(math.nan, math.nan)
    latents = encode_frames(autoencoder, frames[None])
    seen = None if views is None else views[None].to(latents.device)
    shown = decode_latents(autoencoder, latents, seen)[0].cpu()
    return Marks(float(psnr(before, frames).mean()), float(psnr(shown, frames).mean()))


def read_moving_pairs(
    folder: Path, autoencoder: Autoencoder
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Frames that visibly differ from the ones before them, and those: uint8 b h w 3 twice.

    For an autoencoder with a floor plan or a scene, b n: where the former are seen from.
    """
    found: list[tuple[Tensor, Tensor]] = []
    views: list[Tensor] = []
    for path in find_episodes(folder):
        if len(found) >= PAIRS:
            break
        episode = load_episode(path)
        frames = torch.from_numpy(episode.frames)
        moved = [i for i in range(1, len(frames)) if bool(in_motion(frames[i], frames[i - 1]))]
        step = max(1, len(moved) // PAIRS_OF_EPISODE)
        found += [(frames[i].clone(), frames[i - 1].clone()) for i in moved[::step]]
        if autoencoder.view is not None:
            views.append(views_of(episode, path, autoencoder.config.scene)[moved[::step]])
    if not found:
        return torch.empty(0, 1, 1, 3), torch.empty(0, 1, 1, 3), None
    after, before = zip(*found[:PAIRS], strict=True)
    return torch.stack(after), torch.stack(before), torch.cat(views)[:PAIRS] if views else None


def _judge_pictures(marks: Marks, figures: Mapping[str, float | None]) -> Verdict:
    every = _number(figures, "heldout_psnr")
    numbers = {"copy": marks.copy, "limit": marks.limit, "heldout_psnr": every}
    if "heldout_psnr" not in figures:
        return Verdict(UNMEASURED, numbers)
    if not math.isfinite(every):
        return Verdict("FAILED: what it shows of unseen frames is no picture", numbers, failed=True)
    if not marks.is_known:
        return Verdict(
            f"unseen frames at {every:.1f} dB; nothing moves in them, so whether that is enough to "
            "learn from cannot be told",
            numbers,
        )
    if not marks.has_gap:
        return Verdict(f"FAILED: {no_gap(marks)}", numbers, failed=True)
    return Verdict(
        f"good: unseen frames in motion at {marks.limit:.1f} dB, {marks.limit - marks.copy:.1f} dB "
        "above a copy of the frame before",
        numbers,
    )


def _judge_next_frame(marks: Marks, figures: Mapping[str, float | None]) -> Verdict:
    sampled = {
        name: _number(figures, name)
        for name in figures
        if name.startswith("next_") or name.endswith("_next")
    }
    best = max(
        sampled, key=lambda name: (math.isfinite(sampled[name]), sampled[name]), default="next"
    )
    score = sampled.get(best, math.nan)
    numbers = {"copy": marks.copy, best: score, "limit": marks.limit}
    if not sampled:
        return Verdict(UNMEASURED, numbers)
    if not marks.is_known:
        return Verdict("nothing moves in the unseen frames: it cannot be told", numbers)
    if not math.isfinite(score):
        return Verdict("FAILED: what it draws is no picture", numbers, failed=True)
    sentence = f"its next frame {score:.1f} dB, a copy of the last {marks.copy:.1f} dB"
    gained = marks.gap_gained(score)
    if gained is None:
        return Verdict(f"FAILED: {no_gap(marks)}", numbers, failed=True)
    if gained <= 0:
        return Verdict(f"weak: {sentence}: no better than a picture that stands still", numbers)
    return Verdict(
        f"good: {sentence}, at best {marks.limit:.1f} dB: {100 * gained:.0f} % of the gap", numbers
    )


def _judge_life(figures: Mapping[str, float | None]) -> Verdict:
    """Judge clips that nothing stands beside: spread and motion as shares of true clips' own."""
    known = [name for name in ("spread", "motion", "loss") if name in figures]
    numbers = {name: _number(figures, name) for name in known}
    if not all(map(math.isfinite, numbers.values())):
        return Verdict("FAILED: what it draws is no picture", numbers, failed=True)
    sentence = ", ".join(f"{k} {v:.2f} of true clips" for k, v in numbers.items() if k != "loss")
    lives = all(DEAD < v < WILD for k, v in numbers.items() if k != "loss")
    word = "weak" if sentence and not lives else "done"
    return Verdict(f"{word}: {sentence or 'nothing was measured but the loss'}", numbers)


def _number(figures: Mapping[str, float | None], name: str) -> float:
    found = figures.get(name)
    return math.nan if found is None else float(found)
