"""A player without a page: the protocol over a real socket."""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from worldmodel.serve.protocol import HEADER
from worldmodel.world import Frame

WITHIN = 20.0  # seconds in which anything must come
H264 = bytes(3)
NOTHING: Frame = np.zeros((0, 0, 3), np.uint8)  # whoever asks for H.264 decodes the data


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame as it came."""

    serial: int
    number: int
    time: float
    frame: Frame
    data: bytes


class Client:
    """Acknowledges every frame, unless told not to."""

    socket: ClientConnection

    def __init__(self, address: str, **options: Any) -> None:
        self.origin = options.pop("origin", address.rstrip("/"))
        self.url = address.replace("http", "ws", 1) + "play"
        self.options = options
        self.acknowledges = True
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Client":
        options = {"compression": None, **self.options}
        opening = connect(self.url, origin=self.origin, max_size=None, **options)
        self.socket = self._open.enter_context(opening)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def say(self, kind: str, **values: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **values}))

    def hear(self) -> dict[str, Any] | Shown:
        data = self.socket.recv(timeout=WITHIN)
        if isinstance(data, str):
            return json.loads(data)
        serial, number, time = HEADER.unpack_from(data)
        picture = data[HEADER.size :]
        if self.acknowledges:
            with contextlib.suppress(ConnectionClosed):  # why is among what came before
                self.say("ack", frame=serial)
        if picture.startswith(H264):
            return Shown(serial, number, time, NOTHING, picture)
        image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return Shown(serial, number, time, np.asarray(image[..., ::-1], np.uint8), picture)

    def expect(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; frames and others before it are passed over."""
        end = time.monotonic() + 2 * WITHIN
        while True:
            assert time.monotonic() < end, f"no {kind}"
            found = self.hear()
            if isinstance(found, dict):
                assert found["type"] != "refused" or kind == "refused", found
                if found["type"] == kind:
                    return found

    def shown(self, wanted: Callable[[Shown], bool] = lambda _: True) -> Shown:
        """The next frame that is wanted."""
        while True:
            found = self.hear()
            if isinstance(found, Shown) and wanted(found):
                return found

    def play(
        self, start: int = 0, seed: int = 1, world: int = 0, **hello: str | bool
    ) -> dict[str, Any]:
        """Hello and play: what the server says of the session."""
        self.say("hello", **hello)
        self.expect("worlds")
        self.say("play", world=world, start=start, seed=seed)
        return self.expect("playing")

    def why_closed(self, kind: str = "refused") -> tuple[str, int]:
        """Why the server ended it, and the code it closed with."""
        why = self.expect(kind)["why"]
        return why, self.close_code()

    def close_code(self) -> int:
        """What the server closed with; all before it is passed over."""
        end = time.monotonic() + WITHIN
        with contextlib.suppress(ConnectionClosed):
            while time.monotonic() < end:
                self.socket.recv(timeout=WITHIN)
        code = self.socket.protocol.close_code
        assert code is not None, "the server did not close"
        return code
