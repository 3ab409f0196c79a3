"""One socket: hello, then a player's messages or a spectator's."""

import asyncio
import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from worldmodel.serve.clips import Clip, ClipError, Clips
from worldmodel.serve.encoders import Video
from worldmodel.serve.hall import Hall, RefusedError
from worldmodel.serve.outbox import Outbox
from worldmodel.serve.protocol import (
    Ack,
    Act,
    Hello,
    Message,
    Order,
    PlayMessage,
    ProtocolError,
    Record,
    Say,
    read_message,
)
from worldmodel.serve.served_session import Note, Picture, ServedSession
from worldmodel.serve.server_limits import MESSAGE_BYTES, Limits

REFUSED = 1008  # the close code for what a server does not allow
OVER = 1000
MOST_ORDERS = 4  # that wait for the next tick
NO_TOKEN = "a token is needed: open the whole link that the server printed"


class ServerState(Protocol):
    """What the connections of one server have in common (`app.Server`)."""

    halls: Sequence[Hall]
    limits: Limits
    spectators: Counter[ServedSession]
    worlds: Sequence[dict[str, Any]]  # of each hall
    clips: Clips

    def has_token(self, token: str) -> bool:
        """Whether somebody may come in."""


class Connection:
    """Lives on the event loop; a session's frames reach it from the ticking thread."""

    def __init__(self, server: ServerState, websocket: WebSocket) -> None:
        self.server, self.websocket = server, websocket
        self.outbox = Outbox(websocket.send_bytes)
        self._loop = asyncio.get_running_loop()
        self._session: ServedSession | None = None
        self._hall = server.halls[0]  # where it is played
        self._plays = False
        self._notes: asyncio.Queue[Note] = asyncio.Queue()
        self._clip: Clip | None = None
        self._recording: asyncio.Task[None] | None = None
        self._tokens, self._counted_at = float(server.limits.messages_a_second), time.monotonic()

    async def run(self, why_full: str) -> None:
        """Answer the page until either side closes."""
        await self.websocket.accept()
        tasks = []
        try:
            if why_full:
                raise RefusedError(why_full)
            await self._greet()
            tasks = [
                asyncio.create_task(x) for x in (self._read(), self._tell(), self.outbox.run())
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (RefusedError, ProtocolError) as error:
            elsewhere = isinstance(error, RefusedError) and error.elsewhere
            await self._close("refused", str(error), REFUSED, elsewhere=elsewhere)
        except (WebSocketDisconnect, RuntimeError):  # starlette's, for one that is closed already
            pass
        finally:
            tasks += [self._recording] if self._recording else []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._let_go()

    async def _greet(self) -> None:
        within = self.server.limits.hello_within
        try:
            hello = await asyncio.wait_for(self._receive(), within)
        except asyncio.TimeoutError as error:
            raise RefusedError(f"no hello within {within:g} s") from error
        if not isinstance(hello, Hello):
            raise ProtocolError("the first message must be a hello")
        if hello.h264:
            self.outbox.encoder = Video()
        if hello.watch:  # whose link is a secret itself
            session = self._find(lambda hall: hall.watch(hello.watch))
            if self.server.spectators[session] >= self.server.limits.spectators:
                raise RefusedError("as many people as can already watch this session")
            self._session = session  # counted from here on, whatever breaks
            self.server.spectators[session] += 1
            chosen = self.server.worlds[self._world]
            await self._send({"type": "worlds", "worlds": [chosen | {"starts": []}]})
            await self._attach(session)
            return
        if not self.server.has_token(hello.token):
            raise RefusedError(NO_TOKEN)
        await self._send({"type": "worlds", "worlds": self.server.worlds})
        if hello.resume:
            session = self._find(lambda hall: hall.resume(hello.resume, self))
            self._plays = True
            await self._attach(session)

    @property
    def _world(self) -> int:
        return self.server.halls.index(self._hall)

    def _find(self, ask: Callable[[Hall], ServedSession]) -> ServedSession:
        """The session of whichever hall knows it."""
        *others, last = self.server.halls
        for hall in others:
            with contextlib.suppress(RefusedError):
                session, self._hall = ask(hall), hall
                return session
        session, self._hall = ask(last), last
        return session

    async def _attach(self, session: ServedSession) -> None:
        self._session = session
        keys = {"resume": session.key, "watch": session.watch_key} if self._plays else {}
        world = self._world if self._plays else 0
        await self._send({"type": "playing", "world": world, "parked": session.parked, **keys})
        session.listeners.add(self._hear)
        if session.picture is not None:
            self.outbox.offer(session.picture)

    def _let_go(self) -> None:
        session = self._session
        if session is None:
            return
        session.listeners.discard(self._hear)
        if self._plays:
            self._hall.leave(session, self)
            return
        self.server.spectators[session] -= 1
        if not self.server.spectators[session]:
            del self.server.spectators[session]

    def _hear(self, what: Picture | Note) -> None:
        """On any thread."""
        hear = self.outbox.offer if isinstance(what, Picture) else self._notes.put_nowait
        self._soon(functools.partial(hear, what))  # type: ignore[arg-type]  # as just chosen

    async def _tell(self) -> None:
        while True:
            note = await self._notes.get()
            if note.kind == "ended" or (note.kind == "taken" and self._plays):
                await self._close("ended", note.why, OVER)
                return
            if note.kind != "taken":
                await self._send({"type": note.kind, "why": note.why})

    async def _read(self) -> None:
        while True:
            waits = None if self._session else self.server.limits.drop_after
            try:
                message = await asyncio.wait_for(self._receive(), waits)
            except asyncio.TimeoutError as error:
                raise RefusedError(f"nothing was begun for {waits:.0f} s") from error
            match message, self._session:
                case Ack(), _:
                    self.outbox.acknowledge(message.serial)
                case Hello(), _:
                    raise ProtocolError("a hello comes once")
                case _, session if session is not None and not self._plays:
                    raise RefusedError("who watches cannot play")
                case PlayMessage(), _:
                    await self._play(message)
                case _, None:
                    raise ProtocolError("play comes first")
                case Record(), session:
                    self._record(session, message)
                case Say(), session:
                    await self._say(session, message)
                case Act() | Order(), session:
                    self._obey(session, message)

    async def _play(self, message: PlayMessage) -> None:
        halls = self.server.halls
        if message.world >= len(halls):
            raise RefusedError(f"world {message.world}: {len(halls)} are played here, from 0")
        hall, before = halls[message.world], self._session
        if before is None or hall is self._hall:
            self._end_session()
            session = hall.join(message.start, message.seed, self)
        else:
            try:
                session = hall.join(message.start, message.seed, self)
            except RefusedError as error:  # the session in the other world goes on
                await self._send({"type": "notice", "why": str(error)})
                return
            self._end_session()
        self._hall, self._plays = hall, True
        await self._attach(session)

    def _end_session(self) -> None:
        """Another one begins."""
        before, self._session = self._session, None
        if before is not None:
            before.listeners.discard(self._hear)
            self._hall.end(before, "its player began another one")

    def _obey(self, session: ServedSession, message: Act | Order) -> None:
        hall = self._hall
        if isinstance(message, Act):
            session.act(message.action, message.time)
            known = session.world.actions.known(message.action)
            if known.buttons or any(known.mouse):
                hall.go(session)
        elif message.what == "park":
            hall.park(session, "paused")
        else:
            hall.go(session)
            if message.what != "go" and len(session.orders) < MOST_ORDERS:
                session.orders.append(message.what)

    async def _say(self, session: ServedSession, message: Say) -> None:
        world = session.world
        if not world.actions.prompts:
            await self._send({"type": "notice", "why": f"{world.name} takes no words"})
            return
        session.say(message.prompt)
        self._hall.go(session)

    def _record(self, session: ServedSession, message: Record) -> None:
        if self._recording is not None and not self._recording.done():
            if self._clip is not None and not message.begins:
                self._clip.stop("")
        elif message.begins:
            self._recording = asyncio.create_task(self._make_clip(session))

    async def _make_clip(self, session: ServedSession) -> None:
        clips, done = self.server.clips, asyncio.Event()
        clip = None
        try:
            clip = clips.begin(session, self._hall.frames_per_second)
            clip.done = functools.partial(self._soon, done.set)
            self._clip = clip
            if clip.is_over:
                done.set()
            await self._send({"type": "recording"})
            await done.wait()
            await asyncio.to_thread(clips.keep, clip)
            await self._send(clip.message())
        except ClipError as error:
            await self._send({"type": "clip", "why": str(error)})
        finally:
            self._clip = None
            if clip is not None and clip.expires == float("inf"):
                clips.drop(clip)

    def _soon(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(call)

    async def _receive(self) -> Message:
        """The next message; a `RefusedError` for what is too much."""
        event = await self.websocket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", OVER))
        text = event.get("text")
        if text is None:
            raise ProtocolError("messages are text, not binary")
        if len(text.encode(errors="replace")) > MESSAGE_BYTES:
            raise RefusedError(f"a message has {MESSAGE_BYTES} bytes at most")
        most, now = self.server.limits.messages_a_second, time.monotonic()
        self._tokens = min(most, self._tokens + most * (now - self._counted_at)) - 1
        self._counted_at = now
        if self._tokens < 0:
            raise RefusedError(f"more than {most} messages in a second")
        return read_message(text)

    async def _send(self, message: dict[str, Any]) -> None:
        await self.websocket.send_json(message)

    async def _close(self, kind: str, why: str, code: int, *, elsewhere: bool = False) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._send(
                {"type": kind, "why": why, **({"elsewhere": True} if elsewhere else {})}
            )
            await self.websocket.close(code, why[:100])
