"""H.264 for large frames: what is decoded is what was shown, and nothing is ever missing."""

import asyncio
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest

from tests.serve.client import Client, Shown
from tests.serve.drawn_world import DrawnWorld, play_alone, psnr
from tests.serve.test_browser import as_frame, begin, wait_for
from tests.web.browser import find_chromium, open_browser
from worldmodel.action import IDLE
from worldmodel.serve import outbox
from worldmodel.serve.encoders import Video
from worldmodel.serve.hall import Hall
from worldmodel.serve.outbox import BEST, WORST, Outbox
from worldmodel.serve.protocol import HEADER
from worldmodel.serve.running import Running, run_server
from worldmodel.serve.served_session import Picture
from worldmodel.serve.server_limits import Limits
from worldmodel.world import Frame

ALIKE = 33.0  # decibels
START, SEQUENCE = b"\0\0\0\1", 7
SIZE = 240, 320
PLAIN_HTTP = "delete window.VideoDecoder; delete window.ImageDecoder;"  # what is absent there


class Decoder:
    """As a browser's: a frame goes in, its picture comes out."""

    def __init__(self) -> None:
        self._codec: Any = av.CodecContext.create("h264", "r")

    def decode(self, data: bytes) -> Frame:
        (picture,) = self._codec.decode(av.Packet(data))
        return picture.to_ndarray(format="rgb24")


def is_key(data: bytes) -> bool:
    assert data.startswith(START)
    return data[4] & 31 == SEQUENCE


def is_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8")


@pytest.mark.parametrize("size", [(480, 640), (352, 640), (351, 641), (48, 258)])
def test_the_bytes_decode_to_the_frame(size: tuple[int, int]) -> None:
    encoder, decoder = Video(), Decoder()
    for number, frame in enumerate(play_alone(DrawnWorld(size), 0, 0, 20)):
        data = encoder.encode(frame, number / 17.5, BEST, is_new=number in (0, 9))
        assert is_key(data) == (number in (0, 9))
        decoded = decoder.decode(data)
        assert decoded.shape[:2] == (size[0] + size[0] % 2, size[1] + size[1] % 2)
        assert psnr(decoded[: size[0], : size[1]], frame) > ALIKE, number


def test_less_quality_is_fewer_bytes_and_no_key_frame() -> None:
    world, encoder, sizes = DrawnWorld(), Video(), []
    rng = np.random.default_rng(0)
    for number, frame in enumerate(play_alone(world, 0, 0, 90)):
        grainy = np.clip(frame + rng.normal(0, 12, frame.shape), 0, 255).astype(np.uint8)
        quality = BEST if number < 45 else WORST
        data = encoder.encode(grainy, number / 17.5, quality, is_new=number == 0)
        assert is_key(data) == (number == 0)
        sizes.append(len(data))
    assert sum(sizes[60:]) < sum(sizes[15:45]) / 2


def test_a_frame_that_is_left_out_is_missing_in_no_decoder() -> None:
    """It is left out before it is encoded; where play goes back, a key frame follows."""
    frames, sent, decoder = play_alone(DrawnWorld(), 0, 0, 40), [], Decoder()

    async def send(data: bytes) -> None:
        sent.append(data)

    async def check() -> None:
        sending = Outbox(send)
        sending.encoder = Video()
        running = asyncio.create_task(sending.run())
        for number in [*range(30), *range(10, 40)]:
            sending.offer(Picture(number, frames[number], IDLE, 0.0))
            await asyncio.sleep(0.002 if number % 3 else 0.05)
            if number % 3 == 0:
                sending.acknowledge(len(sent))
        running.cancel()

    asyncio.run(check())
    numbers = [HEADER.unpack_from(data)[1] for data in sent]
    assert 10 < len(numbers) < 50, "some were left out"
    keys = []
    for data, number in zip(sent, numbers, strict=True):
        assert psnr(decoder.decode(data[HEADER.size :]), frames[number]) > ALIKE, number
        if is_key(data[HEADER.size :]):
            keys.append(number)
    back = next(i for i in range(1, len(numbers)) if numbers[i] <= numbers[i - 1])
    assert keys == [numbers[0], numbers[back]]


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with run_server(Hall(DrawnWorld(SIZE), Limits())) as running:
        yield running


def test_each_socket_gets_what_it_can_decode(served: Running) -> None:
    with Client(served.address) as player, Client(served.address) as spectator:
        keys = player.play(h264=True)
        decoder = Decoder()
        first = [player.shown() for _ in range(6)]
        assert [is_key(x.data) for x in first] == [True, *[False] * 5]
        assert all(len(decoder.decode(x.data)) == SIZE[0] for x in first)
        spectator.say("hello", watch=keys["watch"])
        assert all(is_jpeg(spectator.shown().data) for _ in range(3))
        with Client(served.address) as other:
            other.say("hello", watch=keys["watch"], h264=True)
            assert [is_key(other.shown().data) for _ in range(3)] == [True, False, False]
        player.say("save")
        player.expect("notice")
        assert not any(is_key(player.shown().data) for _ in range(20))
        player.say("load")
        again: list[Shown] = [player.shown() for _ in range(20)]
        assert [is_key(x.data) for x in again].count(True) == 1
    with Client(served.address) as player:
        player.say("hello", resume=keys["resume"], h264=True)
        assert [is_key(player.shown().data) for _ in range(3)] == [True, False, False]
        served.server.hall.end(served.server.hall.sessions[0], "over")


@pytest.fixture(scope="module")
def browser(served: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:  # noqa: ARG001  # skipped first
    find_chromium()
    with open_browser(tmp_path_factory.mktemp("browser")) as context:
        yield context


KINDS = """
window.kinds = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({ data }) =>
      typeof data === "string" || kinds.push(new Uint8Array(data)[16]));
  }
};
"""
BREAKS = """
const real = VideoDecoder.prototype.decode;
let count = 0;
VideoDecoder.prototype.decode = function (chunk) {
  count += 1;
  if (count === 5) throw new TypeError("a driver that breaks");
  return real.call(this, chunk);
};
"""


def see(browser: Any, served: Running, script: str) -> tuple[list[int], list[Any], list[str]]:
    """First bytes of what came, and what was drawn."""
    page = begin(browser, served.link, KINDS + script, start=1)
    wait_for(page, "shown.length >= 12")
    found = page.evaluate("[kinds, shown.slice(0, 12)]")
    page.close()
    hall = served.server.hall
    for session in hall.sessions:
        hall.end(session, "over")
    return found[0], found[1], page.errors


def assert_alike(shown: list[Any], least: float = ALIKE - 2) -> None:
    frames = {}
    for seed in (0, 1):
        alone = play_alone(DrawnWorld(SIZE), 0, seed, 100)
        frames[seed] = alone
    for number, pixels in shown:
        drawn = as_frame(pixels, SIZE)
        assert max(psnr(drawn, frames[seed][number]) for seed in (0, 1)) > least, number


def test_the_page_decodes_it(browser: Any, served: Running) -> None:
    kinds, shown, errors = see(browser, served, "")
    assert set(kinds) == {0}
    assert_alike(shown)
    assert errors == []


def test_a_page_without_a_decoder_gets_pictures(browser: Any, served: Running) -> None:
    kinds, shown, errors = see(browser, served, PLAIN_HTTP)
    assert set(kinds) == {0xFF}
    assert_alike(shown)
    assert errors == []


def test_a_decoder_that_breaks_is_not_asked_again(browser: Any, served: Running) -> None:
    kinds, shown, _ = see(browser, served, BREAKS)
    assert kinds[0] == 0
    assert kinds[-1] == 0xFF
    assert_alike(shown)


def test_half_as_large_pictures_of_a_slow_link_fill_the_canvas(
    browser: Any, served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BEST", outbox.WORST)
    kinds, shown, errors = see(browser, served, PLAIN_HTTP)
    assert set(kinds) == {0xFF}
    assert_alike(shown, ALIKE - 8)
    assert errors == []
