"""What a turn is: frames, going back, saving and loading, on the drawn and on a learned world."""

import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests.game.drawn_world import DrawnWorld
from tests.game.walks import play, random_take, wait_for
from worldmodel import __file__ as package
from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.game.controls import Command
from worldmodel.game.input import Taken
from worldmodel.game.jumps import ToMoment, ToSpot, ToStart
from worldmodel.game.play_session import Keeping, Session, resolved
from worldmodel.game.save_worker import SaveWorker
from worldmodel.model.transformer import WorldTransformer
from worldmodel.storage.moments import list_moments, save_moment
from worldmodel.world import Spot, World
from worldmodel.worlds.native import NativeWorld

PACKAGE = Path(package).parent


def test_holding_the_key_runs_back_and_letting_go_branches_there(world: World) -> None:
    session = Session(world, random_take(world), seed=1)
    steps = [session.begin(), *play(session, 30)]
    session.turn(Command.REWIND)
    back = [session.advance() for _ in range(4)]
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


def test_a_key_reaches_the_network_in_five_calls(
    learned: NativeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From what a turn is to the transformer: who reads along has to open no more than that."""
    session = Session(learned, random_take(learned), seed=1)
    session.begin()
    calls: list[list[str]] = []
    real = WorldTransformer.forward

    def forward(*given: Any) -> Tensor:
        frames = [f for f in traceback.extract_stack() if PACKAGE in Path(f.filename).parents]
        calls.append([frame.name for frame in frames])
        return real(*given)

    monkeypatch.setattr(WorldTransformer, "forward", forward)
    session.advance()
    # The first pass is a denoising step; the transformer's own call comes after these.
    assert calls[0] == ["advance", "generate", "denoise", "denoise"]


def test_going_back_gets_faster_and_ends_at_the_oldest_frame(world: World) -> None:
    session = Session(world, random_take(world), seed=1)
    session.begin()
    play(session, 150)
    session.turn(Command.REWIND)
    seen = []
    while (one := session.advance()) is not None:
        seen.append(one.index)
    assert seen[0] == 149
    assert seen[-1] == 0
    assert len(seen) < 100
    assert session.advance() is None, "it stays there"
    session.turn(Command.GO_ON)
    assert play(session, 1)[0].index == 1


def test_going_back_takes_a_frame_a_period_even_where_play_has_no_limit() -> None:
    session = Session(DrawnWorld(), random_take(DrawnWorld()))
    session.begin()
    play(session, 20)
    session.turn(Command.REWIND)
    session.advance()
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
    session.advance()
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
    play_back = [session.advance() for _ in range(15)]
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
        session.advance()
    session.turn(Command.SAVE)
    assert save_worker.last is not None
    assert save_worker.last.header.index == 7
    assert play(session, 1)[0].back_to == 7


def test_a_frame_is_of_what_was_done_in_it_as_far_as_the_world_knows_it() -> None:
    world = DrawnWorld()
    done = Action(frozenset({"KeyD", "KeyX"}), (40.0, 5.0))
    asked: list[int] = []

    def take(index: int) -> Taken:
        asked.append(index)
        return Taken(done, 12.5)

    session = Session(world, take, start=1, seed=3)
    first = session.begin()
    np.testing.assert_array_equal(first.frame, DrawnWorld().reset(1, 3))
    assert (first.action, first.event_time, first.index) == (IDLE, None, 0)
    steps = play(session, 2)
    assert asked == [1, 2]
    assert [(s.index, s.count, s.segment, s.event_time) for s in steps] == [
        (1, 1, 1, 12.5),
        (2, 2, 1, 12.5),
    ]
    assert steps[0].action == world.actions.known(done)
    assert steps[0].action.buttons == {"KeyD"}
    assert [entry.split.clean for entry in (*steps, *play(session, 1))] == [0.0, 0.5, 0.5]


def test_a_frame_is_remembered_once_and_only_a_made_one() -> None:
    world = DrawnWorld()
    session = Session(world, random_take(world))
    session.begin()
    session.remember()
    assert "remember" not in world.calls, "a start is the past already"
    session.advance()
    session.remember()
    session.remember()
    assert world.calls.count("remember") == 1
    assert session.timeline.newest.index == 1


def test_a_start_is_gone_to_by_its_number_and_the_last_one_leads_to_the_first() -> None:
    session = Session(DrawnWorld(), random_take(DrawnWorld()), seed=2)
    session.begin()
    play(session, 3)
    seen = [session.turn(order) for order in (ToStart(1), Command.NEXT_START, Command.RESTART)]
    assert [(one.start, one.index, one.segment) for one in seen if one] == [
        (1, 0, 2),
        (0, 0, 3),
        (0, 0, 4),
    ]
    for one, start in zip(seen, (1, 0, 0), strict=True):
        assert one is not None
        np.testing.assert_array_equal(one.frame, DrawnWorld().reset(start, 2))


def test_a_place_that_the_world_does_not_know_is_told_and_play_stays_where_it_is(
    save_worker: SaveWorker,
) -> None:
    world, spot = DrawnWorld(), Spot(1.0, 2.0, 3.0)
    session = Session(world, random_take(world), keeping=Keeping(save_worker=save_worker))
    session.begin()
    play(session, 4)
    assert session.turn(ToSpot(spot)) is None
    assert list(save_worker.notices()) == ["drawn does not know places: it begins at its starts"]
    assert session.spot is None
    assert play(session, 1)[0].index == 5
    alone = Session(world, random_take(world))
    alone.begin()
    with pytest.raises(UserError, match="does not know places"):
        alone.turn(ToSpot(spot))


def test_a_moment_of_another_size_or_world_leaves_all_as_it_was(save_worker: SaveWorker) -> None:
    world = DrawnWorld()
    session = Session(world, random_take(world), keeping=Keeping(save_worker=save_worker))
    session.begin()
    play(session, 4)
    kept = session.moment()
    small = replace(kept, frame=kept.frame[:10])
    other = replace(kept, header=replace(kept.header, identity={"world": "other"}))
    for moment, message in ((small, "its picture is [10, 64]"), (other, "it belongs to")):
        path = save_worker.folder / f"{message[:3].strip()}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_moment(path, moment)
        assert session.turn(ToMoment(path)) is None
        (told,) = save_worker.notices()
        assert told.startswith("not loaded: ")
        assert message in told
        assert play(session, 1)[0].segment == 1
    assert session.index == 6


def test_an_earlier_moment_has_the_actions_that_led_to_it() -> None:
    session = Session(DrawnWorld(), random_take(DrawnWorld()), seed=6)
    session.begin()
    steps = play(session, 8)
    past = steps[5].past
    moment = session.moment(past)
    assert moment.header.index == len(moment.history) == past.index == 5
    assert [moment.history[i] for i in range(5)] == [step.action for step in steps[:5]]
    assert (moment.header.seed, moment.header.start, moment.header.caption) == (
        6,
        0,
        "the red room",
    )
    assert moment.header.seconds == 5 / 30
    session.timeline.go_to(2)
    assert len(session.moment(past).history) == 5
    assert session.moment(past).history.unknown == 5, "play has jumped: what led here is not known"


def test_kept_settings_say_what_auto_became_and_no_path_of_this_machine() -> None:
    asked = {"world": "/home/somebody/worlds/mine", "start": "../clip.mp4", "dtype": "auto"}
    found = resolved(asked, {"dtype": "float32", "world": "drawn", "engine": "torch"})
    assert found == {"world": "mine", "start": "clip.mp4", "dtype": "float32"}
    assert resolved({"world": "doom-places", "start": None}, {}) == {
        "world": "doom-places",
        "start": None,
    }


def test_after_its_end_the_next_turn_begins_an_episode_of_another_seed() -> None:
    class Ends(DrawnWorld):
        @property
        def is_over(self) -> bool:
            return self.frames >= 3

    session = Session(Ends(), random_take(DrawnWorld()), seed=4)
    session.begin()
    play(session, 3)
    step = session.advance()
    assert step is not None
    assert (step.index, step.seed, step.segment) == (0, 5, 2)
    session.turn(Command.REWIND)
    assert play(session, 1)[0].index == 1, "what ends has no way back"
