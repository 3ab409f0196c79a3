"""Players of a server, in a process of their own: `python -m worldmodel.serve.bench_players`.

What they are told and what they saw are lines of JSON: {"url", "token", "players", "seconds"} on
standard input; "begin" and "end" on standard output around the time that counts, then the players.
"""

import asyncio
import json
import sys
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from worldmodel.serve.protocol import HEADER

SETTLE = 1.0  # seconds after everybody has a first frame


class Player:
    """One socket that acknowledges every frame and walks on."""

    def __init__(self) -> None:
        self.first = 0.0  # seconds from asking to play until a frame is here
        self.refused = ""
        self.came: list[tuple[float, int]] = []  # when, and which
        self.is_here = asyncio.Event()

    async def play(self, url: str, token: str, seed: int) -> None:
        """Until cancelled, or refused."""
        origin = url.replace("ws", "http", 1).removesuffix("/play")
        async with connect(url, origin=origin, max_size=None, compression=None) as socket:  # type: ignore[arg-type]  # any text
            await self._say(socket, type="hello", token=token, h264=True)
            world = json.loads(await socket.recv())
            if "worlds" in world:
                buttons = world["worlds"][0]["actions"]["buttons"]
                began = time.monotonic()
                await self._say(socket, type="play", start=0, seed=seed)
                await self._follow(socket, began, buttons[seed % len(buttons) :][:1])
            self.refused = self.refused or world.get("why", "")
            self.is_here.set()

    async def _follow(self, socket: ClientConnection, began: float, buttons: list[str]) -> None:
        async for data in socket:
            now = time.monotonic()
            if isinstance(data, str):
                message = json.loads(data)
                if message["type"] in ("refused", "ended"):
                    self.refused = message["why"]
                continue
            serial, number, _ = HEADER.unpack_from(data)
            self.first = self.first or now - began
            self.came.append((now, number))
            self.is_here.set()
            await self._say(socket, type="ack", frame=serial)
            await self._say(socket, type="act", buttons=buttons, mouse=[1, 0], time=0)

    async def _say(self, socket: ClientConnection, **message: Any) -> None:
        await socket.send(json.dumps(message))


async def play(url: str, token: str, players: int, seconds: float) -> list[dict[str, Any]]:
    """What each of so many saw: see `Player`; times are since the beginning of what counts."""
    found = [Player() for _ in range(players)]
    tasks = [
        asyncio.create_task(player.play(url, token, seed)) for seed, player in enumerate(found)
    ]
    for player in found:
        await player.is_here.wait()
    await asyncio.sleep(SETTLE)
    _write("begin")
    begin = time.monotonic()
    await asyncio.sleep(seconds)
    end = time.monotonic()
    _write("end")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [
        {
            "first": player.first,
            "refused": player.refused,
            "came": [[at - begin, number] for at, number in player.came if begin <= at <= end],
        }
        for player in found
    ]


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _write(json.dumps(asyncio.run(play(**json.loads(sys.stdin.readline())))))
