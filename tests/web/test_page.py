"""Pages in a real Chromium: what they show is what torch computes, and what goes wrong is said."""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.serve.drawn_world import psnr
from tests.web.browser import find_chromium, let_in, open_browser, serve
from tests.worlds.make_world import make_world
from worldmodel.action import Action, ActionSpec
from worldmodel.config import UserError
from worldmodel.game.loop import told_state
from worldmodel.game.play_session import Session
from worldmodel.game.step import Step
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.motion import Motion
from worldmodel.random_streams import arrays
from worldmodel.rollout import round_to_grid
from worldmodel.storage.checkpoint import load_weights
from worldmodel.storage.episodes import load_episode
from worldmodel.storage.recording import load_recording, read_recording
from worldmodel.storage.video import read_video
from worldmodel.web.compare_graphs import GraphPlay, compare, play_torch
from worldmodel.web.runtime import WASM, RuntimeFilesError, fetch_runtime
from worldmodel.web.single import write_single
from worldmodel.web.site import make_site, write_site
from worldmodel.web.world_files import Arrays, describe_motion
from worldmodel.worlds.find import find_world
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_folder import MOTION, read_world_file

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


@pytest.fixture(scope="module")
def runtime() -> dict[str, bytes]:
    """The real one, without its part for WebGPU, which is the larger half."""
    find_chromium()
    try:
        return {name: content for name, content in fetch_runtime().items() if name in WASM}
    except RuntimeFilesError as error:
        pytest.skip(f"no onnxruntime-web: {error}")


def make(folder: Path, runtime: dict[str, bytes], to: Path) -> Made:
    settings = RunSettings(device="cpu", engine="torch", dtype="float32", threads=1)
    world = NativeWorld.load(folder, settings)
    site = make_site(world, runtime)
    write_site(to, site.files)
    return Made(world, site.files, to)


@pytest.fixture(scope="module")
def rooms(runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(find_world("doom-rooms"), runtime, tmp_path_factory.mktemp("rooms") / "site")


@pytest.fixture(scope="module")
def tiny(runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("tiny")
    return make(make_world(folder / "bar", is_placed=True), runtime, folder / "site")


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"is_placed": True},
        {"has_objects": True},
        {"has_objects": True, "has_scene": True, "time_attention_every": 2},
    ],
    ids=["numbers alone", "and a place", "and objects", "and a scene"],
)
def lively(
    request: pytest.FixtureRequest, runtime: dict[str, bytes], tmp_path_factory: Any
) -> Made:
    """A world in which things happen, and whose transformer is told of them."""
    folder = tmp_path_factory.mktemp("lively")
    world = make_world(folder / "bar", is_numbered=True, **request.param)
    return make(world, runtime, folder / "site")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("browser")
    with open_browser(folder, viewport={"width": 1000, "height": 700}) as context:
        yield context


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = browser.new_page()
    opened.set_default_timeout(30_000)
    opened.add_init_script(SEE)
    yield opened
    opened.close()


def script(spec: ActionSpec, frames: int) -> list[Action]:
    """Keys held for a while, mouse now and then."""
    rng = np.random.default_rng(1)
    actions, held, mouse = [], frozenset[str](), 0.0
    for frame in range(frames):
        if frame % 9 == 0:
            held = frozenset(b for b in spec.buttons if rng.random() < 0.4)
        if frame % 5 == 0:
            mouse = int(rng.integers(-1500, 1500)) / 100 if rng.random() < 0.6 else 0.0
        actions.append(Action(held, (mouse, 0.0)))
    return actions


def play_in(
    page: Any, world: NativeWorld, start: int, seed: int, actions: list[Action]
) -> GraphPlay:
    """The same on an open page."""
    sent = [{"buttons": sorted(a.buttons), "mouse": list(a.mouse)} for a in actions]
    found = page.evaluate(
        """async ({ start, seed, actions }) => {
            const text = (array) => {
                const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
                let letters = "";
                for (const byte of bytes) letters += String.fromCharCode(byte);
                return btoa(letters);
            };
            const { player } = worldmodel;
            await player.begin(start, seed);
            const frames = await player.playThrough(actions);
            return frames.map(({ pixels, latent, state }) => (
                [text(latent), text(pixels), state && text(state)]
            ));
        }""",
        {"start": start, "seed": seed, "actions": sent},
    )
    latents, pixels, states = zip(*found, strict=True)
    rows, columns = world.frame_size
    shape = world.transformer.config.latent_shape
    return GraphPlay(
        numbers(latents, np.float32).reshape(-1, *shape),
        numbers(pixels, np.uint8).reshape(-1, rows, columns, 4)[..., :3],
        None if states[0] is None else numbers(states, np.float32).reshape(len(states), -1),
    )


def numbers(texts: Any, dtype: Any) -> Any:
    return np.stack([np.frombuffer(base64.b64decode(text), dtype) for text in texts])


def test_two_hundred_frames_equal_torch(rooms: Made, page: Any) -> None:
    actions = script(rooms.world.actions, 200)
    with serve(rooms.folder, isolated=False) as (address, asked):
        page.goto(address + ONE_CORE)
        page.wait_for_selector(READY)
        loaded = len(asked)
        found = play_in(page, rooms.world, 1, 7, actions)
        assert asked[loaded:] == []  # a page that plays needs no server
    difference = compare(play_torch(rooms.world, 1, 7, actions), found)
    assert difference.equal_latents == 200
    assert difference.pixels <= 1


def test_a_player_walks_as_native_ones_do(tiny: Made, page: Any) -> None:
    """The default world's own motion, along its walls: every number equal to the last bit.

    But one: the height of the eye comes from a small network, whose sums are made in another order.
    """
    folder = find_world("doom-places")
    file = read_world_file(folder)
    assert file.motion is not None
    assert file.state is not None
    motion = Motion(file.motion, file.state).eval().requires_grad_(requires_grad=False)
    load_weights(motion, folder / MOTION)
    clip = load_episode(folder / "starts" / next(iter(file.starts)))
    assert clip.state is not None
    state = torch.from_numpy(clip.state.values[-1:])
    vectors = torch.from_numpy(file.actions.encode(script(file.actions, 1000)))
    arrays = Arrays()
    given = {
        "rules": describe_motion(motion, arrays),
        "data": base64.b64encode(gzip.decompress(arrays.content)).decode(),
        "state": state[0].tolist(),
        "vectors": vectors.tolist(),
    }
    with serve(tiny.folder, isolated=False) as (address, _):
        page.goto(f"{address}licences/README.txt")
        found = page.evaluate(
            """async ({ rules, data, state, vectors }) => {
                const { Motion } = await import("/page/motion.js");
                const { arraysOf } = await import("/page/files.js");
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                const motion = new Motion(rules, arraysOf(bytes));
                let now = Float32Array.from(state);
                return vectors.map((vector) => {
                    now = motion.next(now, Float32Array.from(vector));
                    return [...now];
                });
            }""",
            given,
        )
    walked = []
    for vector in vectors:
        state = motion(state, vector[None])
        walked.append(state[0].numpy())
    native, played = np.stack(walked), np.asarray(found, np.float32)
    eye = motion.roles.eye
    assert np.abs(native[:, eye] - played[:, eye]).max() < 1e-4
    assert np.array_equal(np.delete(native, eye, 1), np.delete(played, eye, 1))


def test_latents_are_rounded_and_noise_is_drawn_as_in_torch(tiny: Made, page: Any) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(5))
    values[:4] = torch.tensor([0.25, 0.75, -0.25, -0.75])  # halves go to the even side
    with serve(tiny.folder, isolated=False) as (address, _):
        page.goto(f"{address}licences/README.txt")
        rounded, noise = page.evaluate(
            """async (values) => {
                const { toGrid } = await import("/page/world.js");
                const { Generator } = await import("/page/random.js");
                const steps = [0.5, 0.1].map((step) => values.map((value) => toGrid(value, step)));
                return [steps, [...new Generator(2 ** 32 - 5).normal(2000)]];
            }""",
            values.tolist(),
        )
    for step, found in zip((0.5, 0.1), rounded, strict=True):
        sampler = SamplerConfig(sigmas=(1.0, 0.0), renoise=True, latent_step=step)
        assert torch.equal(torch.tensor(found), round_to_grid(values, sampler))
    drawn = torch.randn(2000, generator=torch.Generator().manual_seed(2**32 - 5))
    assert torch.allclose(torch.tensor(noise), drawn, rtol=1e-6, atol=1e-6)


def test_chances_are_those_of_native_play(tiny: Made, page: Any) -> None:
    keys = [[0, 1, 1], [7, 1, 5], [2**32 - 1, 9, 2], [123456789, 100_000, 64]]
    with serve(tiny.folder, isolated=False) as (address, _):
        page.goto(f"{address}licences/README.txt")
        found = page.evaluate(
            """async (keys) => {
                const { chances } = await import("/page/chance.js");
                return keys.map((key) => [...chances(...key)]);
            }""",
            keys,
        )
    for (seed, frame, count), drawn in zip(keys, found, strict=True):
        native = arrays("events", seed, frame).random(count, np.float32)
        assert np.array_equal(native, np.asarray(drawn, np.float32))


def test_numbers_are_told_in_the_digits_of_native_play(tiny: Made, page: Any) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(2000) * 10.0 ** rng.integers(-7, 5, 2000)
    halves = rng.integers(-2000, 2000, 1000) / 8  # of which many are as near to two
    odd = [0.0, -0.0, 99.95, 99.96, 100.5, 101.5, 1e-5, 9.995e-5, 1e-4]
    values = np.concatenate((values, halves, odd)).astype(np.float32)
    with serve(tiny.folder, isolated=False) as (address, _):
        page.goto(f"{address}licences/README.txt")
        found = page.evaluate(
            """async (values) => {
                const { short } = await import("/page/told.js");
                return values.map(short);
            }""",
            values.tolist(),
        )
    expected = [f"{x:.3g}" if abs(x) < 100 else f"{x:.0f}" for x in values.tolist()]
    assert found == expected


def test_what_happens_is_what_happens_in_torch(lively: Made, page: Any) -> None:
    """Every number of every frame, and the line of numbers over the last one."""
    world, actions = lively.world, script(lively.world.actions, 100)
    with serve(lively.folder, isolated=False) as (address, _):
        page.goto(address + ONE_CORE)
        page.wait_for_selector(READY)
        found = play_in(page, world, 1, 9, actions)
        line = page.text_content("#known")
    expected = play_torch(world, 1, 9, actions)
    difference = compare(expected, found)
    assert difference.latents < 1e-3
    assert difference.pixels <= 1
    assert expected.states is not None
    assert found.states is not None
    drawn = world.events.drawn if world.events else []
    assert (np.ptp(expected.states[:, drawn], axis=0) > 0).all()
    assert np.array_equal(expected.states[:, drawn], found.states[:, drawn])
    # Of a place the eye's height; of an object nothing where there is none.
    np.testing.assert_allclose(found.states, expected.states, rtol=0, atol=1e-4)
    assert line == native_line(world, expected.states[-1])


def test_a_flick_counts_for_all_frames_that_are_drawn_together(tiny: Made, page: Any) -> None:
    flick = """async (frames) => {
        const { Input } = await import("./page/input.js");
        const spec = { buttons: [], max_mouse_degrees: 5, look_left_right: true, frames };
        const input = new Input(document.body, spec, { degreesPerPixel: 1 });
        input.travel = [30, 0];
        return input.take().mouse[0];
    }"""
    with serve(tiny.folder, isolated=False) as (address, _):
        page.goto(address + ONE_CORE)
        assert page.evaluate(flick, 12) == 30
        assert page.evaluate(flick, 1) == 5


def native_line(world: NativeWorld, state: Any) -> str:
    """What a window of native play says over a frame."""
    session, step = SimpleNamespace(world=world), SimpleNamespace(state=tuple(state.tolist()))
    return told_state(cast(Session, session), cast(Step, step))


def test_a_link_shows_the_numbers_that_its_sender_saw(lively: Made, page: Any) -> None:
    with serve(lively.folder, isolated=False) as (address, _):
        page.goto(address + ONE_CORE)
        page.wait_for_selector(READY)
        page.click("#starts button:nth-child(2)")
        page.wait_for_selector("body[data-state=playing]")
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
    with serve(made.folder, isolated=False) as (address, _):
        page.goto(address + ONE_CORE)
        page.wait_for_selector(READY)
        page.click("#starts button:nth-child(2)")
        page.wait_for_selector("body[data-state=playing]")
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


def test_several_steps_and_unrounded_latents_equal_torch(tiny: Made, page: Any) -> None:
    """A world of two denoising steps, opened from a host without headers: isolate.js adds them."""
    actions = script(tiny.world.actions, 30)
    with serve(tiny.folder, isolated=False) as (address, asked):
        page.goto(f"{address}?engine=wasm", wait_until="commit")  # since it reloads itself
        page.wait_for_selector(READY)
        page.wait_for_function("navigator.serviceWorker.ready.then(() => true)")
        page.goto(f"{address}?engine=wasm")  # a slow machine's first visit may go on without it
        page.wait_for_selector(READY)
        assert page.evaluate("crossOriginIsolated")
        assert "/isolate.js" in asked
        found = play_in(page, tiny.world, 0, 3, actions)
    expected = play_torch(tiny.world, 0, 3, actions)
    difference = compare(expected, found)
    assert difference.latents < 1e-3
    assert difference.pixels <= 1


def test_a_second_worker_looks_at_the_plan_and_changes_no_frame(tiny: Made, page: Any) -> None:
    actions = script(tiny.world.actions, 20)
    plays = []
    with serve(tiny.folder, isolated=False) as (address, _):
        for query, most in ((f"{ONE_CORE}&workers=1", 1), (ONE_CORE, 2)):
            page.goto("about:blank")
            page.goto(address + query)
            page.wait_for_selector(READY)
            cores = page.evaluate("navigator.hardwareConcurrency")
            assert page.evaluate("worldmodel.player.workers") == min(most, cores)
            plays.append(play_in(page, tiny.world, 0, 4, actions))
    difference = compare(*plays)
    assert difference.equal_latents == 20
    assert difference.pixels == 0


def test_a_single_file_plays_from_a_disk(tiny: Made, page: Any, tmp_path: Path) -> None:
    path = tmp_path / "bar.html"
    write_single(path, tiny.files)
    let_in(tmp_path)
    let_in(tiny.folder)
    page.goto(path.as_uri())
    page.wait_for_selector(READY)
    actions = script(tiny.world.actions, 10)
    found = play_in(page, tiny.world, 1, 5, actions)
    assert compare(play_torch(tiny.world, 1, 5, actions), found).pixels <= 1
    page.goto((tiny.folder / "index.html").as_uri())
    page.wait_for_selector(READY)
    assert "--single" in page.inner_text("#message")


def test_play_keys_mouse_link_and_clip(tiny: Made, page: Any) -> None:
    with serve(tiny.folder, isolated=False) as (address, _):
        page.goto(address + ONE_CORE)
        page.wait_for_selector(READY)
        page.click("#starts button:nth-child(2)")
        page.wait_for_selector("body[data-state=playing]")
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
    with serve(tiny.folder, isolated=False) as (address, _):
        page.goto(address + ONE_CORE)
        page.wait_for_selector(READY)
        page.click("#starts button:nth-child(1)")
        page.wait_for_selector("body[data-state=playing]")
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


BROKEN: dict[str, tuple[Callable[[bytes], bytes] | None, str]] = {
    "world/weights.bin": (lambda content: content[:-100], "is not whole"),
    "world/step.onnx": (lambda content: content[:-4] + b"\0\0\0\1", "not the file that belongs"),
    "world/world.json": (lambda content: content[:1000], "world.json is damaged"),
    "world/data.bin": (None, "the server says 404"),
    "page/world.js": (None, "its script is missing"),
    "page/main.js": (None, "could not be started"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said_in_a_sentence(
    tiny: Made, page: Any, tmp_path: Path, name: str
) -> None:
    change, told = BROKEN[name]
    files = dict(tiny.files)
    if change is None:
        del files[name]
    else:
        files[name] = change(files[name])
    write_site(tmp_path / "site", files)
    with serve(tmp_path / "site", isolated=False) as (address, _):
        page.goto(address + ONE_CORE)
        page.wait_for_selector("body[data-state=error]")
        assert told in page.inner_text("#message")


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
