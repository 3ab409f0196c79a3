"""What a player does on a page: keys, mouse, fingers, links and clips."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serve.drawn_world import psnr
from tests.web.pages import Made, history, playing, seen_at, wait_frames
from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.storage.recording import load_recording, read_recording
from worldmodel.storage.video import read_video
from worldmodel.web.compare_graphs import play_torch


def test_play_keys_mouse_link_and_clip(tiny: Made, page: Any) -> None:
    with playing(page, tiny, start=2):
        page.keyboard.down("KeyD")
        wait_frames(page, 4)
        page.evaluate("window.dispatchEvent(new Event('blur'))")  # whoever leaves lets go
        wait_frames(page, 3)
        page.keyboard.up("KeyD")
        held = [bool(action["buttons"]) for action in history(page)]
        assert any(held)
        assert held[-1] is False
        page.mouse.click(500, 300)  # headless browsers have no unadjusted movement: a plain lock
        page.wait_for_selector("#play:focus")
        assert page.evaluate("worldmodel.input.locked")
        page.mouse.move(560, 300)
        wait_frames(page, 3)
        assert any(action["mouse"][0] for action in history(page))
        page.keyboard.press("KeyM")
        assert page.is_visible("#map")
        while_hidden, after = page.evaluate(
            """async () => {
                const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
                const { player } = worldmodel;
                const show = (hidden) => {
                    const now = { value: hidden, configurable: true };
                    Object.defineProperty(document, "hidden", now);
                    document.dispatchEvent(new Event("visibilitychange"));
                };
                show(true);
                await player.busy;
                const before = player.history.length;
                await pause(500);
                const meanwhile = player.history.length;
                show(false);
                while (player.history.length < meanwhile + 2) await pause(20);
                return [meanwhile - before, player.history.length - meanwhile];
            }"""
        )
        assert while_hidden == 0
        assert after >= 2
        page.keyboard.press("KeyC")
        wait_frames(page, 12)
        with page.expect_download() as download:
            page.keyboard.press("KeyC")
        assert download.value.suggested_filename.startswith("bar-")
        link, shown, frames = page.evaluate(
            """async () => {
                worldmodel.pause();
                await worldmodel.player.busy;
                const address = await worldmodel.share();
                const screen = document.getElementById("screen").toDataURL();
                const { history } = worldmodel.player;
                return [address, screen, history.length];
            }"""
        )
        page.goto("about:blank")
        page.goto(link)
        assert seen_at(page, frames)["picture"] == shown


def test_two_sticks_move_and_turn_at_once(tiny: Made, page: Any) -> None:
    with playing(page, tiny, start=1):
        page.evaluate("worldmodel.showSticks()")
        devtools = page.context.new_cdp_session(page)

        def touch(kind: str, *points: tuple[int, int]) -> None:
            marked = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": marked})

        touch("touchStart", (200, 500))
        touch("touchStart", (200, 500), (800, 500))
        touch("touchMove", (260, 500), (860, 500))
        wait_frames(page, 3)
        last = history(page)[-1]
        assert last["buttons"] == ["KeyD"]
        assert last["mouse"][0] > 0
        touch("touchEnd")
        wait_frames(page, 2)
        assert history(page)[-1] == {"buttons": [], "mouse": [0, 0]}


def test_a_link_shows_the_numbers_that_its_sender_saw(lively: Made, page: Any) -> None:
    with playing(page, lively, start=2):
        page.keyboard.down("KeyD")
        wait_frames(page, 12)
        assert page.is_visible("#known")
        link, line, state, frames = page.evaluate(
            """async () => {
                worldmodel.pause();
                const { player } = worldmodel;
                await player.busy;
                const line = document.getElementById("known").textContent;
                return [await worldmodel.share(), line, [...player.state], player.history.length];
            }"""
        )
        assert "health" in line
        page.goto("about:blank")
        page.goto(link)
        again = seen_at(page, frames)
    assert [again["line"], again["state"]] == [line, state]


def test_a_clip_is_a_recording_with_the_numbers_of_every_frame(
    lively: Made, page: Any, tmp_path: Path
) -> None:
    """Its video has a frame for every row; torch, which plays the same, has the same numbers."""
    video, path, seen, done = record(page, lively, tmp_path)
    header, rows = read_recording(path)
    first, last = rows[0].index, rows[-1].index
    assert header.first_frame == first >= 5
    assert [row.index for row in rows] == list(range(first, last + 1))
    assert len(rows) >= 50
    held = [row.action.buttons for row in rows[1:]]
    assert held == [action.buttons for action in done[first:last]]
    assert set(held) == {frozenset(), frozenset({"KeyD"})}
    assert header.state == lively.world.file.state
    told = np.asarray([row.state for row in rows], np.float32)
    assert np.array_equal(told, np.asarray(seen[first : last + 1], np.float32), equal_nan=True)
    native = play_torch(lively.world, header.start, header.seed, done[:last])
    assert native.states is not None
    np.testing.assert_allclose(told, native.states[first - 1 :], rtol=0, atol=1e-4)
    assert np.nanstd(told, axis=0).any(), "numbers that never change prove nothing"
    assert video == path.with_suffix(".mp4")
    episode = load_recording(path)
    for frame, expected in zip(episode.frames, native.frames[first - 1 :], strict=True):
        assert psnr(np.asarray(frame), expected) > 30
    assert episode.state is not None
    assert np.array_equal(episode.state.values, told, equal_nan=True)


def test_a_video_that_may_lack_frames_is_not_taken_for_that_of_the_rows(
    tiny: Made, page: Any, tmp_path: Path
) -> None:
    page.add_init_script("delete globalThis.VideoEncoder")  # as over plain http
    video, path, seen, _ = record(page, tiny, tmp_path)
    header, rows = read_recording(path)
    assert header.state == tiny.world.file.state
    shown = seen[header.first_frame : header.first_frame + len(rows)]
    told = np.asarray([row.state for row in rows], np.float32)
    assert np.array_equal(told, np.asarray(shown, np.float32), equal_nan=True)
    assert video.name == f"{path.stem}-video.webm"
    assert sum(1 for _ in read_video(video)) > 1
    with pytest.raises(UserError, match="cannot be read"):
        load_recording(path)


def record(page: Any, made: Made, folder: Path) -> tuple[Path, Path, list[Any], list[Action]]:
    """Play and record: video, rows, what was known of every frame, and all that was done."""
    with playing(page, made, start=2):
        page.keyboard.down("KeyD")
        wait_frames(page, 5)
        page.keyboard.press("KeyC")
        wait_frames(page, 25)
        page.keyboard.up("KeyD")
        wait_frames(page, 25)
        video = download(page, folder, lambda: page.keyboard.press("KeyC"))
        rows = download(page, folder, lambda: page.click("#presses"))
        seen = page.evaluate("seen.map((frame) => frame && frame.state)")
        done = [as_action(x) for x in history(page)]
    return video, rows, seen, done


def as_action(done: dict[str, Any]) -> Action:
    """What a page remembers as hundredths of a degree."""
    right, down = done["mouse"]
    return Action(frozenset(done["buttons"]), (right / 100, down / 100))


def download(page: Any, folder: Path, act: Callable[[], None]) -> Path:
    """The file that a deed brings, under the name that the page gives it."""
    with page.expect_download() as found:
        act()
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path
