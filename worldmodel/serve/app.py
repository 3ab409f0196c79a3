"""The web application: the page's files, and one socket for each player or spectator."""

import base64
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from worldmodel.serve.clips import KINDS as CLIP_KINDS
from worldmodel.serve.clips import Clips
from worldmodel.serve.connection import Connection
from worldmodel.serve.door import Door
from worldmodel.serve.hall import Hall
from worldmodel.serve.protocol import encode
from worldmodel.serve.served_session import ServedSession

KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
PAGE = {  # by address: everything there is
    "/": ("serve", "index.html"),
    "/serve.js": ("serve", "serve.js"),
    "/serve.css": ("serve", "serve.css"),
    "/pictures.js": ("serve", "pictures.js"),
    "/input.js": ("web", "input.js"),  # shared with the page that has no server
}


class Server:
    """What all sockets share; lives on the event loop."""

    def __init__(self, halls: Sequence[Hall], token: str) -> None:
        """An empty token lets in everybody who can reach the server."""
        self.halls, self.hall = halls, halls[0]
        self.limits = self.hall.limits
        self._token = token.encode()
        self.addresses: Counter[str] = Counter()
        self.spectators: Counter[ServedSession] = Counter()
        self.connections: set[Connection] = set()
        self.worlds: Sequence[dict[str, Any]] = [describe(hall) for hall in halls]
        store = self.hall.store
        self.clips = Clips(self.limits, store.folder / "clips" if store else None)

    def has_token(self, token: str) -> bool:
        """Whether somebody may come in."""
        return not self._token or hmac.compare_digest(self._token, token.encode())

    async def socket(self, websocket: WebSocket) -> None:
        """A socket from its first message to its last."""
        connection = Connection(self, websocket)
        address = websocket.client.host if websocket.client else ""
        self.addresses[address] += 1
        self.connections.add(connection)
        try:
            await connection.run(self._why_full(address))
        finally:
            self.connections.discard(connection)
            self.addresses[address] -= 1
            if not self.addresses[address]:
                del self.addresses[address]

    async def clip(self, request: Request) -> Response:
        """A clip's file, for whoever has its link."""
        name = str(request.path_params["name"])
        path = self.clips.find(name)
        if path is None:
            return PlainTextResponse("there is no such clip, or no longer; record another\n", 404)
        kind = CLIP_KINDS[path.suffix]
        return FileResponse(path, media_type=kind, filename=f"worldmodel{path.suffix}")

    def _why_full(self, address: str) -> str:
        limits = self.limits
        if self.addresses[address] > limits.sockets_an_address:
            return f"more than {limits.sockets_an_address} connections from your address"
        if len(self.connections) > limits.sockets:
            return f"full: more than {limits.sockets} connections; try again later"
        return ""


def describe(hall: Hall) -> dict[str, Any]:
    """What a page must know of the world, as JSON."""
    world, spec = hall.world, asdict(hall.world.actions)
    pictures = [base64.b64encode(encode(frame, 80)).decode() for frame in hall.pictures]
    return {
        "name": world.name,
        "sessions": hall.capacity,
        "frames_per_second": hall.frames_per_second,
        "rows": world.frame_size[0],
        "columns": world.frame_size[1],
        "actions": spec,
        "starts": [
            {"caption": caption, "picture": picture}
            for caption, picture in zip(world.starts, pictures, strict=True)
        ],
    }


def make_app(
    halls: Sequence[Hall], token: str, names: list[str], *, takes_addresses: bool = False
) -> tuple[ASGIApp, Server]:
    """The application; `names` and `takes_addresses` as in `Door`."""
    server = Server(halls, token)
    app = Starlette(routes=[*_pages(), _clip(server), WebSocketRoute("/play", server.socket)])
    return Door(app, names, takes_addresses=takes_addresses), server


def _pages() -> list[Route]:
    pages = [Route(address, _file(*at), methods=["GET"]) for address, at in PAGE.items()]
    return [*pages, Route("/favicon.ico", _nothing, methods=["GET"])]


def _clip(server: Server) -> Route:
    return Route("/clip/{name}", server.clip, methods=["GET"])


async def _nothing(_: Request) -> Response:
    return Response(status_code=204)


def _file(part: str, name: str) -> Any:
    content = (files(f"worldmodel.{part}") / "page" / name).read_bytes()
    kind = KINDS[name.rpartition(".")[2]]

    async def answer(_: Request) -> Response:
        return Response(content, media_type=kind)

    return answer
