"""All sessions of a server, and the one thread that plays them at the world's rate.

In a tick all sessions are played as rows of one batch where the engine can (`WorldBatch`). They
come and go at any frame, and each one's frames are those of the session played alone.
"""

import contextlib
import hmac
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator

from worldmodel.config import UserError
from worldmodel.serve.served_session import Listener, Note, ServedSession
from worldmodel.serve.server_limits import Limits
from worldmodel.serve.session_store import KeptSession, SessionStore
from worldmodel.world import Frame, World
from worldmodel.worlds.world_batch import WorldBatch

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """Somebody is not let in; the text is for them."""

    def __init__(self, why: str, *, elsewhere: bool = False) -> None:
        """`elsewhere`: another server of the fleet may let them in."""
        super().__init__(why)
        self.elsewhere = elsewhere


class Hall:
    """Who plays. All methods may be called from any thread; worlds are used by the ticking one."""

    def __init__(
        self,
        world: World,
        limits: Limits | None = None,
        frames_per_second: float = 0.0,
        store: SessionStore | None = None,
    ) -> None:
        """`frames_per_second` 0: as the world says. A `store` outlives this server."""
        self.store = store
        self.world, self.limits = world, limits or Limits()
        self.frames_per_second = frames_per_second or world.frames_per_second
        self.batch = WorldBatch(world, self.limits.sessions)
        self.capacity = self.batch.capacity
        self.pictures: list[Frame] = [world.reset(n, seed=0) for n in range(len(world.starts))]
        self._sessions: list[ServedSession] = []
        self._gone: deque[ServedSession] = deque()  # whose worlds are to be released
        self._lock = threading.Lock()
        self._closing = threading.Event()
        # A daemon: an error of the thread that serves ends the program all the same.
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
        """All sessions that are being played."""
        with self._lock:
            return tuple(self._sessions)

    def join(
        self, start: int, seed: int, owner: object, listener: Listener | None = None
    ) -> ServedSession:
        """A new session; a `RefusedError` says why not. A `listener` given here misses nothing."""
        if start >= len(self.world.starts):
            raise RefusedError(f"start {start}: {self.world.name} has {len(self.world.starts)}")
        return self._enter(start, seed, owner, listener)

    def _enter(
        self,
        start: int,
        seed: int,
        owner: object,
        listener: Listener | None = None,
        kept: KeptSession | None = None,
    ) -> ServedSession:
        with self._lock:
            if self._closing.is_set():
                raise RefusedError("the server is closing")
            if len(self._sessions) >= self.capacity:
                raise RefusedError(f"full: all {self.capacity} sessions are taken; try again later")
            session = ServedSession(self.batch.join(), start, seed, self.limits.moments)
            session.touched_at = time.monotonic()
            session.owner = owner
            session.listeners |= {listener} if listener else set()
            if kept is not None:
                session.go_on_from(kept)
            self._sessions.append(session)
        return session

    def resume(self, key: str, owner: object) -> ServedSession:
        """The session that a player lost; whoever played it so far is told."""
        session = self._find(key, "key")
        if (kept := self._find_elsewhere(key, session)) is not None:
            if session is not None:  # what stands still here is older
                self._remove(session)
            return self._enter(kept.start, kept.seed, owner, kept=kept)
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
            raise RefusedError("nobody plays here any more", elsewhere=self.store is not None)
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
        if self.store is not None:
            self.store.forget(session.key)
        self._remove(session)
        session.tell(Note("ended", why))

    def _remove(self, session: ServedSession) -> None:
        with self._lock:
            if session in self._sessions:
                self._sessions.remove(session)
                self._gone.append(session)

    def _find_elsewhere(self, key: str, session: ServedSession | None) -> KeptSession | None:
        """A session that another server has played since, if nobody plays it here."""
        if self.store is None or (session is not None and session.owner is not None):
            return None
        kept = self.store.find(key, self.world.name)
        return None if kept is None or kept.is_own else kept

    def _find(self, key: str, name: str) -> ServedSession | None:
        asked, found = key.encode(), None
        for session in self.sessions:
            if hmac.compare_digest(getattr(session, name).encode(), asked):
                found = session
        return found

    def _run(self) -> None:
        period, due, ticks = 1 / self.frames_per_second, time.monotonic(), 0
        while not self._closing.wait(max(0.0, due - time.monotonic())):
            keeps = ticks % max(1, round(self.limits.moment_every / period)) == 0
            while self._gone:
                self.batch.release(self._gone.popleft().world)
            self._play([x for x in self.sessions if self._is_ready(x, keeps=keeps)])
            ticks += 1
            due = max(due + period, time.monotonic())
        for session in self.sessions:
            if self.store is None:
                self.end(session, "the server is closing")
                continue
            with self._breaking(session):
                if session.picture is not None:  # pages ask for it again, of the next server
                    self._keep(session)

    def _keep(self, session: ServedSession) -> None:
        """Let its player rewind to here, and another server go on from here."""
        moment = session.keep()
        if self.store is not None:
            self.store.save(session.kept(self.world.name, moment))

    def _is_ready(self, session: ServedSession, *, keeps: bool) -> bool:
        """Whether a session plays in this tick, after everything that comes before a frame."""
        with self._breaking(session):
            if session.picture is None:
                session.begin()
                if self.store is not None:
                    self._keep(session)  # from now on it is this server's
                return False
            while session.orders:
                session.obey(session.orders.popleft())
            self._look_at_the_time(session)
            if session.parked or session not in self.sessions:
                return False
            if keeps:
                self._keep(session)
            return True
        return False

    def _play(self, sessions: list[ServedSession]) -> None:
        """One frame for all of them: shown to everybody before any world remembers it."""
        inputs = [session.take() for session in sessions]
        worlds, actions = [s.world for s in sessions], [action for action, _ in inputs]
        answers = self.batch.generate(worlds, actions)
        shown = []
        for session, answer, (action, at) in zip(sessions, answers, inputs, strict=True):
            with self._breaking(session):
                if isinstance(answer, Exception):
                    raise answer
                session.show(answer, action, at)
                shown.append(session)
        for session in shown:
            with self._breaking(session):
                session.world.remember()

    @contextlib.contextmanager
    def _breaking(self, session: ServedSession) -> Iterator[None]:
        """What goes wrong ends this session and no other."""
        try:
            yield
        except UserError as error:
            self.end(session, f"the world could not go on: {error}")
        except Exception:
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
