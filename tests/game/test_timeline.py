"""Going back, branching, saving and loading in play, on the drawn world and on a learned one."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.game.drawn_world import DrawnWorld
from tests.worlds.make_world import make_world
from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.game.controls import Command
from worldmodel.game.input import Taken
from worldmodel.game.play_session import Keeping, Session
from worldmodel.game.save_worker import SaveWorker
from worldmodel.game.step import Step
from worldmodel.game.timeline import Timeline, first_past
from worldmodel.players import RandomPlayer
from worldmodel.storage.action_history import History
from worldmodel.storage.moments import list_moments
from worldmodel.world import Frame, World, step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

RIGHT = Action(frozenset({"KeyD"}), (3.0, 0.0))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> NativeWorld:
    folder = make_world(tmp_path_factory.mktemp("w") / "tiny")
    return NativeWorld.load(folder, RunSettings(threads=1, engine="torch", dtype="float32"))


@pytest.fixture(params=["drawn", "learned"])
def world(request: pytest.FixtureRequest, learned: NativeWorld) -> World:
    return DrawnWorld() if request.param == "drawn" else learned


@pytest.fixture
def save_worker(tmp_path: Path) -> Iterator[SaveWorker]:
    save_worker = SaveWorker(tmp_path / "moments")
    yield save_worker
    save_worker.close(None)


def play(session: Session, frames: int) -> list[Step]:
    steps = []
    for _ in range(frames):
        step = session.turn(None)
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


def timeline_of(world: World, frames: int, megabytes: float = 256) -> tuple[Timeline, list[Frame]]:
    timeline = Timeline(world, megabytes)
    seen = [world.reset(0, 7)]
    timeline.begin(first_past(0, IDLE, seen[0], world.save_state()), History())
    player = RandomPlayer(world.actions, seed=2)
    for i in range(1, frames + 1):
        seen.append(step(world, player.act(i)))
        timeline.add(player.act(i), seen[i])
    return timeline, seen


def test_a_branch_equals_a_walk_that_never_took_the_other_way(world: World) -> None:
    timeline, seen = timeline_of(world, 30)
    np.testing.assert_array_equal(timeline.go_to(11), seen[11])
    branch = [step(world, RIGHT) for _ in range(8)]
    player = RandomPlayer(world.actions, seed=2)
    world.reset(0, 7)
    for i in range(1, 12):
        step(world, player.act(i))
    np.testing.assert_array_equal(branch, [step(world, RIGHT) for _ in range(8)])
    assert len(timeline.history) == 11


@pytest.mark.parametrize("index", [0, 3, 29])
def test_what_has_left_the_ring_is_played_again(world: World, index: int) -> None:
    timeline, seen = timeline_of(world, 30, megabytes=0.04)
    assert timeline.oldest > 3
    np.testing.assert_array_equal(timeline.go_to(index), seen[index])
    assert timeline.newest.index == len(timeline.history) == index
    player = RandomPlayer(world.actions, seed=2)
    for i in range(index + 1, 31):
        np.testing.assert_array_equal(step(world, player.act(i)), seen[i])


def test_the_ring_keeps_to_its_memory(world: World) -> None:
    timeline, _ = timeline_of(world, 200, megabytes=0.5)
    assert timeline.megabytes <= 0.5
    assert timeline.newest.index - timeline.oldest >= 20
    with pytest.raises(UserError, match="frame 201 cannot be gone back to"):
        timeline.go_to(201)


def test_holding_the_key_runs_back_and_letting_go_branches_there(world: World) -> None:
    session = Session(world, random_take(world), seed=1)
    steps = [session.begin(), *play(session, 30)]
    session.turn(Command.REWIND)
    back = [session.turn(None) for _ in range(4)]
    assert [one.index for one in back if one] == [29, 28, 27, 26]
    for one in back:
        assert one is not None
        assert one.is_past
        np.testing.assert_array_equal(one.frame, steps[one.index].frame)
    session.turn(Command.GO_ON)
    again = play(session, 4)
    assert [one.index for one in again] == [27, 28, 29, 30]
    assert [one.back_to for one in again] == [26, None, None, None]
    for one in again:
        np.testing.assert_array_equal(one.frame, steps[one.index].frame)


def test_going_back_gets_faster_and_ends_at_the_oldest_frame(world: World) -> None:
    session = Session(world, random_take(world), seed=1)
    session.begin()
    play(session, 150)
    session.turn(Command.REWIND)
    seen = []
    while (one := session.turn(None)) is not None:
        seen.append(one.index)
    assert seen[0] == 149
    assert seen[-1] == 0
    assert len(seen) < 100
    assert session.turn(None) is None, "it stays there"
    session.turn(Command.GO_ON)
    assert play(session, 1)[0].index == 1


def test_going_back_takes_a_frame_a_period_even_where_play_has_no_limit() -> None:
    session = Session(DrawnWorld(), random_take(DrawnWorld()))
    session.begin()
    play(session, 20)
    session.turn(Command.REWIND)
    session.turn(None)
    wait = session.seconds_to_wait()
    assert wait is not None
    assert 0.01 < wait <= 1 / 30


def test_paused_one_can_go_back_and_rests_there(world: World) -> None:
    session = Session(world, random_take(world))
    session.begin()
    play(session, 10)
    session.turn(Command.PAUSE)
    assert session.seconds_to_wait() is None
    session.turn(Command.REWIND)
    assert session.seconds_to_wait() is not None
    session.turn(None)
    session.turn(Command.GO_ON)
    assert session.seconds_to_wait() is None
    assert session.index == 9


def test_a_saved_moment_is_loaded_in_play_and_in_another_session(
    world: World, save_worker: SaveWorker
) -> None:
    keeping = Keeping(settings={"world": None}, save_worker=save_worker)
    session = Session(world, random_take(world), seed=1, keeping=keeping)
    session.begin()
    play(session, 12)
    session.turn(Command.SAVE)
    expected = play(session, 10)
    loaded = session.turn(Command.LOAD)
    assert loaded is not None
    assert (loaded.index, loaded.segment, loaded.count) == (12, 2, 0)
    again = play(session, 10)
    np.testing.assert_array_equal([s.frame for s in expected], [s.frame for s in again])

    wait_for(lambda: bool(list_moments(world.name, save_worker.folder)))
    other = SaveWorker(save_worker.folder)
    moment = other.newest(world.name)
    other.close(None)
    session = Session(world, random_take(world), seed=9, moment=moment)
    assert session.begin().index == 12
    assert session.seed == 1
    again = play(session, 10)
    np.testing.assert_array_equal([s.frame for s in expected], [s.frame for s in again])
    session.turn(Command.REWIND)
    play_back = [session.turn(None) for _ in range(15)]
    assert [one.index for one in play_back if one][-1] == 12, "the past begins at the moment"


def test_loading_without_anything_saved_says_so_and_play_goes_on(save_worker: SaveWorker) -> None:
    session = Session(
        DrawnWorld(), random_take(DrawnWorld()), keeping=Keeping(save_worker=save_worker)
    )
    session.begin()
    assert session.turn(Command.LOAD) is None
    assert list(save_worker.notices()) == ["not loaded: nothing is saved of drawn yet, F5 saves"]
    play(session, 1)


def test_saving_while_going_back_keeps_the_frame_that_is_seen(save_worker: SaveWorker) -> None:
    session = Session(
        DrawnWorld(), random_take(DrawnWorld()), keeping=Keeping(save_worker=save_worker)
    )
    session.begin()
    play(session, 10)
    session.turn(Command.REWIND)
    for _ in range(3):
        session.turn(None)
    session.turn(Command.SAVE)
    assert save_worker.last is not None
    assert save_worker.last.header.index == 7
    assert play(session, 1)[0].back_to == 7


def test_autosaves_come_by_themselves_and_go_with_a_good_end(tmp_path: Path) -> None:
    save_worker = SaveWorker(tmp_path, period=0.01)
    session = Session(
        DrawnWorld(), random_take(DrawnWorld()), keeping=Keeping(save_worker=save_worker)
    )
    session.begin()
    while save_worker.autosaves < 3:
        play(session, 1)
        time.sleep(0.002)
    (path,) = tmp_path.glob("drawn/autosave-*.safetensors")
    assert path.is_file()
    save_worker.close(None)
    assert list(tmp_path.glob("drawn/*")) == []


def test_a_session_that_broke_leaves_its_last_moment(tmp_path: Path) -> None:
    save_worker = SaveWorker(tmp_path)
    session = Session(
        DrawnWorld(), random_take(DrawnWorld()), keeping=Keeping(save_worker=save_worker)
    )
    session.begin()
    play(session, 7)
    save_worker.close(session.moment())
    (kept,) = list_moments("drawn", tmp_path)
    assert kept.is_autosave
    assert kept.header.index == 7


def test_a_disk_that_refuses_costs_neither_play_nor_the_moment(tmp_path: Path) -> None:
    (tmp_path / "moments").write_text("a file where a folder should be", encoding="utf-8")
    save_worker = SaveWorker(tmp_path / "moments", period=0.0)
    session = Session(
        DrawnWorld(), random_take(DrawnWorld()), keeping=Keeping(save_worker=save_worker)
    )
    session.begin()
    play(session, 3)
    session.turn(Command.SAVE)
    play(session, 30)
    loaded = session.turn(Command.LOAD)
    assert loaded is not None
    assert loaded.index == 3
    save_worker.close(None)
    told = list(save_worker.notices())
    assert sum("no autosave" in text for text in told) == 1
    assert sum("only in memory" in text for text in told) == 1
