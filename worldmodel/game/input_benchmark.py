"""The game as a person plays it, without the person: the real loop, window and devices, measured.

Key presses and mouse moves of human length are posted as events at random moments, as devices would
post them; latency runs from the moment of the event to the end of the flip that shows its frame.
"""

import random
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygame

from worldmodel.game.controls import Controls
from worldmodel.game.generator import Generator
from worldmodel.game.input import Input
from worldmodel.game.key_names import KEYS
from worldmodel.game.loop import Game
from worldmodel.game.play_session import Session
from worldmodel.game.recording_control import Place, RecordingControl
from worldmodel.game.window import Window, announce
from worldmodel.world import World

WARM_UP = 30  # frames that are not counted


class KeyPresser(threading.Thread):
    """Presses and releases the keys of a world until it is stopped."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(name="hands")
        scancodes = {name: code for code, name in KEYS.items()}
        self._codes = [scancodes[key] for key in keys if key in scancodes]
        self._random = random.Random(0)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let go and come to an end."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        """One key at a time, a tenth of a second to a second each."""
        while not self._stopped.wait(self._random.uniform(0.03, 0.3)):
            code = self._random.choice(self._codes)
            _post(pygame.KEYDOWN, code)
            self._stopped.wait(self._random.uniform(0.1, 1.0))
            _post(pygame.KEYUP, code)


def rehearse(
    world: World,
    window: Window,
    frames: int,
    *,
    fps: float | None,
    records: bool,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[str, Any]:
    """Play `frames` frames in the window, numbers on; `fps` None is the world's rate, 0 no limit.

    `progress` is told, from a thread, how many frames have been counted so far. Returns frames per
    second and milliseconds from event to frame.
    """
    devices = Input(Controls())

    def open_session() -> Session:
        rate = world.frames_per_second if fps is None else fps
        return Session(world, lambda _: devices.take(), seed=0, rate=rate)

    with tempfile.TemporaryDirectory() as folder:
        recording_control = RecordingControl(Place(Path(folder)), lambda _: None)
        recording_control.is_rolling = records
        window.overlay.shows_numbers = True
        source = Generator(open_session, announce)
        game = Game(source, window, devices, recording_control, frames=frames + WARM_UP)
        hands: list[KeyPresser] = []
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(game, hands, ended, progress))
        watch.start()
        try:
            game.play()
        finally:
            ended.set()
            watch.join()
            for hand in hands:
                hand.stop()
            recording_control.close()
    speed = game.whole.speed()
    return {
        "records": records,
        "wanted_fps": world.frames_per_second if fps is None else fps,
        "fps": round(speed.frames_per_second or 0.0, 1),
        "latency_ms": {
            "p50": round(speed.latency_p50_ms or float("nan"), 1),
            "p95": round(speed.latency_p95_ms or float("nan"), 1),
        },
    }


def print_rehearsals(rows: list[dict[str, Any]]) -> None:
    """Print a line for each rehearsal."""
    for row in rows:
        wanted = f"at {row['wanted_fps']:g} frames/s" if row["wanted_fps"] else "no limit"
        sys.stdout.write(
            f"{wanted:18} {'recording' if row['records'] else '':10} {row['fps']:7.1f} frames/s   "
            f"input to frame p50 {row['latency_ms']['p50']} ms, p95 {row['latency_ms']['p95']} ms\n"
        )


def _watch(
    game: Game, hands: list[KeyPresser], ended: threading.Event, progress: Callable[[int], object]
) -> None:
    """Start counting, and pressing keys, when the first frames have been shown."""
    while game.shown < WARM_UP:
        if ended.wait(0.01):
            return
    game.whole = type(game.whole)(recent=100_000)
    session = game.source.session
    assert session is not None
    hands.append(KeyPresser(session.world.actions.buttons))
    hands[0].start()
    while not ended.wait(0.2):
        progress(game.shown - WARM_UP)


def _post(kind: int, code: int) -> None:
    now = pygame.time.get_ticks()
    event = pygame.event.Event(kind, scancode=code, key=0, mod=0, unicode="", timestamp=now)
    try:
        pygame.event.post(event)
    except pygame.error:  # the window has closed
        return
