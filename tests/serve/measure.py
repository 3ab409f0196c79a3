"""What the wire and the page add, in a real Chromium: `python -m tests.serve.measure [SECONDS]`.

Overhead is from the moment at which the server takes a frame until the page has drawn it, latency
from a key until the first frame that knows it is drawn; both in milliseconds, p50 and p95.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tests.serve.drawn_world import DrawnWorld
from tests.serve.slow_link import slow_link
from tests.web.browser import open_browser
from worldmodel.serve.hall import Hall
from worldmodel.serve.running import Running, run_server
from worldmodel.serve.served_session import Note, Picture, ServedSession
from worldmodel.serve.server_limits import Limits
from worldmodel.world import World

WARM = 5  # frames
WATCH = """
window.drawn = [];
addEventListener("DOMContentLoaded", () => {
  document.getElementById("screen").addEventListener("drawn", ({ detail }) => {
    drawn.push([detail, performance.timeOrigin + performance.now(), performance.now()]);
    for (const end = performance.now() + (window.busy ?? 0); performance.now() < end;);
  });
});
"""


@dataclass
class Taken:
    """When the server took each frame, and when what the player did in it was done."""

    at: dict[int, float] = field(default_factory=dict)  # milliseconds since 1970
    keys: dict[int, float] = field(default_factory=dict)  # milliseconds of the page's clock

    def hear(self, what: Picture | Note) -> None:
        """A session's listener."""
        if isinstance(what, Picture):
            self.at[what.number] = 1000 * time.time()
            if what.time:
                self.keys[what.number] = what.time


@dataclass(frozen=True)
class Page:
    """A page that plays."""

    page: Any
    running: Running
    session: ServedSession
    taken: Taken

    @property
    def most_on_the_way(self) -> int:
        """Frames, ever."""
        return max(c.outbox.most_on_the_way for c in self.running.server.connections)

    def play(self, seconds: float) -> None:
        """Tap keys, a new one every 0.3 s."""
        end, keys = time.monotonic() + seconds, self.session.world.actions.buttons
        while time.monotonic() < end:
            for key in keys[:2]:
                self.page.keyboard.down(key)
                self.page.wait_for_timeout(150)
                self.page.keyboard.up(key)
                self.page.wait_for_timeout(150)

    def figures(self) -> dict[str, Any]:
        """Of all frames but the first ones."""
        drawn = self.page.evaluate("drawn")[WARM:]
        overhead = [at - self.taken.at[number] for number, at, _ in drawn]
        latency = [
            now - self.taken.keys[number] for number, _, now in drawn if number in self.taken.keys
        ]
        return {
            "frames/s": 1000 * (len(drawn) - 1) / (drawn[-1][1] - drawn[0][1]),
            "overhead": np.percentile(overhead, (50, 95)).round(1).tolist(),
            "latency": np.percentile(latency, (50, 95)).round(1).tolist() if latency else [],
        }


@contextmanager
def playing(
    browser: Any, running: Running, port: int = 0, script: str = "", world: int = 0
) -> Iterator[Page]:
    """A page at a start of one of the worlds; `port` instead of the server's own."""
    page = browser.new_page()
    page.add_init_script(WATCH + script)
    hall, taken = running.server.halls[world], Taken()
    page.goto(f"http://127.0.0.1:{port or urlsplit(running.address).port}/")
    page.click(f"#starts section:nth-child({world + 1}) button")
    page.wait_for_selector("body[data-state=playing]")
    session = hall.sessions[-1]
    session.listeners.add(taken.hear)
    page.wait_for_timeout(1000)
    page.evaluate("drawn.length = 0")
    yield Page(page, running, session, taken)
    page.close()
    hall.end(session, "measured")


def heap(page: Any) -> float:
    """Megabytes of the page's JavaScript, after a collection."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("HeapProfiler.collectGarbage")
    devtools.send("Performance.enable")
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return next(m["value"] for m in metrics if m["name"] == "JSHeapUsedSize") / 1e6


def measure(
    browser: Any, world: World, seconds: float, script: str = "", link: tuple[float, float] = (0, 0)
) -> dict[str, Any]:
    """One world in one page; `link`: bits a second, and seconds one way."""
    with ExitStack() as stack:
        running = stack.enter_context(run_server(Hall(world, Limits())))
        port = urlsplit(running.address).port or 0
        if link[0]:
            port = stack.enter_context(slow_link([port], *link))
        page = stack.enter_context(playing(browser, running, port, script))
        page.play(seconds)
        return page.figures() | {"on the way": page.most_on_the_way}


def measure_busy(browser: Any, seconds: float) -> dict[str, Any]:
    """A page that is busy 120 ms after each frame, beside a player who is not."""
    halls = [Hall(DrawnWorld((48, 64), 17.5), Limits()) for _ in range(2)]
    with run_server(halls) as running, playing(browser, running) as well:
        well.play(seconds / 2)
        alone = well.figures()["frames/s"]
        with playing(browser, running, script="window.busy = 120;", world=1) as busy:
            before = heap(busy.page)
            well.page.evaluate("drawn.length = 0")
            time.sleep(seconds)
            beside = well.figures()["frames/s"]
            found = busy.figures()
            return found | {
                "on the way": busy.most_on_the_way,
                "heap MB": [round(before, 2), round(heap(busy.page), 2)],
                "the other's frames/s": [round(alone, 2), round(beside, 2)],
            }


def main(seconds: float) -> None:
    """All of it, a line each."""
    from worldmodel.worlds.find import open_world
    from worldmodel.worlds.run_settings import RunSettings

    rooms = open_world("doom-rooms", RunSettings(device="cpu"))
    slow, without = (3.2e6, 0.02), "delete window.VideoDecoder;"
    plans: dict[str, Callable[[Any], dict[str, Any]]] = {
        "doom-rooms": lambda b: measure(b, rooms, seconds),
        "640x480 H.264": lambda b: measure(b, DrawnWorld(fine=12), seconds),
        "640x480 JPEG": lambda b: measure(b, DrawnWorld(fine=12), seconds, without),
        "slow H.264": lambda b: measure(b, DrawnWorld(fine=12), seconds, "", slow),
        "slow JPEG": lambda b: measure(b, DrawnWorld(fine=12), seconds, without, slow),
        "busy page": lambda b: measure_busy(b, 60.0),
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        open_browser(Path(folder) / "browser") as browser,
    ):
        for name, plan in plans.items():
            sys.stdout.write(f"{name}: {plan(browser)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
