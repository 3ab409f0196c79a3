"""What came out of a recipe, said at its end: a verdict, three numbers, a picture.

A world is as good as the run that draws it; the words are those of `training.verdict`, which each
run wrote into its summary.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel.recipe.recipe_file import DRAWS, Recipe
from worldmodel.storage.files import read_record
from worldmodel.training.run_stage import SUMMARY

UNKNOWN = "no verdict (trained by an older version)"


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What a run's summary says about its worth."""

    sentence: str
    figures: dict[str, Any]
    picture: str

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against playing what it draws."""
        return not self.sentence.startswith(("FAILED", "weak"))


def read_verdict(run: Path) -> RunVerdict:
    """The verdict of a finished run; one that says nothing is not called bad."""
    try:
        summary = read_record(run / SUMMARY)
        figures = dict(summary.get("figures", {}))
        return RunVerdict(
            str(summary.get("verdict", UNKNOWN)), figures, str(summary.get("picture", ""))
        )
    except (ValueError, AttributeError, TypeError):
        return RunVerdict(UNKNOWN, {}, "")


def tell(recipe: Recipe, root: Path, world: Path, *, rehearses: bool) -> list[str]:
    """The last lines of `make`: the verdict, its figures, and what to do next."""
    stages = [part.stage for part in recipe.parts]
    verdict = read_verdict(root / next(stage for stage in DRAWS if stage in stages))
    numbers = ", ".join(
        f"{name} {'none' if value is None else f'{value:.1f} dB'}"
        for name, value in verdict.figures.items()
    )
    lines = [f"verdict: {verdict.sentence}"]
    lines += [f"  numbers: {numbers}"] if numbers else []
    lines += (
        [f"  picture: {verdict.picture} (the game above, the world below)"]
        if verdict.picture
        else []
    )
    play = f"python play.py --world {world}"
    if rehearses:
        lines.append(f"{world}: a rehearsal, no world worth playing; to see that it opens: {play}")
    elif verdict.is_good:
        lines.append(f"{world}: play it with {play}")
    else:
        lines.append(f"{world}: was packed, but look at the picture before you play it ({play})")
    return lines
