"""A link that is slow: bytes pass at a rate and arrive later, both ways."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence

PIECE = 1400  # bytes, as a packet has
ROOM = 16  # pieces on the way; then the sender waits, as behind a full router


class SlowLink:
    """Between a browser and a server on this machine."""

    def __init__(self, ports: Sequence[int], bits_a_second: float, one_way: float) -> None:
        """`one_way`: seconds that a byte travels. Connections go to the ports in turn."""
        self.ports, self.rate, self.one_way = itertools.cycle(ports), bits_a_second / 8, one_way

    async def both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side closes."""
        there, back = await asyncio.open_connection("127.0.0.1", next(self.ports), limit=PIECE)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.wait(
                [
                    asyncio.create_task(self.pass_on(reader, back)),
                    asyncio.create_task(self.pass_on(there, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        back.close()
        writer.close()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way."""
        loop = asyncio.get_running_loop()
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(ROOM)

        async def arrive() -> None:
            while True:
                at, piece = await way.get()
                await asyncio.sleep(max(0.0, at - loop.time()))
                writer.write(piece)

        arriving, free = asyncio.create_task(arrive()), loop.time()
        try:
            while piece := await reader.read(PIECE):
                free = max(free, loop.time()) + len(piece) / self.rate
                await asyncio.sleep(max(0.0, free - loop.time()))
                await way.put((free + self.one_way, piece))
        finally:
            arriving.cancel()


@contextlib.contextmanager
def slow_link(ports: Sequence[int], bits_a_second: float, one_way: float) -> Iterator[int]:
    """The port to connect to instead."""
    loop, link = asyncio.new_event_loop(), SlowLink(ports, bits_a_second, one_way)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opening = asyncio.start_server(link.both, "127.0.0.1", 0, limit=PIECE)
    server = asyncio.run_coroutine_threadsafe(opening, loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
