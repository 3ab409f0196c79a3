import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.game.drawn_world import DrawnWorld
from worldmodel.action import Action
from worldmodel.game.controls import Command
from worldmodel.game.generator import FrameSource, Generator, InLine
from worldmodel.game.input import Taken
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.players import RandomPlayer

Kind = Callable[[Callable[[], Session]], FrameSource]
BOTH = pytest.mark.parametrize("kind", [Generator, InLine])


def opener(world: DrawnWorld, rate: float = 0.0) -> Callable[[], Session]:
    player = RandomPlayer(world.actions, seed=3)
    return lambda: Session(world, lambda i: Taken(player.act(i), None), seed=1, rate=rate)


def next_step(source: FrameSource, seconds: float = 5.0) -> PlayedFrame:
    ends = time.perf_counter() + seconds
    while (step := source.poll()) is None:
        assert time.perf_counter() < ends, "no frame came"
        time.sleep(0.001)
    return step


def test_a_frame_is_handed_over_before_it_is_remembered() -> None:
    world = DrawnWorld()
    at_offer: list[list[str]] = []
    generator = Generator(opener(world), announce=lambda: at_offer.append(list(world.calls)))
    with generator:
        steps = [next_step(generator) for _ in range(4)]
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert at_offer[1] == ["reset", "generate"]
    assert at_offer[2] == ["reset", "generate", "remember", "generate"]


def test_the_action_is_taken_after_the_wait_and_right_before_the_frame() -> None:
    world, taken_at = DrawnWorld(), []

    def take(_: int) -> Taken:
        taken_at.append(time.perf_counter())
        world.calls.append("take")
        return Taken(Action(), None)

    with Generator(lambda: Session(world, take, rate=20.0)) as generator:
        for _ in range(4):
            next_step(generator)
    assert world.calls[:5] == ["reset", "take", "generate", "remember", "take"]
    assert taken_at[2] - taken_at[1] == pytest.approx(0.05, abs=0.03)


@BOTH
def test_a_broken_world_reaches_the_window_behind_the_frames_before_it(kind: Kind) -> None:
    with kind(opener(DrawnWorld(breaks_at=3))) as source:
        assert [next_step(source).index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(RuntimeError, match="the world broke"):
            next_step(source)


@BOTH
def test_a_world_that_cannot_be_opened_reaches_the_window(kind: Kind) -> None:
    def fail() -> Session:
        raise FileNotFoundError("no weights")

    with kind(fail) as source, pytest.raises(FileNotFoundError, match="no weights"):
        next_step(source)


@pytest.mark.parametrize("is_paused", [False, True])
def test_leaving_ends_the_thread_whatever_it_waits_for(is_paused: bool) -> None:
    before = threading.active_count()
    with Generator(opener(DrawnWorld(), rate=0.5)) as generator:
        next_step(generator)
        if is_paused:
            generator.send(Command.PAUSE)
        left = time.perf_counter()
    assert time.perf_counter() - left < 0.5
    assert threading.active_count() == before


def test_both_ways_give_the_same_frames() -> None:
    played: list[list[Any]] = []
    for kind in (Generator, InLine):
        with kind(opener(DrawnWorld())) as source:
            played.append([next_step(source) for _ in range(20)])
    for threaded, inline in zip(*played, strict=True):
        assert threaded.action == inline.action
        np.testing.assert_array_equal(threaded.frame, inline.frame)


@BOTH
def test_paused_the_world_rests_until_one_step_or_the_next_pause(kind: Kind) -> None:
    with kind(opener(DrawnWorld(), rate=100.0)) as source:
        next_step(source)
        source.send(Command.PAUSE)
        time.sleep(0.05)
        while source.poll():
            pass
        time.sleep(0.05)
        assert source.poll() is None
        source.send(Command.STEP)
        stepped = next_step(source)
        time.sleep(0.05)
        assert source.poll() is None
        source.send(Command.PAUSE)
        assert next_step(source).index == stepped.index + 1


def test_time_does_not_count_while_paused() -> None:
    session = opener(DrawnWorld())()
    session.begin()
    first = session.advance()
    session.remember()
    session.turn(Command.PAUSE)
    time.sleep(0.2)
    session.turn(Command.PAUSE)
    second = session.advance()
    assert first is not None
    assert second is not None
    assert 0 < second.time - first.time < 0.15


@BOTH
def test_restart_gives_the_same_frame_and_next_start_another(kind: Kind) -> None:
    with kind(opener(DrawnWorld(), rate=100.0)) as source:
        first = next_step(source)
        next_step(source)
        source.send(Command.RESTART)
        again = next_step(source)
        while again.segment == first.segment:
            again = next_step(source)
        source.send(Command.NEXT_START)
        other = next_step(source)
        while other.segment == again.segment:
            other = next_step(source)
    assert (again.index, again.start, other.index, other.start) == (0, 0, 0, 1)
    np.testing.assert_array_equal(first.frame, again.frame)
    assert (first.frame != other.frame).any()


def test_after_a_long_frame_at_most_one_comes_early() -> None:
    session = opener(DrawnWorld(), rate=50.0)()
    session.begin()
    time.sleep(0.2)  # ten frames late
    for _ in range(2):
        assert session.seconds_to_wait() == 0
        session.advance()
        session.remember()
    wait = session.seconds_to_wait()
    assert wait is not None
    assert wait > 0.01
