"""The real game in a process of its own: whatever happens to it, play goes on.

Its library holds Python's lock while it computes, and a game that hangs or crashes would take the
window along. Requests are a seed, or none, and some actions; each gets one answer, the frame that
they led to. Requests are small enough that sending never waits.

    process = RealProcess(open_real, origin.source)
    process.send(seed=7, actions=trajectory.actions[:CHUNK])
    answer = process.poll()                  # None while the game computes
    process.close()
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.reference.game import Mortal, OpenReal, RealGame, ReferenceTrajectory
from worldmodel.state_spec import StateSpec
from worldmodel.world import Frame, HasState

CHUNK = 256  # actions in one request at most: they fit into the pipe, and take a fifth of a second
MOST_WAITING = 4  # requests without an answer
PATIENCE = 20.0  # seconds for an answer; the first one includes the game's own start


class RealGameError(UserError):
    """The real game cannot be played, or broke."""


class Answer(NamedTuple):
    """What the last action of a request led to."""

    frame: Frame
    over: bool  # whether the episode has ended, in which case the frame is its last
    spec: StateSpec | None = None  # what the numbers of the state are
    state: NDArray[np.float32] | None = None  # what the game knows of the frame
    died: bool = False  # by the player's death


class RealProcess:
    """One real game. Everything here is called from one thread, and nothing waits for the game."""

    def __init__(self, open_real: OpenReal, source: Mapping[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._link, theirs = context.Pipe()
        # A daemon: whoever ends without `close` leaves no game behind.
        self._process = context.Process(
            target=_serve, args=(theirs, open_real, dict(source)), name="real game", daemon=True
        )
        try:
            self._process.start()
        except OSError as error:
            raise RealGameError(f"the real game cannot be started: {error}") from error
        finally:
            theirs.close()
        self.waiting = 0  # requests without an answer
        self._asked = time.monotonic()  # when the one that waits longest became the next

    def send(self, seed: int | None, actions: Sequence[Action]) -> None:
        """Begin an episode if there is a seed, then do the actions."""
        if not self.waiting:
            self._asked = time.monotonic()
        try:
            self._link.send((seed, list(actions)))
        except OSError as error:
            raise RealGameError(self._last_words()) from error
        self.waiting += 1

    def poll(self, patience: float = 0.0) -> Answer | None:
        """The next answer, if it is there; a `RealGameError` says why there will be none."""
        try:
            if not self._link.poll(patience):
                if self.waiting and time.monotonic() - self._asked > PATIENCE:
                    raise RealGameError(f"the real game has not answered for {PATIENCE:.0f} s")
                return None
            answer = self._link.recv()
        except (EOFError, OSError) as error:
            raise RealGameError(self._last_words()) from error
        if isinstance(answer, str):
            raise RealGameError(answer)
        self.waiting, self._asked = self.waiting - 1, time.monotonic()
        return Answer(*answer)

    def ask(self, seed: int | None, actions: Sequence[Action]) -> Answer:
        """The same, but wait for the answer: for callers who have nothing else to do."""
        self.send(seed, actions)
        while (answer := self.poll(patience=0.5)) is None:
            pass
        return answer

    def bring(self, trajectory: ReferenceTrajectory, then: Sequence[Action] = ()) -> Answer:
        """Wait until the game is where a trajectory and what was done `then` lead to."""
        actions = [*trajectory.actions, *then]
        answer = self.ask(trajectory.seed, actions[:CHUNK])
        for first in range(CHUNK, len(actions), CHUNK):
            answer = self.ask(None, actions[first : first + CHUNK])
        return answer

    def close(self) -> None:
        """End the game, by force if it does not listen."""
        self._link.close()  # it reads the end of the line, and ends
        self._process.join(0.2 if self.waiting else 2.0)
        if self._process.exitcode == 0:
            return
        if hasattr(os, "killpg") and self._process.pid:
            with contextlib.suppress(OSError):  # its own group: the engine it started goes too
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join(5.0)

    def __enter__(self) -> "RealProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _last_words(self) -> str:
        """Why it ended, if it said so: that may still lie in the line, behind answers."""
        with contextlib.suppress(EOFError, OSError):
            while self._link.poll():
                if isinstance(words := self._link.recv(), str):
                    return words
        self._process.join(0.2)
        return f"the real game has ended: its process is gone (exit code {self._process.exitcode})"


def _serve(link: Connection, open_real: OpenReal, source: Mapping[str, Any]) -> None:
    """The process: open the game, answer until the line is cut."""
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):
            os.setsid()  # Ctrl-C is the player's, and the game ends when play does
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        try:
            game = open_real(source)
        except Exception as error:  # noqa: BLE001  # told where play is
            link.send(_explain(error))
            return
        try:
            _answer(link, game)
        except (EOFError, OSError):
            pass
        except Exception as error:  # noqa: BLE001
            link.send(f"the real game broke: {_explain(error)}")
        finally:
            with contextlib.suppress(Exception):
                game.close()


def _answer(link: Connection, game: RealGame) -> None:
    frame: Frame | None = None
    while True:
        seed, actions = link.recv()
        if seed is not None:
            frame = game.reset(seed)
        for action in actions:
            if game.is_over:
                break
            frame = game.step(action)
        known = (game.state_spec, game.state) if isinstance(game, HasState) else (None, None)
        died = isinstance(game, Mortal) and game.has_died
        link.send((frame, game.is_over, *known, died))


def _explain(error: Exception) -> str:
    message = str(error).strip() or type(error).__name__
    return message if isinstance(error, UserError) else f"{type(error).__name__}: {message[:300]}"
