"""Gamepads: SDL's events, and where SDL has one, a virtual gamepad that is really plugged in."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import SPEC
from tests.game.virtual_pad import VirtualPad
from worldmodel.action import ActionSpec
from worldmodel.game.controls import Command, Controls, GamepadControls, describe
from worldmodel.game.gamepad import Gamepads, start_gamepads, stop_gamepads
from worldmodel.game.input import Input

STICK_X, STICK_Y, LOOK_X, LOOK_Y, TRIGGER = 0, 1, 2, 3, 5


def axis(number: int, value: float) -> pygame.event.Event:
    return pygame.event.Event(
        pygame.CONTROLLERAXISMOTION, instance_id=0, axis=number, value=round(32767 * value)
    )


def button(number: int, *, down: bool = True) -> pygame.event.Event:
    kind = pygame.CONTROLLERBUTTONDOWN if down else pygame.CONTROLLERBUTTONUP
    return pygame.event.Event(kind, instance_id=0, button=number)


def feed(devices: Input, *events: pygame.event.Event) -> list[Command | None]:
    return [devices.feed(event) for event in devices.pads.translate(events)]


@pytest.fixture
def devices() -> Input:
    devices = Input(Controls())
    devices.learn(SPEC)
    return devices


@pytest.mark.parametrize(
    ("x", "y", "held"),
    [
        (0.0, -1.0, {"KeyW"}),
        (0.0, 1.0, {"KeyS"}),
        (-1.0, 0.0, {"KeyA"}),
        (0.7, -0.7, {"KeyW", "KeyD"}),
        (0.3, -0.95, {"KeyW"}),
        (0.1, 0.1, set()),
    ],
)
def test_the_left_stick_presses_the_direction_it_is_pushed_in(
    devices: Input, x: float, y: float, held: set[str]
) -> None:
    feed(devices, axis(STICK_X, x), axis(STICK_Y, y))
    devices.discard()
    assert devices.take().action.buttons == held
    feed(devices, axis(STICK_X, 0.0), axis(STICK_Y, 0.0))
    devices.discard()
    assert devices.take().action.buttons == set()


def test_the_right_stick_looks_every_frame_that_it_is_held_finer_near_the_middle() -> None:
    devices = Input(Controls(gamepad=GamepadControls(look_degrees=8.0, dead_zone=0.2)))
    devices.learn(SPEC)
    feed(devices, axis(LOOK_X, 1.0))
    assert devices.take().event_time is not None
    assert [devices.take().action.mouse[0] for _ in range(2)] == pytest.approx([8.0, 8.0])
    feed(devices, axis(LOOK_X, 0.6))
    assert devices.take().action.mouse[0] == pytest.approx(2.0, abs=0.01)
    feed(devices, axis(LOOK_X, 0.19))
    assert devices.take().action.mouse == (0.0, 0.0)


def test_looking_can_be_inverted_for_stick_and_mouse_but_not_for_arrow_keys() -> None:
    devices = Input(Controls(invert_left_right=True, degrees_per_pixel=1.0))
    devices.learn(SPEC)
    devices.captured = True
    devices.feed(pygame.event.Event(pygame.MOUSEMOTION, rel=(3, 0)))
    assert devices.take().action.mouse[0] == -3.0
    feed(devices, axis(LOOK_X, 1.0))
    assert devices.take().action.mouse[0] == -8.0
    feed(devices, axis(LOOK_X, 0.0))
    devices.feed(pygame.event.Event(pygame.KEYDOWN, scancode=pygame.KSCAN_RIGHT, mod=0))
    assert devices.take().action.mouse[0] == 6.0


def test_buttons_do_what_the_world_names_first_and_commands_with_what_is_left() -> None:
    spec = ActionSpec(
        buttons=("Space", "Mouse0", "ArrowUp"),
        names=("jump", "fire", "forward"),
        mouse_degrees=1.0,
        max_mouse_degrees=9.0,
    )
    devices = Input(Controls())
    devices.learn(spec)
    feed(devices, axis(TRIGGER, 0.9), button(0), axis(STICK_Y, -1.0))
    assert devices.take().action.buttons == {"Mouse0", "Space", "ArrowUp"}
    assert feed(devices, button(6)) == [Command.MENU]
    assert feed(devices, button(9), button(9, down=False)) == [Command.REWIND, Command.GO_ON]
    assert ("RT", "fire") in describe(spec, Controls(), pad=True)


def test_a_gamepad_that_is_pulled_out_holds_nothing(devices: Input) -> None:
    feed(devices, axis(STICK_Y, -1.0), axis(LOOK_X, 1.0))
    feed(devices, pygame.event.Event(pygame.CONTROLLERDEVICEREMOVED, instance_id=0))
    devices.discard()
    assert devices.take().action == type(devices.take().action)()


@pytest.fixture
def virtual_pad(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualPad]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
    pygame.display.init()
    pygame.display.set_mode((64, 64))
    start_gamepads()
    pad = VirtualPad()
    pad.plug_in()
    yield pad
    stop_gamepads()
    pygame.display.quit()


def test_a_gamepad_plugged_in_while_playing_plays_until_it_is_pulled_out(
    devices: Input, virtual_pad: VirtualPad
) -> None:
    feed(devices, *pygame.event.get())
    assert len(devices.pads.names) == 1
    virtual_pad.push(STICK_Y, -1.0)
    virtual_pad.push(LOOK_X, 1.0)
    for _ in range(3):
        feed(devices, *pygame.event.get())
    taken = devices.take()
    assert taken.action.buttons == {"KeyW"}
    assert taken.action.mouse[0] == pytest.approx(8.0)
    virtual_pad.pull_out()
    for _ in range(3):
        feed(devices, *pygame.event.get())
    devices.discard()
    assert devices.pads.names == []
    assert devices.take().action.buttons == set()


def test_a_dead_zone_of_nothing_still_lets_a_stick_rest() -> None:
    pads = Gamepads(dead_zone=0.0)
    assert list(pads.translate([axis(STICK_X, 0.05)])) == []
