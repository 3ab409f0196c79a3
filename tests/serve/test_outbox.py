"""How frames are encoded, and what a slow browser gets."""

import asyncio

import cv2
import numpy as np

from worldmodel.action import IDLE
from worldmodel.serve.outbox import BEST, CALM, DOWN, UP, WORST, Outbox
from worldmodel.serve.protocol import HEADER, encode
from worldmodel.serve.served_session import Picture
from worldmodel.world import Frame


def noise(rows: int, columns: int) -> Frame:
    return np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)


def test_small_frames_are_exact_and_large_ones_are_jpeg() -> None:
    small, large = noise(48, 256), noise(48, 257)
    data = np.frombuffer(encode(small, 50), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.array_equal(decoded[..., ::-1], small)
    fine, coarse = encode(large, 90), encode(large, 30)
    assert fine[:2] == coarse[:2] == b"\xff\xd8"
    assert len(coarse) < len(fine) / 2
    half = cv2.imdecode(np.frombuffer(encode(large, 15), np.uint8), cv2.IMREAD_COLOR)
    assert half is not None
    assert half.shape == (24, 128, 3)


def test_quality_steps_down_when_acknowledgements_lag() -> None:
    now = 0.0
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    async def play(outbox: Outbox, frames: int, lag: float) -> None:
        nonlocal now
        for number in range(frames):
            before = len(sent)
            outbox.offer(Picture(number, noise(8, 300), IDLE, 0.0))
            while len(sent) == before:
                await asyncio.sleep(0.001)
            now += lag
            outbox.acknowledge(HEADER.unpack_from(sent[-1])[0])

    async def check() -> None:
        outbox = Outbox(send, lambda: now)
        running = asyncio.create_task(outbox.run())
        await play(outbox, 2, 0.3)
        assert outbox.quality == BEST - 2 * DOWN
        await play(outbox, 9, 0.3)
        assert outbox.quality == WORST
        await play(outbox, CALM, 0.05)
        assert outbox.quality == WORST + UP
        outbox.acknowledge(10**6)  # one that was never sent
        assert outbox.quality == WORST + UP
        running.cancel()

    asyncio.run(check())
