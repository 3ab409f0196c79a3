"""What is on the way to one browser: at most two frames unacknowledged, only the newest waits."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable

from worldmodel.serve.encoders import Encoder, Pictures
from worldmodel.serve.protocol import HEADER, is_exact
from worldmodel.serve.served_session import Picture

ON_THE_WAY = 2
BEST, WORST, DOWN, UP = 90, 15, 15, 5  # qualities, and steps
LATE = 0.15  # seconds until a frame is acknowledged
CALM = 30  # frames in time before the quality goes up again


class Outbox:
    """Frames of one socket; everything is called on the event loop."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.quality = BEST
        self.encoder: Encoder = Pictures()
        self.most_on_the_way = 0  # ever
        self._send, self._clock = send, clock
        self._waiting: Picture | None = None
        self._number = 0  # of the newest that was offered
        self._is_new = True  # nothing that was sent before leads to what is sent next
        self._sent: dict[int, float] = {}  # when, by serial number
        self._serial = 0
        self._calm = 0
        self._changed = asyncio.Event()

    def offer(self, picture: Picture) -> None:
        """Show this one next, instead of any that still waits."""
        self._is_new |= picture.number <= self._number  # begun, loaded, gone back
        self._waiting, self._number = picture, picture.number
        self._changed.set()

    def acknowledge(self, serial: int) -> None:
        """The browser drew a frame, and with it all before."""
        sent = self._sent.get(serial)
        if sent is None:
            return
        self._sent = {number: at for number, at in self._sent.items() if number > serial}
        if self._clock() - sent > LATE:
            self.quality, self._calm = max(WORST, self.quality - DOWN), 0
        else:
            self._calm += 1
            if self._calm >= CALM:
                self.quality, self._calm = min(BEST, self.quality + UP), 0
        self._changed.set()

    async def run(self) -> None:
        """Send what waits until the task is cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._waiting is None or len(self._sent) >= ON_THE_WAY:
                continue
            picture, self._waiting = self._waiting, None
            data = await self._encode(picture)
            self._serial += 1
            self._sent[self._serial] = self._clock()
            self.most_on_the_way = max(self.most_on_the_way, len(self._sent))
            await self._send(HEADER.pack(self._serial, picture.number, picture.time) + data)
            if self._waiting is not None:
                self._changed.set()

    async def _encode(self, picture: Picture) -> bytes:
        is_new, self._is_new = self._is_new, False
        rows, columns, _ = picture.frame.shape
        encode = functools.partial(
            self.encoder.encode, picture.frame, self._clock(), self.quality, is_new=is_new
        )
        if is_exact((rows, columns)):  # a quarter of a millisecond: less than handing it over
            return encode()
        return await asyncio.to_thread(encode)
