"""Who makes the frames: a thread of its own, or with `--sync` the window's thread.

The generator's thread does all work on the world, loading included, so a slow world never freezes
the window. It meets the window's thread in two places of its own: it offers finished steps (a queue
of length one, longer is later; `announce` wakes the window for them), and it reads commands from a
mailbox, on which it also sleeps until the next frame is due. The session that it opens takes the
player's action from `Input`, under that one's lock. A failure travels through the queue of steps,
behind the frames that came before it; `session` is set once, before the first step is offered.
"""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from worldmodel.game.jumps import Order
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame

PATIENCE = 0.01  # seconds the window may wait for devices before it looks for a frame anyway


class FrameSource(Protocol):
    """What the main loop sees of a played world."""

    session: Session | None  # None while loading

    def __enter__(self) -> "FrameSource": ...

    def __exit__(self, *_: object) -> None: ...

    def poll(self) -> PlayedFrame | None:
        """The next finished step, or None while the world is still thinking."""

    def send(self, command: Order) -> None:
        """Ask the world for something between two frames."""

    def patience(self) -> float:
        """Seconds that the window may wait for devices before the next poll."""


class Generator:
    """Keeps making frames in a thread while its `with` block lasts."""

    def __init__(
        self, open_session: Callable[[], Session], announce: Callable[[], None] = lambda: None
    ) -> None:
        self.session: Session | None = None
        self._open_session, self._announce = open_session, announce
        self._steps: queue.Queue[PlayedFrame | Exception] = queue.Queue(maxsize=1)
        self._mailbox: queue.Queue[Order | None] = queue.Queue()  # None only wakes
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="generator")

    def __enter__(self) -> "Generator":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._mailbox.put(None)
        self._thread.join()

    def poll(self) -> PlayedFrame | None:
        """The next finished step, or None while the world is still thinking."""
        try:
            step = self._steps.get_nowait()
        except queue.Empty:
            return None
        if isinstance(step, Exception):
            raise step
        return step

    def send(self, command: Order) -> None:
        """Ask the world for something between two frames."""
        self._mailbox.put(command)

    def patience(self) -> float:
        """A finished step is announced, so waiting costs nothing."""
        return PATIENCE

    def _run(self) -> None:
        try:
            session = self._open_session()
            self.session = session
            self._offer(session.begin())
            while True:
                command = self._wait(session.seconds_to_wait())
                if self._stopping.is_set():
                    return
                if step := session.turn(command) if command else session.advance():
                    self._offer(step)
                    session.remember()
        except Exception as error:  # noqa: BLE001  # poll() raises it in the window's thread
            self._offer(error)

    def _wait(self, seconds: float | None) -> Order | None:
        """Sleep, forever if `seconds` is None, but not through a command."""
        try:
            return self._mailbox.get(timeout=seconds)
        except queue.Empty:
            return None

    def _offer(self, step: PlayedFrame | Exception) -> None:
        """Wait for room, but not past the end of the game."""
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Full):
                self._steps.put(step, timeout=0.1)
                self._announce()
                return


class InLine:
    """Makes the same steps inside `poll`, in the caller's thread."""

    def __init__(self, open_session: Callable[[], Session]) -> None:
        self.session: Session | None = None
        self._open_session = open_session
        self._commands: deque[Order] = deque()

    def __enter__(self) -> "InLine":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs between two polls."""

    def poll(self) -> PlayedFrame | None:
        """The next step, made now if it is due."""
        if self.session is None:
            self.session = self._open_session()
            return self.session.begin()
        self.session.remember()
        if self._commands:
            return self.session.turn(self._commands.popleft())
        return None if self.session.seconds_to_wait() != 0 else self.session.advance()

    def send(self, command: Order) -> None:
        """Ask the world for something between two frames."""
        self._commands.append(command)

    def patience(self) -> float:
        """Until the next step is due; none while a shown frame is still to be remembered."""
        if self.session is None or not self.session.is_remembered:
            return 0.0
        wait = self.session.seconds_to_wait()
        return PATIENCE if wait is None else min(PATIENCE, wait)
