"""The real game beside the world: with one that draws the same, every frame must agree exactly."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.game.drawn_real import FORWARD, SAME, LearnedWorld, open_drawn
from tests.game.drawn_world import DrawnWorld
from worldmodel.action import Action
from worldmodel.game.controls import Command
from worldmodel.game.input import Taken
from worldmodel.game.play_session import Keeping, Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.game.reference_play import DIED, OVER, SideBySide
from worldmodel.game.save_worker import SaveWorker
from worldmodel.metrics import psnr as psnr_of_many
from worldmodel.players import RandomPlayer
from worldmodel.reference.game import SLIDES, psnr
from worldmodel.reference.process import CHUNK, RealGameError, RealProcess
from worldmodel.reference.side_by_side import View, draw_side_by_side
from worldmodel.world import World


class Stage:
    """A session and what is beside it, without a window."""

    def __init__(self, world: World, start: int = 0, save_worker: SaveWorker | None = None) -> None:
        self.told: list[str] = []
        player = RandomPlayer(world.actions, seed=3)
        self.acted = 0
        self.session = Session(
            world,
            lambda _: self._take(player),
            start=start,
            keeping=Keeping(save_worker=save_worker),
        )
        self.side_by_side = SideBySide(open_drawn, self.told.append)
        self.side_by_side.show(self.session, self.session.begin())

    def _take(self, player: RandomPlayer) -> Taken:
        self.acted += 1
        return Taken(player.act(self.acted), None)

    def play(self, frames: int) -> None:
        for _ in range(frames):
            self.turn(None)

    def turn(self, command: Command | None) -> PlayedFrame | None:
        """A step is shown before or after it is remembered, as threads have it."""
        step = self.session.turn(command) if command else self.session.advance()
        if step and self.acted % 2:
            self.side_by_side.show(self.session, step)
        if step and not step.is_past:
            self.session.remember()
        if step and not self.acted % 2:
            self.side_by_side.show(self.session, step)
        self.side_by_side.poll()
        return step

    def settle(self) -> None:
        ends = time.monotonic() + 30
        while self.side_by_side._wanted or self.side_by_side._waiting:
            assert time.monotonic() < ends
            self.side_by_side.poll()
            time.sleep(0.002)

    def frames_that_agree(self) -> list[int]:
        self.settle()
        points = self.side_by_side.points
        assert all(db == pytest.approx(SAME, abs=0.01) for _, db in points), points
        return [index for index, _ in points]


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(world: World | None = None, **options: Any) -> Stage:
        made.append(Stage(world or LearnedWorld(), **options))
        return made[-1]

    yield make
    for one in made:
        one.side_by_side.close()


def test_the_same_keys_from_the_same_start_give_the_same_frames(
    stage: Callable[..., Stage],
) -> None:
    it = stage()
    it.side_by_side.toggle(it.session)
    it.turn(Command.RESTART)
    it.play(40)
    assert it.frames_that_agree() == list(range(41))
    view = it.side_by_side.view
    assert view is not None
    assert view.real is not None
    np.testing.assert_array_equal(view.real, view.world)
    assert it.told == []


def test_switched_on_in_the_middle_it_catches_up_with_all_that_was_done(
    stage: Callable[..., Stage],
) -> None:
    it = stage(start=1)
    it.play(2 * CHUNK + 20)
    it.side_by_side.toggle(it.session)
    it.play(5)
    now = it.session.index
    assert it.frames_that_agree() == list(range(now - 4, now + 1))
    it.side_by_side.toggle(it.session)
    assert it.side_by_side.view is None
    it.play(3)
    it.side_by_side.toggle(it.session)
    it.play(1)
    assert it.frames_that_agree() == [now + 4]


def test_going_back_and_another_branch_and_other_starts_take_the_game_along(
    stage: Callable[..., Stage],
) -> None:
    it = stage()
    it.side_by_side.toggle(it.session)
    it.turn(Command.RESTART)
    it.play(30)
    it.settle()
    it.turn(Command.REWIND)
    it.play(8)
    view = it.side_by_side.view
    assert view is not None
    assert view.index < 25
    assert view.real is not None
    np.testing.assert_array_equal(view.real, view.world)
    it.turn(Command.GO_ON)
    it.play(20)
    assert it.frames_that_agree() == list(range(it.session.index + 1))
    it.turn(Command.NEXT_START)
    it.play(6)
    assert it.frames_that_agree() == list(range(7))


def test_a_loaded_moment_takes_the_game_along(stage: Callable[..., Stage], tmp_path: Path) -> None:
    save_worker = SaveWorker(tmp_path)
    it = stage(start=1, save_worker=save_worker)
    it.side_by_side.toggle(it.session)
    it.play(10)
    it.turn(Command.SAVE)
    it.play(10)
    it.turn(Command.LOAD)
    it.play(4)
    save_worker.close(None)
    assert it.frames_that_agree() == [10, 11, 12, 13, 14]


def test_a_moment_from_a_start_that_is_not_here_is_not_guessed(
    stage: Callable[..., Stage],
) -> None:
    it = stage()
    it.play(3)
    moment = it.session.moment()
    world = LearnedWorld()
    world.starts = ["elsewhere", "the blue room", "a picture"]
    other = stage(world)
    other.side_by_side.toggle(other.session)
    other.side_by_side.show(other.session, other.session.load(moment))
    assert other.side_by_side.view is not None
    assert "the start that this moment was played from is not one" in other.side_by_side.view.note


def test_a_start_without_a_way_says_so_and_the_next_one_goes_on(
    stage: Callable[..., Stage],
) -> None:
    it = stage(start=1)
    it.side_by_side.toggle(it.session)
    it.play(2)
    it.turn(Command.NEXT_START)
    it.play(3)
    it.settle()
    view = it.side_by_side.view
    assert view is not None
    assert view.real is None
    assert "no way leads to a picture; `--start real` begins where it can" in view.note
    it.turn(Command.NEXT_START)
    it.play(3)
    assert it.frames_that_agree() == [0, 1, 2, 3]

    begun = stage(start=2)
    begun.side_by_side.toggle(begun.session)
    assert begun.told[0].startswith("the real game is not shown: no way leads to a picture")
    assert not begun.side_by_side.is_on


def test_a_world_that_knows_no_game_says_so(stage: Callable[..., Stage]) -> None:
    it = stage(DrawnWorld())
    it.side_by_side.toggle(it.session)
    assert it.told == [
        "the real game is not shown: drawn was not learned from a game that is known here"
    ]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"raises_at": 12}, "the real game broke: ValueError: the level is on fire"),
        ({"exits_at": 12}, "the real game has ended: its process is gone (exit code 7)"),
        ({"hangs_at": 12}, "the real game has not answered for 1 s"),
        ({"refuses": True}, "the drawn game is not installed"),
    ],
)
def test_whatever_happens_to_the_game_play_goes_on(
    stage: Callable[..., Stage],
    broken: dict[str, Any],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = stage(LearnedWorld(**broken))
    it.side_by_side.toggle(it.session)
    it.turn(Command.RESTART)
    slowest, ends = 0.0, time.monotonic() + 30
    while it.side_by_side.is_on and time.monotonic() < ends:
        if it.side_by_side.points:  # it has started, which takes a while on a busy machine
            monkeypatch.setattr("worldmodel.reference.process.PATIENCE", 1.0)
        before = time.monotonic()
        it.turn(None)
        if it.side_by_side.view is not None:  # ending it may take a moment
            slowest = max(slowest, time.monotonic() - before)
        time.sleep(0.005)
    it.play(10)
    assert it.told == [f"the real game is not shown: {told}"]
    assert it.side_by_side.view is None
    assert slowest < 0.5, "no frame waits for the game"


def test_a_level_that_ends_is_said_and_a_restart_begins_again(
    stage: Callable[..., Stage],
) -> None:
    it = stage(LearnedWorld(ends_at=13))
    it.side_by_side.toggle(it.session)
    it.turn(Command.RESTART)
    it.play(20)
    assert it.frames_that_agree() == list(range(10))
    assert it.side_by_side.view is not None
    assert OVER in it.side_by_side.view.note
    it.turn(Command.RESTART)
    it.play(4)
    assert it.frames_that_agree() == list(range(5))
    assert it.side_by_side.view.note == ""


def test_a_death_is_called_that(stage: Callable[..., Stage]) -> None:
    it = stage(LearnedWorld(ends_at=13, dies=True))
    it.side_by_side.toggle(it.session)
    it.turn(Command.RESTART)
    it.play(20)
    it.settle()
    assert it.side_by_side.view is not None
    assert it.side_by_side.view.note == f"{DIED}; F4 begins again"


def test_where_the_player_arrives_moving_it_is_said_why_a_difference_begins(
    stage: Callable[..., Stage],
) -> None:
    world = LearnedWorld()  # whose trajectories end with a key that is held
    it = stage(world)
    it.side_by_side.toggle(it.session)
    it.turn(Command.RESTART)
    it.play(1)
    assert it.side_by_side.view is not None
    assert "no velocity" in it.side_by_side.view.why
    still = replace(
        world.origin.trajectory_to(1), actions=[FORWARD, *[Action(mouse=(9.0, 0.0))] * SLIDES]
    )
    world.origin = replace(
        world.origin,
        trajectories=[world.origin.trajectories[0], still, world.origin.trajectories[2]],
    )
    it.turn(Command.NEXT_START)
    it.play(1)
    assert it.side_by_side.view.why == "", "a turn stops with the hand"


def test_another_version_of_the_game_is_not_shown_as_if_it_were_the_same(
    stage: Callable[..., Stage],
) -> None:
    it = stage(LearnedWorld(off=2))
    it.side_by_side.toggle(it.session)
    it.play(5)
    it.settle()
    assert it.side_by_side.view is not None
    assert it.side_by_side.view.real is None
    assert "this version of the game does not come to this start" in it.side_by_side.view.note
    assert it.side_by_side.points == []


def test_a_slow_game_is_caught_up_with_and_costs_the_dream_nothing(
    stage: Callable[..., Stage],
) -> None:
    it = stage(LearnedWorld(seconds=0.004))
    it.side_by_side.toggle(it.session)
    it.turn(Command.RESTART)
    began = time.monotonic()
    it.play(600)
    assert time.monotonic() - began < 2.0
    agreed = it.frames_that_agree()
    assert agreed[-1] == 600
    assert len(agreed) < 601, "some were done without a look"


def test_what_a_game_said_before_it_ended_is_told_to_who_asks_it_next() -> None:
    with RealProcess(open_drawn, {"raises_at": 1}) as game:
        game.send(0, [FORWARD])
        game._process.join(30)
        with pytest.raises(RealGameError, match="the level is on fire"):
            game.send(None, [FORWARD])


def test_a_process_that_is_gone_is_an_error_of_the_one_who_asks() -> None:
    with RealProcess(open_drawn, {"exits_at": 1}) as game:
        game.ask(0, [])
        with pytest.raises(RealGameError, match="its process is gone"):
            game.ask(None, [LearnedWorld().origin.trajectory_to(0).actions[0]])


@pytest.mark.parametrize(
    "size", [(720, 960), (540, 960), (480, 640), (2160, 3840), (16, 90), (90, 16), (9, 3)]
)
def test_a_view_can_be_drawn_in_any_size(size: tuple[int, int]) -> None:
    world = DrawnWorld().reset(0, 0)
    points = [(0, 30.0), (1, 25.0), (4, float(SAME)), (5, -3.0)]
    for real, told in ((world, ""), (None, "on its way " * 30)):
        view = View(
            world=world, real=real, index=5, points=points, frames_per_second=17.5, note=told
        )
        for font in (0.75, 1.0, 3.0):
            picture = draw_side_by_side(view, size, font).picture
            assert picture.shape == (*size, 3)
            assert picture.any() == (min(size) >= 16)


def test_the_picture_shows_the_dream_left_and_the_game_right() -> None:
    world = np.full((48, 64, 3), (200, 0, 0), np.uint8)
    real = np.full((48, 64, 3), (0, 0, 200), np.uint8)
    view = View(world=world, real=real, index=0, points=[], frames_per_second=17.5)
    picture = draw_side_by_side(view, (540, 960)).picture
    assert tuple(picture[100, 200]) == (200, 0, 0)
    assert tuple(picture[100, 700]) == (0, 0, 200)


def test_one_frame_is_measured_as_many_are() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 5, 6, 8, 3), np.uint8)
    other[0] = one[0]
    expected = psnr_of_many(torch.from_numpy(one), torch.from_numpy(other))
    found = [psnr(a, b) for a, b in zip(one, other, strict=True)]
    assert found == pytest.approx(expected.tolist(), abs=1e-3)
