"""The main loop on SDL's dummy driver, with events put into its queue."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_real import LearnedWorld, PlacedWorld, open_drawn, open_telling
from tests.game.drawn_world import DrawnWorld
from worldmodel.action import IDLE, Action
from worldmodel.font import words
from worldmodel.game.controls import Command, Controls
from worldmodel.game.fps_meter import Meter
from worldmodel.game.generator import Generator, InLine
from worldmodel.game.hud import Hud, Overlay
from worldmodel.game.input import Input
from worldmodel.game.loop import Game
from worldmodel.game.play_session import Session
from worldmodel.game.recording_control import Place, RecordingControl
from worldmodel.game.reference_play import SideBySide
from worldmodel.game.window import Window
from worldmodel.storage.moments import load_moment
from worldmodel.storage.recording import read_recording


@pytest.fixture
def game(window: Window, tmp_path: Path) -> Game:
    devices = Input(Controls())
    source = InLine(lambda: Session(DrawnWorld(), lambda _: devices.take()))
    return Game(
        source, window, devices, RecordingControl(Place(tmp_path, "clip"), lambda _: None), frames=3
    )


def press(scancode: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, scancode=scancode, mod=0))


def play_on(game: Game, frames: int) -> None:
    game.frames = (game.frames or 0) + frames
    game.play()


def rest(game: Game) -> None:
    """One turn of the loop with the events in the queue, whether a frame comes or not."""
    game.frames = None
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    game.play()
    game.devices.quit, game.frames = False, game.shown - 1


def test_a_key_press_is_in_the_next_frame_and_its_latency_ends_when_that_is_shown(
    game: Game,
) -> None:
    game.play()
    press(pygame.KSCAN_W)
    play_on(game, 1)
    assert game.window.overlay.action.buttons == {"KeyW"}
    latency = game.whole.speed().latency_p50_ms
    assert latency is not None
    assert 0 < latency < 500


def test_closing_the_window_ends_play(game: Game) -> None:
    game.frames = None
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    game.play()
    assert game.devices.quit


def test_a_restart_begins_another_recording_and_both_are_whole(game: Game, tmp_path: Path) -> None:
    game.recording_control.is_rolling = True
    game.play()
    game.obey(Command.RESTART)
    play_on(game, 3)
    game.recording_control.close()
    for name, length in (("clip", 4), ("clip_002", 3)):
        header, rows = read_recording(tmp_path / f"{name}.jsonl")
        assert (header.first_frame, len(rows)) == (0, length)


def test_a_recording_begun_in_the_middle_says_so_and_begins_without_action(
    game: Game, tmp_path: Path
) -> None:
    game.play()
    press(pygame.KSCAN_W)
    press(pygame.KSCAN_F6)
    play_on(game, 3)
    game.recording_control.close()
    header, rows = read_recording(tmp_path / "clip.jsonl")
    assert header.first_frame == 3, "what was seen when the key was pressed"
    assert [bool(row.action.buttons) for row in rows] == [False, True, True, True]
    assert rows[0].time == 0.0
    assert load_moment(tmp_path / "clip.moment").header.index == 3


def test_play_goes_on_when_the_disk_is_full(game: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    game.recording_control.say = told.append
    game.recording_control.is_rolling = True
    game.play()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worldmodel.storage.video.VideoWriter.write", full)
    play_on(game, 200)
    game.recording_control.close()
    assert len(told) == 1
    assert "recording stopped: No space left on device" in told[0]
    assert not game.window.overlay.is_recording
    assert "No space left on device" in str(game.recording_control.failure)
    assert game.recording_control.clips == []


def test_recording_on_and_off_without_a_frame_says_so_and_not_the_clip_before(game: Game) -> None:
    told: list[str] = []
    game.recording_control.say = told.append
    game.play()
    for frames in (2, 0):
        game.obey(Command.RECORD)
        play_on(game, frames)
        game.obey(Command.RECORD)
    assert [text.split()[0] for text in told] == ["recorded", "nothing"]
    game.recording_control.close()


def test_the_mark_of_a_recording_shows_even_while_the_world_rests(game: Game) -> None:
    game.play()
    press(pygame.KSCAN_P)
    press(pygame.KSCAN_F6)
    rest(game)
    assert game.is_paused()
    assert game.window.overlay.is_recording
    press(pygame.KSCAN_F6)
    rest(game)
    assert not game.window.overlay.is_recording


def test_a_single_step_acts_on_what_is_held_and_not_on_what_was_done_while_paused(
    game: Game,
) -> None:
    game.play()
    press(pygame.KSCAN_W)
    game.devices.captured = True
    game.is_human = False  # the dummy driver has no mouse to capture
    press(pygame.KSCAN_P)
    rest(game)
    press(pygame.KSCAN_A)
    pygame.event.post(pygame.event.Event(pygame.KEYUP, scancode=pygame.KSCAN_A, mod=0))
    pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, rel=(40, 0)))
    press(pygame.KSCAN_PERIOD)
    play_on(game, 1)
    assert game.window.overlay.action == Action(frozenset({"KeyW"}))


def test_what_was_done_right_before_a_pause_is_not_kept_for_its_end(game: Game) -> None:
    game.play()
    press(pygame.KSCAN_A)
    pygame.event.post(pygame.event.Event(pygame.KEYUP, scancode=pygame.KSCAN_A, mod=0))
    press(pygame.KSCAN_P)
    rest(game)
    assert game.is_paused()
    assert game.devices.take().action == IDLE


def test_pauses_do_not_count_as_time_of_play() -> None:
    meter = Meter()
    for start in (0.0, 100.0):
        meter.interrupt()
        for i in range(11):
            meter.add(start + 0.05 * i, None)
    assert meter.speed().frames_per_second == pytest.approx(20)


def test_a_pause_interrupts_the_numbers_of_the_whole_session(game: Game) -> None:
    game.play()
    press(pygame.KSCAN_P)
    rest(game)
    time.sleep(0.5)
    press(pygame.KSCAN_P)
    play_on(game, 3)
    rate = game.whole.speed().frames_per_second
    assert rate is not None
    assert rate > 6 / 0.5


def test_a_screenshot_that_cannot_be_saved_is_a_note(game: Game, tmp_path: Path) -> None:
    game.play()
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be", encoding="utf-8")
    game.recording_control.place = Place(blocked, "clip")
    game.obey(Command.SCREENSHOT)
    assert "cannot be written" in game.window.overlay.note


def test_a_screenshot_never_replaces_another(game: Game, tmp_path: Path) -> None:
    game.play()
    game.obey(Command.SCREENSHOT)
    game.obey(Command.SCREENSHOT)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "clip_frame4.png",
        "clip_frame4_002.png",
    ]


def test_a_newcomer_is_told_what_to_press_for_five_seconds_and_sees_no_numbers(
    game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    game.is_human = True
    game.play()
    overlay = game.window.overlay
    assert overlay.hint == "click to look, F1: keys, Esc: menu"
    assert not overlay.shows_numbers
    now = time.perf_counter()
    monkeypatch.setattr("worldmodel.game.window.time.perf_counter", lambda: now + 5.1)
    game.window.draw()
    assert overlay.hint == ""
    monkeypatch.undo()
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    play_on(game, 1)
    assert game.window.overlay.hint == "", "once"
    press(pygame.KSCAN_F2)
    play_on(game, 1)
    assert overlay.shows_numbers


class Slow:
    """A world that loads until `go`, in its own thread, with a real game that is like it."""

    def __init__(self, window: Window, folder: Path) -> None:
        self.go = threading.Event()
        self.devices = Input(Controls())
        self.side_by_side = SideBySide(open_drawn, lambda _: None)
        recording_control = RecordingControl(Place(folder, "clip"), lambda _: None)
        source = Generator(self.open_session)
        self.game = Game(
            source,
            window,
            self.devices,
            recording_control,
            side_by_side=self.side_by_side,
            frames=2,
        )
        self.game.is_human = False  # the dummy driver has no mouse to capture
        self.game.expect(DrawnWorld().actions)

    def open_session(self) -> Session:
        assert self.go.wait(30)
        return Session(LearnedWorld(), lambda _: self.devices.take(), rate=100.0)

    def play(self) -> None:
        """As soon as everything that was pressed has been heard, the world is there."""

        def come() -> None:
            while pygame.event.peek(pygame.KEYDOWN):
                time.sleep(0.01)
            self.go.set()

        thread = threading.Thread(target=come)
        thread.start()
        self.game.play()
        thread.join()


@pytest.fixture
def slow(window: Window, tmp_path: Path) -> Iterator[Slow]:
    slow = Slow(window, tmp_path)
    yield slow
    slow.go.set()
    slow.side_by_side.close()


def test_a_key_that_is_held_while_the_world_loads_plays_its_first_frame(slow: Slow) -> None:
    press(pygame.KSCAN_W)
    slow.play()
    assert slow.game.window.overlay.action.buttons == {"KeyW"}


def test_the_real_game_can_be_asked_for_while_the_world_loads(slow: Slow) -> None:
    press(pygame.KSCAN_F7)
    press(pygame.KSCAN_F1)
    slow.play()
    assert slow.side_by_side.is_on
    assert slow.game.window.overlay.shows_controls, "the keys are known before the world is there"


def test_a_screenshot_is_the_picture_without_the_numbers(game: Game, tmp_path: Path) -> None:
    game.window.overlay.shows_numbers = True
    game.play()
    game.obey(Command.SCREENSHOT)
    (path,) = tmp_path.glob("clip_frame*.png")
    picture = pygame.image.load(path)
    assert picture.get_size() == (960, 720)
    seen = game.window.screen
    assert picture.get_at((480, 360)) == seen.get_at((480, 360))
    assert picture.get_at((30, 30)) != seen.get_at((30, 30)), "the numbers are drawn here"


def test_every_overlay_can_be_switched_and_drawn(game: Game) -> None:
    game.play()
    for scancode in (pygame.KSCAN_F1, pygame.KSCAN_F2, pygame.KSCAN_F6):
        press(scancode)
        play_on(game, 2)
    overlay = game.window.overlay
    assert overlay.shows_controls
    assert overlay.shows_numbers
    assert overlay.is_recording
    game.recording_control.close()


def test_what_the_world_gets_ready_for_is_on_the_screen_for_as_long_as_that_takes() -> None:
    pygame.font.init()
    hud, drawn = Hud(), []
    for waiting in ("“a red ball” is being encoded", ""):
        surface = pygame.Surface((640, 480))
        hud.draw(surface, Overlay(waiting=waiting, shows_numbers=False))
        drawn.append(pygame.image.tobytes(surface, "RGB"))
    assert drawn[0] != drawn[1] == bytes(len(drawn[1]))


def drawn_texts(monkeypatch: pytest.MonkeyPatch, module: str) -> list[str]:
    """What a module writes from now on."""
    texts: list[str] = []

    def note(text: str, *rest: Any) -> pygame.Surface:
        texts.append(text)
        return words(text, *rest)

    monkeypatch.setattr(f"{module}.words", note)
    return texts


def test_the_numbers_that_a_player_cares_for_are_on_the_screen_with_the_others(
    game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the place, not what never changes, not what nobody knows."""
    game.source = InLine(lambda: Session(PlacedWorld(), lambda _: game.devices.take()))
    texts = drawn_texts(monkeypatch, "worldmodel.game.hud")
    game.play()
    assert game.window.overlay.known == "health 42   score 1234"
    assert "health 42   score 1234" not in texts, "numbers are off until F2"
    press(pygame.KSCAN_F2)
    play_on(game, 2)
    assert "health 42   score 1234" in texts


def test_a_world_that_knows_nothing_of_its_player_has_no_line(game: Game) -> None:
    game.play()
    assert game.window.overlay.known == ""


def test_how_far_the_players_are_apart_is_beside_the_real_game(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = Input(Controls())
    world = PlacedWorld(aside=3.0)
    source = InLine(lambda: Session(world, lambda _: devices.take()))
    side_by_side = SideBySide(open_telling, lambda _: None, begins=True)
    camera = RecordingControl(Place(tmp_path, "clip"), lambda _: None)
    texts = drawn_texts(monkeypatch, "worldmodel.reference.side_by_side")
    game = Game(source, window, devices, camera, side_by_side=side_by_side, frames=3)
    try:
        ends = time.monotonic() + 60
        while "places 3.0 units apart" not in texts:
            assert time.monotonic() < ends
            play_on(game, 1)
            time.sleep(0.02)
    finally:
        side_by_side.close()
    assert not [text for text in texts if "units apart" in text and "3.0" not in text]
