"""What Doom tells of itself in every frame, the same numbers in every level.

The eye's height moves with the walking bob, whose period is 20 tics of the level's own time: with
the velocity, `clock` explains 97 % of its variance in `my_way_home`, periods of 19.5 or 20.5 tics
explain 92 %.
Which keys are carried the engine does not tell.
"""

import numpy as np
from numpy.typing import NDArray

from worldmodel.state_spec import FULL_TURN, StateNumber, StateSpec

BOB_TICS = 20
DEGREES = StateNumber(kind="heading", unit="degrees", high=FULL_TURN)
PLACE = StateNumber(kind="position", unit="map units")
SPEED = StateNumber(kind="velocity", unit="map units per tic")
COUNT = StateNumber(kind="count")

# Name, what it means, and what the engine calls it; None: not one of its variables.
NUMBERS: tuple[tuple[str, StateNumber, str | None], ...] = (
    ("x", PLACE, "POSITION_X"),
    ("y", PLACE, "POSITION_Y"),
    ("z", PLACE, "CAMERA_POSITION_Z"),  # of the eye
    ("heading", DEGREES, "ANGLE"),  # grows to the left
    ("velocity_x", SPEED, "VELOCITY_X"),
    ("velocity_y", SPEED, "VELOCITY_Y"),
    ("clock", StateNumber(kind="phase", unit="tics", high=float(BOB_TICS)), None),
    ("health", COUNT, "HEALTH"),
    ("armor", COUNT, "ARMOR"),
    ("ammo", COUNT, "SELECTED_WEAPON_AMMO"),  # -1: no weapon
    ("weapon", COUNT, "SELECTED_WEAPON"),  # the number key that selects it; -1: none
    ("kills", COUNT, "KILLCOUNT"),
    ("items", COUNT, "ITEMCOUNT"),
    ("dead", StateNumber(kind="flag"), "DEAD"),
)
SPEC = StateSpec({name: number for name, number, _ in NUMBERS})
VARIABLES = tuple(variable for _, _, variable in NUMBERS if variable)
CLOCK = SPEC.index("clock")
DEAD = SPEC.index("dead")
HEALTH = SPEC.index("health")


def to_state(variables: NDArray[np.float64], tic: int) -> NDArray[np.float32]:
    """The state from the engine's `VARIABLES` and the tics since the level began."""
    state = np.empty(SPEC.width, np.float32)
    state[:CLOCK], state[CLOCK + 1 :] = variables[:CLOCK], variables[CLOCK:]
    state[CLOCK] = tic % BOB_TICS
    return state


def at_the_end(state: NDArray[np.float32], *, is_dead: bool) -> NDArray[np.float32]:
    """The last state again, once the episode has ended and the engine tells no more."""
    again = state.copy()
    again[DEAD] = is_dead
    if is_dead:
        again[HEALTH] = 0.0
    return again
