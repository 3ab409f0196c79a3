"""Pages that tests open: made of a world, played, looked into."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.web.browser import serve
from worldmodel.web.site import make_site, write_site
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

ONE_CORE = "?threads=1&isolate=no&engine=wasm"
READY = "body:not([data-state=loading])"

SEE = """
    globalThis.seen = [];  // what every frame of the session shows, however slow the machine
    let shown;
    const see = ({ state }) => {
        const picture = document.getElementById("screen").toDataURL();
        const line = document.getElementById("known").textContent;
        seen[worldmodel.player.history.length] = { picture, line, state: state && [...state] };
    };
    Object.defineProperty(globalThis, "worldmodel", {
        get: () => shown,
        set: (page) => {
            const { player } = page;
            const drawn = player.onframe;
            player.onframe = (found) => { drawn(found); see(found); };
            shown = page;
        },
    });
"""


@dataclass(frozen=True, slots=True)
class Made:
    """A world in torch, and its page."""

    world: NativeWorld
    files: dict[str, bytes]
    folder: Path


def make(folder: Path, runtime: dict[str, bytes], to: Path) -> Made:
    settings = RunSettings(device="cpu", engine="torch", dtype="float32", threads=1)
    world = NativeWorld.load(folder, settings)
    site = make_site(world, runtime)
    write_site(to, site.files)
    return Made(world, site.files, to)


@contextmanager
def playing(page: Any, made: Made, start: int) -> Iterator[None]:
    """A page on which that start is played, counted from 1."""
    with serve(made.folder, isolated=False) as (address, _):
        page.goto(address + ONE_CORE)
        page.wait_for_selector(READY)
        page.click(f"#starts button:nth-child({start})")
        page.wait_for_selector("body[data-state=playing]")
        yield


def history(page: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        page.evaluate("JSON.stringify(worldmodel.player.history)")
    )
    return found


def seen_at(page: Any, frame: int) -> dict[str, Any]:
    """Picture, line of numbers and state of a frame, once it was shown."""
    page.wait_for_function("(frame) => globalThis.seen[frame]", arg=frame)
    found: dict[str, Any] = page.evaluate("(frame) => globalThis.seen[frame]", frame)
    return found


def wait_frames(page: Any, count: int) -> None:
    page.evaluate(
        """async (count) => {
            const { player } = worldmodel;
            const wanted = player.history.length + count;
            while (player.history.length < wanted) await new Promise(requestAnimationFrame);
        }""",
        count,
    )
