"""`worldmodel evaluate --detector`: can a network tell a world from its game, as one line."""

from dataclasses import asdict

from worldmodel.config import UserError
from worldmodel.evaluation.detector import HELD_OUT, SECONDS, Detected, measure_detected
from worldmodel.evaluation.subject import opened
from worldmodel.system.printable import tell, tell_json


def evaluate_detected(name: str | None, seed: int, walks: int, steps: int) -> Detected:
    """Measure a world; a `UserError` if it names no real game, or no walk would be unseen."""
    if walks < HELD_OUT:
        raise UserError(
            f"--detector-walks {walks}: every {HELD_OUT}th walk is kept from training; "
            f"expected at least {HELD_OUT}"
        )
    with opened(name) as (subjects, game):
        return measure_detected(subjects, game, seed, walks, steps)


def print_detected(found: Detected, name: str) -> None:
    """For a person, then one line of JSON."""
    tell(
        f"world {name}: of {found.clips} unseen clips of {SECONDS:g} s, half of them the game's, "
        f"the detector names {100 * found.accuracy:.0f} % rightly (50 %: a coin)",
        f"  the game's {100 * found.game:.0f} %, the world's {100 * found.world:.0f} %; it trained "
        f"on {found.trained_on} others, {found.steps} steps in {found.minutes:.1f} minutes",
    )
    tell_json({"world": name, "detector": asdict(found)})
