"""All sessions of a server, and the one thread that plays them at the world's rate.

Each session has a rollout of its own on the world's engine; weights are shared. They are played one
after the other in a tick, not as rows of one batch, so a frame is the same as when its session is
played alone, and a tick costs as much as its sessions together.
"""

import contextlib
import hmac
import logging
import threading
import time
from collections.abc import Iterator

from worldmodel.config import UserError
from worldmodel.serve.served_session import Listener, Note, ServedSession
from worldmodel.serve.server_limits import Limits
from worldmodel.world import Frame, World
from worldmodel.worlds.native import NativeWorld

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """Somebody is not let in; the text is for them."""


class Hall:
    """Who plays. All methods may be called from any thread; worlds are used by the ticking one."""

    def __init__(
        self, world: World, limits: Limits | None = None, frames_per_second: float = 0.0
    ) -> None:
        """`frames_per_second` 0: as the world says."""
        self.world, self.limits = world, limits or Limits()
        self.frames_per_second = frames_per_second or world.frames_per_second
        many = isinstance(world, NativeWorld)
        self.capacity = self.limits.sessions if many else 1
        self.pictures: list[Frame] = [world.reset(n, seed=0) for n in range(len(world.starts))]
        self.tick_seconds = 0.0  # of the last tick
        self._sessions: list[ServedSession] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticks", daemon=True)

    @contextlib.contextmanager
    def open(self) -> Iterator["Hall"]:
        """Tick until the end of the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self._thread.join()

    @property
    def sessions(self) -> tuple[ServedSession, ...]:
        """All there are."""
        with self._lock:
            return tuple(self._sessions)

    def join(
        self, start: int, seed: int, owner: object, listener: Listener | None = None
    ) -> ServedSession:
        """A new session; a `RefusedError` says why not. A `listener` given here misses nothing."""
        if start >= len(self.world.starts):
            raise RefusedError(f"start {start}: {self.world.name} has {len(self.world.starts)}")
        with self._lock:
            if self._closing.is_set():
                raise RefusedError("the server is closing")
            if len(self._sessions) >= self.capacity:
                raise RefusedError(f"full: all {self.capacity} sessions are taken; try again later")
            own = self.world.another() if isinstance(self.world, NativeWorld) else self.world
            session = ServedSession(own, start, seed, self.limits.moments)
            session.touched_at = time.monotonic()
            session.owner = owner
            session.listeners |= {listener} if listener else set()
            self._sessions.append(session)
        return session

    def resume(self, key: str, owner: object) -> ServedSession:
        """The session that a player lost; whoever played it so far is told."""
        session = self._find(key, "key")
        if session is None:
            within = f"{self.limits.resume_within:.0f} s"
            raise RefusedError(f"this session has ended; one without its player is kept {within}")
        session.tell(Note("taken", "this session was opened elsewhere"))
        session.owner = owner
        self.go(session)
        return session

    def watch(self, key: str) -> ServedSession:
        """The session that a spectator's link names."""
        session = self._find(key, "watch_key")
        if session is None:
            raise RefusedError("nobody plays here any more")
        return session

    def go(self, session: ServedSession) -> None:
        """Its player does something."""
        session.touched_at = time.monotonic()
        if session.parked:
            session.parked = ""
            session.tell(Note("going", ""))

    def park(self, session: ServedSession, why: str) -> None:
        """It stands still, nothing is held."""
        session.release()
        session.parked, session.parked_at = why, time.monotonic()
        session.tell(Note("parked", why))

    def leave(self, session: ServedSession, owner: object) -> None:
        """Its player's socket closed; it is kept for a while."""
        if session.owner is owner:
            session.owner = None
            self.park(session, "its player is not connected")

    def end(self, session: ServedSession, why: str) -> None:
        """It is over, and everybody is told."""
        with self._lock:
            if session in self._sessions:
                self._sessions.remove(session)
        session.tell(Note("ended", why))

    def _find(self, key: str, name: str) -> ServedSession | None:
        asked, found = key.encode(), None
        for session in self.sessions:
            if hmac.compare_digest(getattr(session, name).encode(), asked):
                found = session
        return found

    def _run(self) -> None:
        period, due, ticks = 1 / self.frames_per_second, time.monotonic(), 0
        while not self._closing.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            keeps = ticks % max(1, round(self.frames_per_second)) == 0
            for session in self.sessions:
                self._play(session, keeps=keeps)
            ticks += 1
            self.tick_seconds = time.monotonic() - began
            due = max(due + period, time.monotonic())
        for session in self.sessions:
            self.end(session, "the server is closing")

    def _play(self, session: ServedSession, *, keeps: bool) -> None:
        try:
            if session.picture is None:
                session.begin()
                return
            while session.orders:
                session.obey(session.orders.popleft())
            self._look_at_the_time(session)
            if session.parked:
                return
            if keeps:
                session.keep()
            session.step()
        except UserError as error:
            self.end(session, f"the world could not go on: {error}")
        except Exception:  # others play on, whatever broke in one session
            log.exception("a session broke")
            self.end(session, "the world broke in this session; begin again")

    def _look_at_the_time(self, session: ServedSession) -> None:
        now, limits = time.monotonic(), self.limits
        if not session.parked:
            if now - session.touched_at > limits.park_after:
                self.park(session, f"no input for {limits.park_after:.0f} s; any key goes on")
            return
        longest = limits.drop_after if session.owner else limits.resume_within
        if now - session.parked_at > longest:
            self.end(session, f"this session stood still for {longest:.0f} s and has ended")
