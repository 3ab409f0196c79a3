"""The server in a thread of its own, for the command and for tests."""

import contextlib
import ipaddress
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import uvicorn

from worldmodel.serve.app import Server, make_app
from worldmodel.serve.door import LOOPBACK
from worldmodel.serve.hall import Hall
from worldmodel.serve.listening import listen
from worldmodel.serve.server_limits import MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Running:
    """A server that has begun to answer, and its address."""

    address: str  # http://host:port/
    token: str  # empty where none is needed
    server: Server
    thread: threading.Thread

    @property
    def link(self) -> str:
        """What a player opens; a browser never sends the part after # over the network."""
        return f"{self.address}#token={self.token}" if self.token else self.address


@contextlib.contextmanager
def run_server(
    halls: Hall | Sequence[Hall],
    host: str = "127.0.0.1",
    port: int = 0,
    names: Sequence[str] = (),
    *,
    is_behind_proxy: bool = False,
    listening: socket.socket | None = None,
) -> Iterator[Running]:
    """Serve one world or several until the end of the block; port 0 takes a free one.

    `listening` is what `listen` gave, where that was asked before the worlds were loaded.

    A token is made unless only this machine can reach the server: it listens on a loopback address
    and has no further `names`, which a reverse proxy would ask it by.
    """
    token = make_token(host, names, is_behind_proxy=is_behind_proxy)
    shown = shown_name(host)
    halls = [halls] if isinstance(halls, Hall) else halls
    app, server = make_app(halls, token, [*LOOPBACK, shown, *names], takes_addresses=is_any(host))
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=16 * MESSAGE_BYTES,  # those above `MESSAGE_BYTES` are told so, then closed
        ws_per_message_deflate=False,
        ws_ping_interval=10,
        ws_ping_timeout=10,
        proxy_headers=is_behind_proxy,  # else anybody on this machine could name any address
        forwarded_allow_ips="127.0.0.1,::1",
        h11_max_incomplete_event_size=16384,
        limit_concurrency=2 * server.limits.sockets,
        timeout_graceful_shutdown=2,
        server_header=False,
        lifespan="off",
        log_level="warning",
    )
    web = uvicorn.Server(config)
    with listening or listen(host, port) as listening, contextlib.ExitStack() as open_halls:
        for hall in halls:
            open_halls.enter_context(hall.open())
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, name="web")
        thread.start()
        shown = f"[{shown}]" if ":" in shown else shown
        try:
            yield Running(f"http://{shown}:{listening.getsockname()[1]}/", token, server, thread)
        finally:
            web.should_exit = True
            thread.join()
            server.clips.close()


def make_token(host: str, names: Sequence[str] = (), *, is_behind_proxy: bool = False) -> str:
    """128 random bits as text; empty where nobody but this machine can ask."""
    # A reverse proxy asks from this machine, for everybody: then loopback says nothing.
    is_private = is_loopback(host) and not names and not is_behind_proxy
    return "" if is_private else secrets.token_urlsafe(16)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def shown_name(host: str) -> str:
    """What a server that listens there is opened by."""
    return socket.gethostname() if is_any(host) else host


def is_any(host: str) -> bool:
    """Whether an address is that of every network, which nobody can open."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False
