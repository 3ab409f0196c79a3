"""A whole evening with a gamepad alone: real SDL events, from the start screen to Quit."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import DrawnWorld
from tests.game.virtual_pad import (
    LOOK_X,
    RIGHT,
    SHOULDER,
    START,
    STICK_Y,
    UP,
    A,
    B,
    VirtualPad,
)
from worldmodel.action import Action
from worldmodel.game.choice import Choice
from worldmodel.game.cli import main
from worldmodel.storage.moments import last_sessions_folder, list_moments
from worldmodel.world import Frame

PATIENCE = 10.0  # seconds


class ListeningWorld(DrawnWorld):
    """Remembers what it was told last."""

    told = Action()

    def generate(self, action: Action) -> Frame:
        self.told = action
        return super().generate(action)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)


class Evening(threading.Thread):
    """A person on the sofa."""

    def __init__(self, pad: VirtualPad, world: ListeningWorld, settings: Path) -> None:
        super().__init__()
        self.pad, self.world, self.settings = pad, world, settings
        self.is_over = threading.Event()  # the game ended
        self.problems: list[BaseException] = []

    def run(self) -> None:
        try:
            self.begin()
            self.pull_the_plug()
            self.change_a_setting()
            self.go_back_in_time()
            self.leave()
        except BaseException as error:  # noqa: BLE001  # told by the test
            self.problems.append(error)
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    def begin(self) -> None:
        time.sleep(0.5)
        self.pad.plug_in()
        time.sleep(0.3)
        assert self.world.frames == 0, "it rests behind the start screen"
        self.pad.press(A)
        wait_for(lambda: self.world.frames > 10, "A plays")

    def pull_the_plug(self) -> None:
        pad, world = self.pad, self.world
        pad.push(STICK_Y, -1.0)
        pad.push(LOOK_X, 1.0)
        wait_for(lambda: world.told.buttons == {"KeyW"}, "the left stick walks")
        wait_for(lambda: world.told.mouse[0] > 1, "the right one looks")
        pad.pull_out()  # in the middle of it
        wait_for(lambda: world.told == Action(), "nothing is held any more")
        before = world.frames
        wait_for(lambda: world.frames > before + 5, "play goes on")
        pad.plug_in()
        time.sleep(0.2)
        pad.push(STICK_Y, 1.0)
        wait_for(lambda: world.told.buttons == {"KeyS"}, "it plays again")
        pad.push(STICK_Y, 0.0)
        wait_for(lambda: world.told == Action(), "it rests in the middle")

    def change_a_setting(self) -> None:
        self.pad.press(START)
        wait_for(self.rests, "Start opens the menu")
        for button in (UP, RIGHT, A, RIGHT, B):  # Settings, letters one size up, back
            self.pad.press(button)
        wait_for(self.settings.exists, "a setting is kept")
        assert "font = 1.25" in self.settings.read_text(encoding="utf-8")
        self.pad.press(B)
        wait_for(lambda: not self.rests(), "B goes on")

    def go_back_in_time(self) -> None:
        wait_for(lambda: self.world.frames > 90, "some seconds of play")
        before = self.world.frames
        self.pad.hold(SHOULDER, down=True)
        time.sleep(0.8)
        self.pad.hold(SHOULDER, down=False)
        wait_for(lambda: self.world.frames < before - 5, "LB goes back")
        wait_for(lambda: self.world.frames > before, "and on from there")

    def leave(self) -> None:
        self.pad.press(START)
        wait_for(self.rests, "the menu again")
        for button in (UP, RIGHT, RIGHT, RIGHT, A):
            self.pad.press(button)
        assert self.is_over.wait(PATIENCE), "Quit ends it"

    def rests(self) -> bool:
        before = self.world.frames
        time.sleep(0.25)
        return self.world.frames == before


def test_a_session_from_the_start_screen_to_quit_with_nothing_but_a_gamepad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
    monkeypatch.setenv("WORLDMODEL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORLDMODEL_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    world = ListeningWorld(seconds=0.002)
    evening = Evening(VirtualPad(), world, tmp_path / "config" / "settings.toml")

    def open_world(_: Choice) -> ListeningWorld:
        evening.start()
        return world

    code = main([], open_world)
    evening.is_over.set()
    evening.join()
    assert evening.problems == []
    assert code == 0
    assert len(list_moments(folder=last_sessions_folder())) == 1
