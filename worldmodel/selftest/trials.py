"""Moments, branches, faults and replays, compared bit for bit with play that had none of them."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.action import Action
from worldmodel.game.controls import Command
from worldmodel.game.input import Taken
from worldmodel.game.play_session import Keeping, Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.game.recording_control import Place, RecordingControl
from worldmodel.game.replay import Replay
from worldmodel.game.save_worker import SaveWorker
from worldmodel.players import RandomPlayer
from worldmodel.storage.moments import Moment, load_moment, save_moment
from worldmodel.world import Frame, SavedState, World


class SelftestError(AssertionError):
    """Something that must hold does not hold on this machine."""


class FaultyWorld:
    """A world that raises now and then, in a wrong state, as a broken worker or device does."""

    def __init__(self, world: World, chance: random.Random, share: float) -> None:
        self._world, self._chance, self._share = world, chance, share
        self.faults = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def generate(self, action: Action) -> Frame:
        """The frame, or a fault after it was made."""
        frame = self._world.generate(action)
        self._break("out of memory")
        return frame

    def remember(self) -> None:
        """The clean pass, or a fault instead of it."""
        self._break("the device is lost")
        self._world.remember()

    def load_state(self, state: SavedState) -> None:
        """Go on from a state; faults end here."""
        self._world.load_state(state)

    def _break(self, what: str) -> None:
        if self._chance.random() < self._share:
            self.faults += 1
            raise RuntimeError(what)


def session_of(
    world: World,
    *,
    seed: int,
    save_worker: SaveWorker | None = None,
    moment: Moment | None = None,
    megabytes: float = 64,
) -> Session:
    """A session of the random player."""
    player = RandomPlayer(world.actions, seed)

    def take(index: int) -> Taken:
        return Taken(player.act(index), None)

    keeping = Keeping(save_worker=save_worker, megabytes=megabytes)
    start = seed % len(world.starts)
    return Session(world, take, start=start, seed=seed, keeping=keeping, moment=moment)


def play(session: Session, frames: int) -> list[PlayedFrame]:
    """So many new frames; a turn with a fault makes none."""
    steps: list[PlayedFrame] = []
    while len(steps) < frames:
        if session.paused:
            session.turn(Command.PAUSE)
        if step := session.advance():
            steps.append(step)
            session.remember()
    return steps


def save_and_load(world: World, trial: int) -> None:
    """A moment through a file, in another session, goes on with the same frames."""
    chance = random.Random(trial)
    session = session_of(world, seed=trial)
    session.begin()
    play(session, chance.randint(1, 60))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        save_moment(path, session.moment())
        moment = load_moment(path)
    expected = play(session, 20)
    again = session_of(world, seed=trial, moment=moment)
    again.begin()
    _compare(expected, play(again, 20), "after loading")


def branch(world: World, trial: int) -> None:
    """Back some frames and on with the same actions: the same frames."""
    chance = random.Random(trial)
    session = session_of(world, seed=trial)
    session.begin()
    steps = play(session, chance.randint(20, 60))
    session.turn(Command.REWIND)
    for _ in range(chance.randint(1, 15)):
        session.advance()
    session.turn(Command.GO_ON)
    index = session.index
    _compare(steps[index:], play(session, len(steps) - index), "after going back")


def faults(world: World, trial: int) -> int:
    """Faults in the middle of play change no frame; returns how many there were."""
    frames = 60
    undisturbed = session_of(world, seed=trial)
    undisturbed.begin()
    expected = {step.index: step for step in play(undisturbed, frames)}
    faulty = FaultyWorld(world, random.Random(trial), share=0.05)
    with tempfile.TemporaryDirectory() as folder:
        save_worker = SaveWorker(Path(folder))
        try:
            session = session_of(faulty, seed=trial, save_worker=save_worker)
            session.begin()
            for step in play(session, frames):
                _compare([expected[step.index]], [step], "after a fault")
        finally:
            save_worker.close(None)
    return faulty.faults


def replay(world: World, trial: int) -> int:
    """A recording with branches gives the same frames again; returns how many were compared."""
    chance = random.Random(trial)
    with tempfile.TemporaryDirectory() as folder:
        session = session_of(world, seed=trial)
        recording_control = RecordingControl(Place(Path(folder), "walk"), lambda _: None)
        recording_control.is_rolling = True
        recording_control.show(session, session.begin(), None)
        for _ in range(3):
            for step in play(session, chance.randint(10, 30)):
                recording_control.show(session, step, None)
            session.turn(Command.REWIND)
            for _ in range(chance.randint(1, 8)):
                session.advance()
            session.turn(Command.GO_ON)
        recording_control.close()
        if recording_control.failure:
            raise SelftestError(str(recording_control.failure))
        return _replay(world, Path(folder) / "walk.jsonl")


def _replay(world: World, path: Path) -> int:
    recorded = Replay.read(path)
    take: Callable[[int], Taken] = recorded.take
    start, seed = recorded.header.start, recorded.header.seed
    session = Session(world, take, start=start, seed=seed, moment=recorded.moment)
    recorded.check(session.begin())
    for step in play(session, len(recorded.rows) - 1):
        recorded.check(step)
    if recorded.same != len(recorded.rows):
        raise SelftestError(f"a replay: {recorded.verdict()}")
    return recorded.same


def _compare(expected: list[PlayedFrame], found: list[PlayedFrame], when: str) -> None:
    for one, other in zip(expected, found, strict=True):
        if one.index != other.index or not np.array_equal(one.frame, other.frame):
            raise SelftestError(f"frame {one.index} is another one {when}")
