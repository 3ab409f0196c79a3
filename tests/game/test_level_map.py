"""The map of the level, and play that begins anywhere on it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import DrawnWorld
from tests.worlds.make_world import STATE, make_world
from worldmodel.action import IDLE
from worldmodel.config import UserError
from worldmodel.game.cli import main
from worldmodel.game.controls import Command, Controls
from worldmodel.game.free_space import FreeSpace
from worldmodel.game.generator import InLine
from worldmodel.game.input import Input
from worldmodel.game.jumps import ToSpot
from worldmodel.game.level_map import LARGE, SMALL, LevelMap
from worldmodel.game.loop import Game
from worldmodel.game.panels import GREY
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.game.recording_control import Place, RecordingControl
from worldmodel.game.timeline import TimelineEntry
from worldmodel.game.window import Window
from worldmodel.storage.recording import read_recording
from worldmodel.world import Level, SavedState, Split, Spot
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("map") / "placed", is_placed=True)


@pytest.fixture(scope="module")
def world(folder: Path) -> NativeWorld:
    return NativeWorld.load(folder, RunSettings(engine="torch", dtype="float32", threads=1))


@pytest.fixture
def game(world: NativeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Game]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    devices = Input(Controls())
    source = InLine(lambda: Session(world, lambda _: devices.take()))
    recording_control = RecordingControl(Place(tmp_path, "clip"), lambda _: None)
    with Window("test") as window:
        yield Game(source, window, devices, recording_control, frames=3)


def place_of(world: NativeWorld) -> tuple[float, float, float]:
    assert world.state is not None
    x, y, heading = (float(world.state[STATE.index(name)]) for name in ("x", "y", "heading"))
    return x, y, heading


def test_play_begins_at_any_place_and_every_time_alike(world: NativeWorld) -> None:
    first = world.stand(Spot(20.0, -10.0, 450.0), seed=1)
    assert place_of(world) == (20.0, -10.0, 90.0)
    other = world.stand(Spot(80.0, 20.0, 90.0), seed=1)
    assert not np.array_equal(first, other)
    assert np.array_equal(world.stand(Spot(20.0, -10.0, 90.0), seed=1), first)


def test_where_nobody_can_stand_play_does_not_begin_and_the_nearest_place_is_named(
    world: NativeWorld,
) -> None:
    with pytest.raises(
        UserError, match=r"nobody can stand at 98, 0, 0°.*nearest place is 94, 0, 0°"
    ):
        world.stand(Spot(98.0, 0.0, 0.0), seed=0)


def test_a_click_on_the_large_map_begins_there_and_a_restart_too(
    game: Game, world: NativeWorld
) -> None:
    game.play()
    chart = game.window.overlay.chart
    assert chart is not None
    game.devices.captured = True
    game.obey(Command.MAP)
    assert chart.size == SMALL
    assert game.devices.captured
    game.obey(Command.MAP)
    assert chart.size == LARGE
    assert not game.devices.captured, "the mouse points at the map"
    game.window.draw()
    wanted = Spot(70.0, 25.0, 30.0)
    place = next(
        (i, j)
        for i in range(game.window.screen.get_width())
        for j in range(game.window.screen.get_height())
        if (spot := chart.spot_at((i, j))) and abs(spot.x - 70) < 0.2 and abs(spot.y - 25) < 0.2
    )
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=place))
    game.frames = (game.frames or 0) + 1
    game.play()
    x, y, heading = place_of(world)
    assert (x, y) == pytest.approx((wanted.x, wanted.y), abs=1.0)
    assert heading == pytest.approx(30.0)
    game.obey(Command.RESTART)
    game.frames += 1
    game.play()
    assert place_of(world)[:2] == pytest.approx((wanted.x, wanted.y), abs=1.0)
    game.obey(Command.NEXT_START)
    game.frames += 1
    game.play()
    assert place_of(world)[0] == pytest.approx(50.0, abs=3.0)


def test_the_map_shows_ground_way_and_player(game: Game) -> None:
    game.play()
    chart = game.window.overlay.chart
    assert chart is not None
    without = pygame.surfarray.array3d(game.window.screen)
    chart.size = SMALL
    game.window.draw()
    small = pygame.surfarray.array3d(game.window.screen)
    changed = np.argwhere((small != without).any(axis=-1))
    wide, high = game.window.screen.get_size()
    assert changed[:, 0].min() > wide / 2
    assert changed[:, 1].min() > high / 2
    assert (small == (255, 196, 61)).all(axis=-1).any(), "an arrow"


def step_at(segment: int, x: float, y: float, back_to: int | None = None) -> PlayedFrame:
    """Somebody stands at a place."""
    frame = np.zeros((8, 16, 3), np.uint8)
    return PlayedFrame(
        segment=segment,
        start=0,
        seed=0,
        index=1,
        action=IDLE,
        frame=frame,
        event_time=None,
        sampled_time=0.0,
        ready_time=0.0,
        time=0.0,
        split=Split(),
        count=1,
        past=TimelineEntry(0, IDLE, frame, SavedState({}, {}), 0),
        back_to=back_to,
        state=tuple({"x": x, "y": y}.get(name, 0.0) for name in STATE.names),
    )


def way_on(chart: LevelMap) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Where the large map shows the walked way: columns and rows of a window."""
    surface = pygame.Surface((640, 480))
    chart.size = LARGE
    chart.draw(surface, FreeSpace((640, 480), ()), 16)
    return (pygame.surfarray.array3d(surface) == GREY).all(axis=-1)


def test_the_walked_way_is_a_line_from_place_to_place(world: NativeWorld) -> None:
    assert world.level is not None
    chart = LevelMap(world.level, STATE)
    chart.follow(step_at(0, 20.0, 0.0))
    assert not way_on(chart).any(), "who stands has walked nowhere"
    chart.follow(step_at(0, 21.0, 0.0))
    assert not way_on(chart).any(), "less than three units are one point"
    for x in (30.0, 50.0, 70.0):
        chart.follow(step_at(0, x, 0.0))
    along = np.argwhere(way_on(chart))
    assert np.ptp(along[:, 1]) == 0, "a walk along x is level"
    chart.follow(step_at(0, 70.0, 25.0))
    turned = np.argwhere(way_on(chart))
    assert np.ptp(turned[:, 1]) == pytest.approx(np.ptp(along[:, 0]) / 2, abs=16)


@pytest.mark.parametrize(("segment", "back_to"), [(1, None), (0, 0)])
def test_nobody_walked_to_where_a_start_or_the_way_back_leads(
    segment: int, back_to: int | None, world: NativeWorld
) -> None:
    assert world.level is not None
    chart = LevelMap(world.level, STATE)
    for x in (10.0, 20.0, 70.0):
        chart.follow(step_at(0, x, 0.0))
    before = way_on(chart).sum()
    chart.follow(step_at(segment, 20.0, 20.0, back_to))
    assert way_on(chart).sum() == pytest.approx(before, abs=16)  # less what the arrow covers
    chart.follow(step_at(segment, 70.0, 20.0))
    assert way_on(chart).sum() == pytest.approx(2 * before, rel=0.3)


def test_a_place_that_is_not_known_is_no_point_of_the_way(world: NativeWorld) -> None:
    assert world.level is not None
    chart = LevelMap(world.level, STATE)
    for x in (10.0, 60.0):
        chart.follow(step_at(0, x, 0.0))
    before = way_on(chart)
    assert before.any()
    chart.follow(step_at(0, float("nan"), 0.0))
    np.testing.assert_array_equal(way_on(chart), before)


def test_the_small_map_finds_room_beside_the_numbers_and_keys(game: Game) -> None:
    game.play()
    overlay = game.window.overlay
    assert overlay.chart is not None
    overlay.shows_numbers = True
    game.window.draw()
    before = pygame.surfarray.array3d(game.window.screen)
    overlay.chart.size = SMALL
    game.window.draw()
    assert (pygame.surfarray.array3d(game.window.screen) != before).any(), "it is not left out"


def test_a_world_without_places_says_so() -> None:
    with pytest.raises(UserError, match="does not know places"):
        Session(DrawnWorld(), lambda _: Input(Controls()).take(), spot=Spot(0, 0, 0)).begin()
    session = Session(DrawnWorld(), lambda _: Input(Controls()).take())
    session.begin()
    with pytest.raises(UserError, match="does not know places"):
        session.turn(ToSpot(Spot(0, 0, 0)))
    assert session.spot is None


def test_a_session_from_a_place_is_recorded_and_replayed(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def open_world(choice: object) -> NativeWorld:
        del choice
        return NativeWorld.load(folder, RunSettings(engine="torch", dtype="float32", threads=1))

    play: Callable[..., int] = lambda *words: main(list(words), open_world)  # noqa: E731
    common = ("--headless", "--world", str(folder))
    assert play(*common, "--at", "20,-10,90", "--frames", "6", "--record", "walk") == 0
    header, rows = read_recording(tmp_path / "walk.jsonl")
    assert header.state is not None
    assert rows[0].state is not None
    assert rows[0].state[:2] == pytest.approx((20.0, -10.0))
    assert play("--headless", "--world", str(folder), "--replay", "walk.jsonl") == 0
    assert "7 of 7 frames identical" in capsys.readouterr().out
    assert play(*common, "--at", "99,0,0", "--frames", "2") == 2
    assert "nobody can stand at" in capsys.readouterr().err
    for other in (("--start", "1"), ("--replay", "walk.jsonl"), ("--side-by-side",)):
        assert play(*common, "--at", "20,-10,90", *other) == 2
        assert f"--at and {other[0]}: " in capsys.readouterr().err
    (tmp_path / "walk.moment").unlink()
    assert play("--headless", "--world", str(folder), "--replay", "walk.jsonl") == 2
    said = capsys.readouterr().err
    assert "at a place of the map ('20, -10, 90°'), and walk.moment" in said
    with pytest.raises(SystemExit):
        play("--at", "here")
    assert "three numbers like" in capsys.readouterr().err


def test_a_level_that_nobody_walked_is_drawn_empty() -> None:
    chart = LevelMap(Level(np.zeros((20, 10), np.uint8), (0.0, 0.0), 1.0), STATE)
    chart.size = LARGE
    assert chart.spot_at((5, 5)) is None
    assert Level(np.zeros((20, 10), np.uint8), (0.0, 0.0), 1.0).nearest(3.0, 3.0) == (10.5, 5.5)
