"""The page in a real Chromium: its canvas shows the frames of the engine, pixel for pixel."""

import base64
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.serve.client import Client
from tests.serve.drawn_world import SPEC, DrawnWorld
from tests.serve.slow_link import slow_link
from tests.serve.test_clips import fetch
from tests.serve.test_sessions import Seen, assert_as_alone
from tests.web.browser import find_chromium, open_browser
from worldmodel.action import Prompt
from worldmodel.serve.hall import Hall
from worldmodel.serve.running import Running, run_server
from worldmodel.serve.served_session import Note, Picture, ServedSession
from worldmodel.serve.server_limits import Limits
from worldmodel.serve.session_store import SessionStore
from worldmodel.storage.video import read_video
from worldmodel.world import Frame
from worldmodel.worlds.native import NativeWorld

FAST = 50.0
COMPARED = 200  # frames
PLAYING = "body[data-state=playing]"
COLLECT = """
window.shown = [];
addEventListener("DOMContentLoaded", () => {
  const screen = document.getElementById("screen");
  screen.addEventListener("drawn", ({ detail }) => {
    if (shown.length >= 400 || shown.length * screen.width * screen.height > 4e6) return;
    const pixels = screen.getContext("2d").getImageData(0, 0, screen.width, screen.height).data;
    let letters = "";
    for (let at = 0; at < pixels.length; at += 8192) {
      letters += String.fromCharCode(...pixels.subarray(at, at + 8192));
    }
    shown.push([detail, btoa(letters)]);
  });
});
"""


class Watched(Hall):
    """A hall whose sessions are written down from their first frame."""

    def __init__(self, world: NativeWorld) -> None:
        super().__init__(world, Limits(), FAST)
        self.seen: list[tuple[ServedSession, Seen]] = []

    def join(self, start: int, seed: int, owner: object, _: Any = None) -> ServedSession:
        seen = Seen()
        session = super().join(start, seed, owner, seen.hear)
        self.seen.append((session, seen))
        return session


@pytest.fixture(scope="module")
def served(tiny: NativeWorld) -> Iterator[tuple[Watched, Running]]:
    find_chromium()
    hall = Watched(tiny)
    # A further name asks for a token, as on any other network.
    with run_server(hall, names=["play.example.org"]) as running:
        yield hall, running


@pytest.fixture(scope="module")
def browser(served: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:  # noqa: ARG001  # skipped first
    with open_browser(
        tmp_path_factory.mktemp("browser"), viewport={"width": 800, "height": 600}
    ) as context:
        yield context


def wait_for(page: Any, condition: str) -> None:
    """Playwright's own way evaluates a string in the page, which its content policy forbids."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"not in 20 s: {condition}")


def as_frame(pixels: str, size: tuple[int, int]) -> Frame:
    """What `COLLECT` keeps of a canvas."""
    return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(*size, 4)[..., :3]


def begin(browser: Any, link: str, script: str = "", start: int = 2) -> Any:
    """A page that plays, whose `shown` has what was drawn; `script` runs before its own."""
    page = browser.new_page()
    page.add_init_script(COLLECT + script)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.errors.append(said.text))
    page.goto(link)
    page.click(f"#starts button:nth-child({start})")
    page.wait_for_selector(PLAYING)
    return page


def test_the_canvas_shows_the_engines_frames(
    served: tuple[Watched, Running], browser: Any, tiny: NativeWorld
) -> None:
    hall, running = served
    page = begin(browser, running.link)
    keys = tiny.actions.buttons
    for count in range(20, COMPARED + 1, 20):
        page.keyboard.down(keys[count // 20 % len(keys)])
        wait_for(page, f"shown.length >= {count}")
        page.keyboard.up(keys[count // 20 % len(keys)])
    shown = page.evaluate("shown")
    assert "frames/s" in page.inner_text("#numbers")
    assert "latency" in page.inner_text("#numbers")
    session, seen = hall.seen[-1]
    page.keyboard.press("Escape")
    page.wait_for_selector("body[data-state=parked]")
    time.sleep(0.5)  # for the tick that was under way
    pictures = list(seen.pictures)
    assert len(shown) >= COMPARED
    assert sum(bool(picture.action.buttons) for picture in pictures) > 20
    for number, pixels in shown:
        drawn = as_frame(pixels, tiny.frame_size)
        assert np.array_equal(drawn, pictures[number].frame), number
    assert_as_alone(tiny, session, pictures)
    assert page.errors == []
    page.close()


def test_keys_are_let_go_and_a_lost_connection_is_taken_up_again(
    served: tuple[Watched, Running], browser: Any, tiny: NativeWorld
) -> None:
    hall, running = served
    page = begin(browser, running.link)
    (session, seen) = hall.seen[-1]
    page.keyboard.down(tiny.actions.buttons[0])
    wait_for(page, "shown.length >= 10")
    assert seen.pictures[-1].action.buttons
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    seen.wait(len(seen.pictures) + 6)
    assert not seen.pictures[-1].action.buttons
    page.keyboard.press("F5")
    wait_for(page, "document.getElementById('note').textContent === 'saved'")
    (connection,) = [c for c in running.server.connections if session.owner is c]
    transport = connection.websocket
    stood = threading.Event()

    def hear(what: Picture | Note) -> None:
        if isinstance(what, Note) and what.kind == "parked":
            stood.set()

    session.listeners.add(hear)
    connection._loop.call_soon_threadsafe(
        lambda: connection._loop.create_task(transport.close(1012))
    )
    assert stood.wait(10)
    at = seen.pictures[-1].number
    page.wait_for_selector("body[data-state=lost]")
    page.wait_for_selector(PLAYING)
    seen.wait(len(seen.pictures) + 3)
    assert [picture.number for picture in seen.pictures] == list(range(len(seen.pictures)))
    assert len(seen.pictures) > at
    assert hall.seen[-1][0] is session, "the same session went on"
    page.keyboard.press("Escape")
    page.wait_for_selector("body[data-state=parked]")
    page.click("#continue")
    page.wait_for_selector(PLAYING)
    watching = browser.new_page()
    watching.goto(f"{running.address}#watch={session.watch_key}")
    watching.wait_for_selector(PLAYING)
    wait_for(watching, "document.getElementById('numbers').textContent !== ''")
    watching.close()
    page.close()


def test_who_watches_finds_the_session_on_any_server_of_a_fleet(
    browser: Any, tiny: NativeWorld, tmp_path: Path
) -> None:
    stores = [SessionStore(tmp_path / "store") for _ in range(2)]
    halls = [Hall(tiny, Limits(), FAST, store) for store in stores]
    with run_server(halls[0]) as one, run_server(halls[1]) as other:
        ports = [urlsplit(server.address).port or 0 for server in (one, other)]
        with slow_link(ports, 1e9, 0.0) as port, Client(one.address) as player:
            keys = player.play()
            for _ in range(2):  # whichever server a page's first connection reaches
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{port}/#watch={keys['watch']}")
                page.wait_for_selector(PLAYING)
                page.close()
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/#watch=of-nobody")
            page.wait_for_selector("body[data-state=over]")
            assert "nobody plays here any more" in page.inner_text("body")
            page.close()
    for store in stores:
        store.close()


def test_who_is_refused_reads_why(served: tuple[Watched, Running], browser: Any) -> None:
    _, running = served
    page = browser.new_page()
    page.goto(running.address)
    page.wait_for_selector("body[data-state=over]")
    assert "token is needed" in page.inner_text("#message")
    page.close()


def test_worlds_are_chosen_in_the_page(browser: Any, tiny: NativeWorld) -> None:
    drawn = DrawnWorld((120, 320), actions=replace(SPEC, prompts=True))
    halls = [Hall(tiny, Limits(), FAST), Hall(drawn, Limits())]
    with run_server(halls) as running:
        page = begin(browser, running.link)
        wait_for(page, "shown.length >= 2")
        assert not page.is_visible("#text")
        page.keyboard.press("Escape")
        page.wait_for_selector("body[data-state=parked]")
        assert "one player at a time" in page.inner_text("#starts section:nth-child(2)")
        assert "one player at a time" not in page.inner_text("#starts section:nth-child(1)")
        page.click("#starts section:nth-child(2) button")
        page.wait_for_selector(PLAYING)
        wait_for(page, "document.getElementById('screen').width === 320")
        page.keyboard.down("KeyW")
        (session,) = halls[1].sessions
        seen = Seen()
        session.listeners.add(seen.hear)
        seen.wait(20)
        assert seen.pictures[-1].action.buttons == {"KeyW"}
        assert not halls[0].sessions
        page.fill("#text", "it rains")
        page.press("#text", "Enter")
        seen.wait(len(seen.pictures) + 20)
        said = [picture.action.prompt for picture in seen.pictures if picture.action.prompt]
        assert said == [Prompt("it rains")]
        assert page.errors == []
        page.close()


def test_a_clip_has_a_link(served: tuple[Watched, Running], browser: Any, tmp_path: Path) -> None:
    _, running = served
    page = begin(browser, running.link)
    wait_for(page, "shown.length >= 2")
    page.click("#record")
    wait_for(page, "document.getElementById('record').textContent === 'Stop'")
    wait_for(page, "shown.length >= 20")
    page.click("#record")
    page.wait_for_selector("#video")
    for name, at_least in (("video", 1000), ("presses", 300)):
        status, content, _ = fetch(running, page.get_attribute(f"#{name}", "href"))
        assert status == 200
        assert len(content) > at_least
        (tmp_path / name).write_bytes(content)
    assert sum(1 for _ in read_video(tmp_path / "video")) >= 2
    page.close()
