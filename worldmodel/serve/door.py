"""Who may ask at all: Host and Origin, and the headers of every answer."""

import contextlib
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Door:
    """An application that is asked only under the names it has, and only by its own pages.

    Browsers let every page open a socket to any address, so its Origin is looked at here; and a
    name that an attacker makes point to this machine is none of `names`.
    """

    def __init__(
        self, app: ASGIApp, names: Sequence[str], *, takes_addresses: bool = False
    ) -> None:
        """`takes_addresses`: any IP address is a name too; nobody can make one point elsewhere."""
        self.app, self.names = app, {name.lower() for name in names}
        self.takes_addresses = takes_addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or socket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        why = self._why_not(headers.get("host", ""), headers.get("origin"), scope["type"])
        if why:
            await PlainTextResponse(f"{why}\n", 403)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)

    def _why_not(self, host: str, origin: str | None, kind: str) -> str:
        try:
            name = urlsplit(f"//{host}").hostname
            asking = None if origin is None else urlsplit(origin).netloc
        except ValueError:
            return "the Host or Origin header cannot be read"
        if name not in self.names and not (self.takes_addresses and _is_address(name)):
            return "this server does not go by that name; worldmodel serve --name NAME adds one"
        if asking is None:
            return "" if kind == "http" else "a socket needs the Origin header, as browsers send it"
        return "" if asking.lower() == host.lower() else "a page from elsewhere may not ask here"


def _is_address(name: str | None) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name or ""))
    return False
