"""What tests of play do: frames in a row, a player of chance, keys pressed in a window."""

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import DrawnWorld
from worldmodel.game.controls import Command
from worldmodel.game.input import Taken
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.game.recording_control import Place, RecordingControl
from worldmodel.game.window import Window
from worldmodel.players import RandomPlayer
from worldmodel.storage.recording import read_recording
from worldmodel.world import Frame, World


def play(session: Session, frames: int) -> list[PlayedFrame]:
    steps = []
    for _ in range(frames):
        step = session.advance()
        assert step is not None
        session.remember()
        steps.append(step)
    return steps


def random_take(world: World) -> Callable[[int], Taken]:
    player = RandomPlayer(world.actions, seed=5)
    return lambda index: Taken(player.act(index), None)


def wait_for(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + 5
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.005)


def hashes(path: Path) -> list[str]:
    return [row.hash for row in read_recording(path)[1]]


def record_with_a_branch(name: str) -> Path:
    """A person who plays 20 frames, goes back 6, and plays 10 more."""
    world = DrawnWorld()
    player = RandomPlayer(world.actions, seed=5)
    turned = itertools.count(1)
    session = Session(world, lambda _: Taken(player.act(next(turned)), None), seed=4)
    recording_control = RecordingControl(Place(Path(), name), lambda _: None)
    recording_control.is_rolling = True
    recording_control.show(session, session.begin(), None)

    def play_on(frames: int) -> None:
        for _ in range(frames):
            step = session.advance()
            assert step is not None
            session.remember()
            recording_control.show(session, step, None)

    play_on(20)
    session.turn(Command.REWIND)
    for _ in range(6):
        step = session.advance()
        assert step is not None
        recording_control.show(session, step, None)
    session.turn(Command.GO_ON)
    play_on(10)
    recording_control.close()
    return Path(f"{name}.jsonl")


def press_keys(monkeypatch: pytest.MonkeyPatch, keys: dict[int, int]) -> None:
    """Put a key press into the queue when the window shows a picture of that number."""
    real, count = Window.show, itertools.count()

    def show(self: Window, frame: Frame) -> float:
        if (scancode := keys.get(next(count))) is not None:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, scancode=scancode, mod=0))
        return real(self, frame)

    monkeypatch.setattr(Window, "show", show)
