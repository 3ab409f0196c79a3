"""What can go wrong in the middle of play, each tried, each with its stated result."""

import gc
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.game.drawn_world import DrawnWorld
from tests.game.walks import play, random_take, wait_for
from tests.worlds.make_world import make_world
from worldmodel.action import IDLE, Action
from worldmodel.game import play_clock
from worldmodel.game.choice import Choice
from worldmodel.game.cli import main
from worldmodel.game.controls import Command, Controls
from worldmodel.game.generator import Generator, InLine
from worldmodel.game.input import Input
from worldmodel.game.loop import Game
from worldmodel.game.play_session import Keeping, LostWorldError, Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.game.recording_control import Place, RecordingControl
from worldmodel.game.replay import Replay
from worldmodel.game.save_worker import SaveWorker
from worldmodel.game.window import Window
from worldmodel.storage.moments import list_moments
from worldmodel.storage.recording import read_recording
from worldmodel.world import Frame, SavedState, World
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

pygame = pytest.importorskip("pygame")

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
LOST_DEVICE = RuntimeError("CUDA error: device-side assert triggered")


class FaultyWorld(DrawnWorld):
    """Raises while `part` of frame `at` is made, `times` times; then it works again."""

    def __init__(self, part: str, at: int, error: Exception, times: int = 1) -> None:
        super().__init__()
        self.part, self.at, self.error, self.left = part, at, error, times
        self.is_lost = False

    def generate(self, action: Action) -> Frame:
        frame = super().generate(action)
        self._break("generate")
        return frame

    def remember(self) -> None:
        self._break("remember")
        super().remember()

    def load_state(self, state: SavedState) -> None:
        if self.is_lost:
            raise self.error
        super().load_state(state)

    def _break(self, part: str) -> None:
        if part == self.part and self.frames == self.at and self.left:
            self.left -= 1
            self._place += 1000.0  # whatever state it is in now is a wrong one
            raise self.error


def session_of(world: World, save_worker: SaveWorker | None) -> Session:
    return Session(world, random_take(world), seed=1, keeping=Keeping(save_worker=save_worker))


def walk(session: Session, frames: int) -> list[PlayedFrame]:
    """Turns until so many frames are there; a fault makes none."""
    steps: list[PlayedFrame] = []
    while len(steps) < frames:
        assert not session.paused
        if step := session.advance():
            steps.append(step)
            session.remember()
    return steps


@pytest.mark.parametrize("part", ["generate", "remember"])
@pytest.mark.parametrize("error", [RuntimeError("the worker broke"), OUT_OF_MEMORY, MemoryError()])
def test_a_fault_costs_a_frame_and_play_goes_on_as_if_it_had_not_been(
    save_worker: SaveWorker, part: str, error: Exception
) -> None:
    session = session_of(FaultyWorld(part, 8, error), save_worker)
    session.begin()
    steps = walk(session, 20)
    told = list(save_worker.notices())
    assert len(told) == 1
    assert f"frame 8: {type(error).__name__}" in told[0]
    assert "back at frame 7, it continues from there" in told[0]
    other = session_of(DrawnWorld(), None)
    other.begin()
    expected = {step.index: step.frame for step in play(other, 20)}
    for step in steps:
        np.testing.assert_array_equal(step.frame, expected[step.index])


def test_a_fault_that_comes_again_lets_the_world_rest_until_the_player_goes_on(
    save_worker: SaveWorker,
) -> None:
    session = session_of(FaultyWorld("generate", 5, OUT_OF_MEMORY, times=3), save_worker)
    session.begin()
    walk(session, 4)
    for is_resting in (False, True, True):
        if session.paused:
            session.turn(Command.PAUSE)
        assert session.advance() is None
        assert session.paused is is_resting
    assert "paused there, P continues" in list(save_worker.notices())[-1]
    session.turn(Command.PAUSE)
    assert [step.index for step in walk(session, 3)] == [5, 6, 7]


def test_a_recording_across_a_fault_replays(
    save_worker: SaveWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = session_of(FaultyWorld("remember", 8, LOST_DEVICE), save_worker)
    recording_control = RecordingControl(Place(tmp_path, "clip"), lambda _: None)
    recording_control.is_rolling = True
    recording_control.show(session, session.begin(), None)
    for _ in range(20):
        if step := session.advance():
            recording_control.show(session, step, None)
            session.remember()
    recording_control.close()
    rows = read_recording(tmp_path / "clip.jsonl")[1]
    assert [row.back_to for row in rows if row.back_to is not None] == [7]
    replay = Replay.read(tmp_path / "clip.jsonl")
    again = Session(DrawnWorld(), replay.take, seed=1)
    replay.check(again.begin())
    for step in play(again, len(rows) - 1):
        replay.check(step)
    assert replay.verdict() == f"{len(rows)} of {len(rows)} frames identical"
    del capsys


def test_a_device_that_stays_away_ends_play_and_keeps_the_last_good_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("WORLDMODEL_DATA", str(tmp_path / "data"))

    def open_world(_: Choice) -> World:
        world = FaultyWorld("generate", 9, LOST_DEVICE)
        world.is_lost = True
        return world

    assert main(["--fps", "0", "--record", "clip"], open_world) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "frame 9: RuntimeError: CUDA error" in error
    assert "play ended at frame 8, which is kept: --load goes on from there" in error
    assert len(read_recording(Path("clip.jsonl"))[1]) == 9
    assert main(["--load", "--headless", "--frames", "3"], lambda _: DrawnWorld()) == 0
    assert "going on from frame 8" in capsys.readouterr().out


def test_a_session_whose_display_goes_away_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("WORLDMODEL_DATA", str(tmp_path / "data"))
    count = itertools.count()

    def flip() -> None:
        if next(count) > 12:
            raise pygame.error("X11 connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(pygame.display, "flip", flip)
        assert main(["--fps", "0", "--record", "clip"], lambda _: DrawnWorld()) == 2
    assert "the display went away: X11 connection broke; play ended" in capsys.readouterr().err
    (kept,) = list_moments("drawn")
    rows = read_recording(Path("clip.jsonl"))[1]
    assert kept.header.index >= rows[-1].index


def test_numbers_that_are_none_cost_a_frame_and_the_weight_is_named(
    save_worker: SaveWorker, tmp_path: Path
) -> None:
    settings = RunSettings(threads=1, engine="torch", dtype="float32")
    world = NativeWorld.load(make_world(tmp_path / "tiny"), settings)
    session = session_of(world, save_worker)
    session.begin()
    steps = walk(session, 6)
    bias = world.engine.model.unembed.bias  # type: ignore[attr-defined]  # torch's
    kept = bias.clone()
    bias[0] = torch.nan
    assert session.advance() is None
    told = "".join(save_worker.notices())
    assert "frame 7: WorldFaultError: its latents hold values that are not numbers" in told
    assert "the weight unembed.bias" in told
    bias.copy_(kept)
    steps += walk(session, 6)
    other = session_of(world, None)
    other.begin()
    for step, expected in zip(steps, play(other, 12), strict=True):
        np.testing.assert_array_equal(step.frame, expected.frame)


DEVICE_EVENTS = [
    getattr(pygame, name)
    for name in dir(pygame)
    if name.startswith(("JOY", "CONTROLLER", "AUDIO", "WINDOW", "APP_", "RENDER", "KEYMAP"))
    and isinstance(getattr(pygame, name), int)
    and pygame.QUIT <= getattr(pygame, name) < pygame.NUMEVENTS
]


def test_devices_come_and_go_without_a_trace(tmp_path: Path) -> None:
    world, devices = DrawnWorld(), Input(Controls())
    devices.learn(world.actions)
    for kind in DEVICE_EVENTS:
        facts = {"instance_id": 0, "device_index": 0, "value": 1.0, "axis": 0, "which": 0}
        assert devices.feed(pygame.event.Event(kind, facts)) is None
    assert devices.take().action == IDLE
    assert len(DEVICE_EVENTS) > 20
    assert not any(tmp_path.iterdir())


class FakeTime:
    """`time`, whose hours a test can move on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(play_clock, "time", fake)
    return fake


@pytest.mark.parametrize("asleep", [60.0, 3600.0, 86_400.0])
def test_a_night_in_a_closed_laptop_is_no_time_of_play(fake_time: FakeTime, asleep: float) -> None:
    session = Session(DrawnWorld(), random_take(DrawnWorld()), rate=20.0)
    session.begin()
    for _ in range(10):
        fake_time.now += 0.05
        before = play(session, 1)[0]
    fake_time.now += asleep
    after = play(session, 1)[0]
    assert 0 < after.time - before.time < 0.2
    assert session.seconds_to_wait() is not None
    assert session.seconds_to_wait() <= 0.05  # type: ignore[operator]  # asserted
    fake_time.now += 0.05
    assert play(session, 1)[0].time - after.time < 0.2


def test_sleep_in_the_middle_of_a_frame_is_no_time_of_play(fake_time: FakeTime) -> None:
    class Sleeper(DrawnWorld):
        def generate(self, action: Action) -> Frame:
            if self.frames == 10:
                fake_time.now += 3600
            return super().generate(action)

    session = Session(Sleeper(), random_take(DrawnWorld()), rate=20.0)
    session.begin()
    steps = []
    for _ in range(15):
        fake_time.now += 0.05
        steps += play(session, 1)
    times = [step.time for step in steps]
    assert times == sorted(times)
    assert times[-1] < 3


def test_a_slow_world_is_not_taken_for_sleep(fake_time: FakeTime) -> None:
    class Slow(DrawnWorld):
        def generate(self, action: Action) -> Frame:
            fake_time.now += 20
            return super().generate(action)

    session = Session(Slow(), random_take(DrawnWorld()), rate=20.0)
    session.begin()
    steps = play(session, 10)
    assert steps[-1].time - steps[0].time > 170


@pytest.mark.parametrize("kind", [Generator, InLine])
def test_a_window_that_is_held_for_a_while_gets_the_next_frame_afterwards(
    kind: Callable[..., Any],
) -> None:
    with kind(lambda: Session(DrawnWorld(), random_take(DrawnWorld()), rate=200.0)) as source:
        seen: list[int] = []

        def look() -> bool:
            if step := source.poll():
                seen.append(step.index)
            return len(seen) >= 5

        wait_for(look)
        time.sleep(0.5)  # nobody looks: a title bar is held
        before = len(seen)
        wait_for(lambda: look() and len(seen) >= before + 5)
        assert seen == list(range(len(seen))), "no frame is lost, and none was made ahead"


def test_saves_loads_and_rewinding_at_random_never_break_a_session(
    save_worker: SaveWorker, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    session = session_of(FaultyWorld("generate", 30, LOST_DEVICE, times=2), save_worker)
    recording_control = RecordingControl(Place(tmp_path, "clip"), lambda _: None)
    recording_control.is_rolling = True
    recording_control.show(session, session.begin(), None)
    commands = [None] * 12 + [command for command in Command if command is not Command.NEXT_START]
    for i in random.integers(0, len(commands), 1500):
        step = session.turn(commands[i])
        if step:
            recording_control.show(session, step, None)
        session.remember()
        if session.paused and random.random() < 0.3:
            session.turn(Command.PAUSE)
    recording_control.close()
    assert recording_control.failure is None
    paths = sorted(tmp_path.glob("clip*.jsonl"))
    assert len(paths) > 5
    for path in paths:
        replay = Replay.read(path)
        again = Session(DrawnWorld(), replay.take, seed=1, moment=replay.moment)
        replay.check(again.begin())
        for step in play(again, len(replay.rows) - 1):
            replay.check(step)
        assert "frames identical" in replay.verdict(), path
        assert replay.same == len(replay.rows), path


def test_no_thread_and_no_file_stays_open_after_a_broken_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    before = threading.active_count()
    save_worker = SaveWorker(tmp_path / "moments")
    world = FaultyWorld("generate", 3, LOST_DEVICE)
    world.is_lost = True
    with Window("test") as window:
        devices = Input(Controls())
        source = Generator(lambda: session_of(world, save_worker))
        recording_control = RecordingControl(Place(tmp_path, "clip"), lambda _: None)
        recording_control.is_rolling = True
        game = Game(source, window, devices, recording_control, save_worker=save_worker)
        with pytest.raises(LostWorldError):
            game.play()
        recording_control.close()
        save_worker.close(None)
    gc.collect()
    assert threading.active_count() == before
