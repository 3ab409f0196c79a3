"""What is on the screen: nothing over anything else, in any size, and only what was measured."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pygame
import pytest

from tests.game.drawn_world import SPEC, DrawnWorld
from worldmodel.action import ActionSpec
from worldmodel.font import start_fonts
from worldmodel.game import hud as drawing
from worldmodel.game.controls import Controls, KeyMap, describe, hint
from worldmodel.game.fps_meter import Meter, PlaySpeed
from worldmodel.game.hud import FEWEST_INPUTS, Hud, Overlay
from worldmodel.game.menu.style import DIMMED
from worldmodel.game.panels import COVERS, DARK, GREY, SHADE
from worldmodel.game.reference_play import MOVING
from worldmodel.reference.side_by_side import View, draw_side_by_side

SIZES = [(960, 720), (704, 528), (640, 480)]
FONTS = [0.75, 1.0, 2.0, 3.0]


@pytest.fixture(autouse=True)
def fonts() -> None:
    start_fonts()


def full(**more: Any) -> Overlay:
    """Everything that can be on the screen at once."""
    fields: dict[str, Any] = {
        "spec": SPEC,
        "speed": PlaySpeed(17.5, 59.0, 64.0, 40),
        "note": "saved this moment: 20261128-192600-205a0b74.safetensors",
        "hint": "click to look, F1: keys, Esc: menu",
        "slow": "9.8 of 17.5 fps: --steps 1, a smaller world or a GPU",
        "waiting": "“a red ball” is being encoded",
        "is_recording": True,
        "shows_numbers": True,
        "shows_graph": True,
    }
    return Overlay(**{**fields, **more})


def apart(boxes: Sequence[pygame.Rect]) -> bool:
    return not any(a.colliderect(b) for a, b in itertools.combinations(boxes, 2))


def view(**more: Any) -> View:
    world = DrawnWorld().reset(0, 0)
    fields: dict[str, Any] = {
        "world": world,
        "real": world,
        "index": 50,
        "points": [(i, 30.0 - i / 4) for i in range(51)],
        "frames_per_second": 17.5,
        "why": MOVING,
    }
    return View(**{**fields, **more})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"is_paused": True},
        {"line": "a house in the snow"},
        {"caption": "loading doom-rooms"},
        {"shows_controls": True, "controls": describe(SPEC, Controls())},
    ],
    ids=["play", "paused", "typing", "loading", "controls"],
)
@pytest.mark.parametrize("is_beside", [False, True], ids=["alone", "beside"])
def test_nothing_lies_over_anything_else(
    size: tuple[int, int], font: float, more: dict[str, Any], *, is_beside: bool
) -> None:
    written: list[pygame.Rect] = []
    if is_beside:
        written = [pygame.Rect(box) for box in draw_side_by_side(view(), size[::-1], font).written]
        assert apart(written)
    surface = pygame.Surface(size)
    room = Hud().draw(surface, full(font=font, taken=written, **more))
    if not more.get("shows_controls"):
        assert apart(room.taken)
    assert all(surface.get_rect().contains(box) for box in room.taken[len(written) :])


def test_in_letters_of_the_usual_size_everything_finds_room() -> None:
    surface = pygame.Surface((960, 720))
    room = Hud().draw(surface, full(is_paused=True))
    # caption, mark, numbers, slow, three notes, four keys, the turn's arrow, the graph
    assert len(room.taken) == 13


@pytest.mark.parametrize("told", ["the game comes to this place", "no way leads to a picture " * 4])
def test_what_is_told_over_the_game_is_kept_free(told: str) -> None:
    drawn = draw_side_by_side(view(real=None, note=told), (720, 960))
    taken = [pygame.Rect(box) for box in drawn.written]
    assert apart(taken)
    room = Hud().draw(pygame.Surface((960, 720)), full(taken=taken))
    assert apart(room.taken)


@pytest.mark.parametrize("shade", [SHADE, COVERS, DIMMED])
def test_the_greyest_letters_can_be_read_over_the_whitest_wall(shade: int) -> None:
    def light(colour: Sequence[float]) -> float:  # relative luminance, as WCAG defines it
        parts = np.asarray(colour) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    ground = [255 + (dark - 255) * shade / 255 for dark in DARK]
    assert (light(GREY) + 0.05) / (light(ground) + 0.05) >= 4.5


def latency(inputs: int) -> str:
    meter = Meter()
    for i in range(inputs):
        meter.add(i / 17.5, 59.0 + i % 10)
    return " ".join(text for text, _, _ in drawing._latency(meter.speed(), 20)).strip()


def test_percentiles_are_shown_once_there_are_enough_inputs_for_them() -> None:
    assert latency(0) == "input to frame: press a key"
    assert latency(1) == "59 ms input to frame, 1 input so far"
    assert latency(FEWEST_INPUTS - 1) == "63 ms input to frame, 19 inputs so far"
    assert latency(FEWEST_INPUTS) == "63 ms p50, 68 ms p95, input to frame"


def test_a_hint_names_the_keys_as_they_are_and_no_mouse_where_there_is_none() -> None:
    controls = Controls(commands={"controls": ("KeyH",)})
    told = hint(SPEC, KeyMap.of(SPEC, controls), has_pad=False)
    assert told == "click to look, H: keys, Esc: menu"
    still = ActionSpec(
        buttons=("KeyW",), names=("up",), mouse_degrees=1.0, max_mouse_degrees=1.0,
        look_left_right=False,
    )  # fmt: skip
    told = hint(still, KeyMap.of(still, Controls()), has_pad=True)
    assert told == "F1 or Back: keys, Esc or Start: menu"
