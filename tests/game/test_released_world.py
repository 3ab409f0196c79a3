"""A released model of keys and mouse in the real window: saved, taken back in time, loaded."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.worlds.wan.matrix_tiny import make_matrix_world
from worldmodel.game.choice import Choice
from worldmodel.game.cli import main
from worldmodel.storage.moments import list_moments, moments_folder
from worldmodel.world import SavedState, World
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.world import WanWorld

PATIENCE = 120.0  # seconds


class Watched(WanWorld):
    """A world that notes when it was taken elsewhere: latent frames played before and after."""

    jumps: list[tuple[int, int]]

    def load_state(self, state: SavedState) -> None:
        before = self.session.rollout.cache.now
        super().load_state(state)
        self.jumps.append((before, self.session.rollout.cache.now))


def press(scancode: int, kind: int = pygame.KEYDOWN) -> None:
    pygame.event.post(pygame.event.Event(kind, scancode=scancode, mod=0))


def wait_for(what: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE
    while not what() and time.monotonic() < ends:
        time.sleep(0.02)


def test_save_rewind_and_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("WORLDMODEL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORLDMODEL_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    settings = RunSettings(device="cpu", dtype="float32", threads=1)
    world = Watched.load(make_matrix_world(tmp_path / "released"), settings)
    assert isinstance(world, Watched)
    world.jumps, marks = [], {}

    def now() -> int:
        return world.session.rollout.cache.now

    def person() -> None:
        press(pygame.KSCAN_W)
        wait_for(lambda: now() >= 9)  # the window of six latent frames has wrapped
        press(pygame.KSCAN_F5)
        wait_for(lambda: list_moments("released", moments_folder()))
        marks["saved"] = now()
        wait_for(lambda: now() >= marks["saved"] + 6)
        press(pygame.KSCAN_BACKSPACE)
        time.sleep(1.0)
        press(pygame.KSCAN_BACKSPACE, pygame.KEYUP)
        wait_for(lambda: world.jumps)
        marks["rewound"] = len(world.jumps)
        before = now()
        wait_for(lambda: now() > before)  # play goes on from there
        press(pygame.KSCAN_F9)
        wait_for(lambda: len(world.jumps) > marks["rewound"])
        before = now()
        wait_for(lambda: now() > before)
        marks["after"] = now()
        pygame.event.post(pygame.event.Event(pygame.QUIT))

    thread = threading.Timer(0.5, person)

    def open_world(_: Choice) -> World:
        thread.start()
        return world

    assert main(["--world", "released", "--fps", "0"], open_world) == 0
    thread.join()
    from_frame, to_frame = world.jumps[0]
    assert to_frame < from_frame, "Backspace went back"
    (moment,) = list_moments("released", moments_folder())
    assert world.jumps[-1][1] <= marks["saved"], "F9 went to what F5 had kept"
    assert moment.header.index > 0
    assert marks["after"] > world.jumps[-1][1], "play went on from there"
