"""A tiny game that knows its place: somebody walks in a box whose walls have colours."""

from pathlib import Path

import numpy as np

from tests.training.tiny_data import save
from worldmodel.action import Action
from worldmodel.state_spec import StateNumber, StateSpec, StateTrack

STATE = StateSpec(
    {
        "x": StateNumber(kind="position", unit="m"),
        "y": StateNumber(kind="position", unit="m"),
        "z": StateNumber(kind="position", unit="m"),
        "heading": StateNumber(kind="heading", unit="degrees"),
        "u": StateNumber(kind="velocity"),
        "v": StateNumber(kind="velocity"),
    }
)
HALF = 30.0  # of the box
COLOURS = np.array([(220, 60, 60), (60, 220, 60), (60, 60, 220), (220, 220, 60)], np.uint8)


def draw(x: float, y: float, heading: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """What is seen from a place: grey floor and ceiling, walls of four colours: 8 x 16."""
    frame = np.full((8, 16, 3), 90, np.uint8)
    angle = np.deg2rad(heading)
    for column in range(16):
        across = (column + 0.5) / 16 * 2 - 1
        ray = np.array(
            [np.cos(angle) + across * np.sin(angle), np.sin(angle) - across * np.cos(angle)]
        )
        depths = [
            (side * HALF - p) / r if r * side > 1e-6 else np.inf
            for p, r in zip((x, y), ray, strict=True)
            for side in (1, -1)
        ]
        wall = int(np.argmin(depths))
        tall = min(4.0, 8.0 * 8 / max(depths[wall], 1e-3))
        frame[round(4 - tall) : round(4 + tall), column] = COLOURS[wall]
    return frame


def write_placed(folder: Path, count: int, length: int = 80, first: int = 0) -> Path:
    """Episodes of somebody who walks by chance and stops at the walls."""
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        place, heading, velocity = rng.uniform(-20, 20, 2), float(rng.uniform(0, 360)), np.zeros(2)
        frames, actions, states, held, turn = [], [], [], frozenset[str](), 0.0
        for f in range(length):
            if f:
                if f % 6 == 1:
                    held = frozenset({"KeyD"} if rng.random() < 0.7 else set())
                    turn = float(rng.choice([-10, 0, 10]))
                heading = (heading - turn) % 360
                angle = np.deg2rad(heading)
                velocity = velocity + (2.0 if held else 0.0) * np.array(
                    [np.cos(angle), np.sin(angle)]
                )
                aim = place + velocity
                place = np.clip(aim, -HALF + 2, HALF - 2)
                velocity = 0.6 * np.where(aim == place, velocity, 0.0)
            frames.append(draw(float(place[0]), float(place[1]), heading))
            actions.append(Action(held if f else frozenset(), (turn if f else 0.0, 0.0)))
            states.append([*place, 8.0, heading, *velocity])
        values = np.asarray(states, np.float32)
        save(folder, number, frames, actions, StateTrack(STATE.seen(values), values))
    return folder
