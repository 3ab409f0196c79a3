"""Pages in a real Chromium: what they show is what torch computes, and what goes wrong is said."""

import base64
import gzip
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.web.browser import let_in, serve
from tests.web.pages import ONE_CORE, READY, Made
from worldmodel.action import Action, ActionSpec
from worldmodel.game.loop import state_line
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.motion import Motion
from worldmodel.random_streams import arrays
from worldmodel.rollout import round_to_grid
from worldmodel.storage.checkpoint import load_weights
from worldmodel.storage.episodes import load_episode
from worldmodel.web.compare_graphs import GraphPlay, compare, play_torch
from worldmodel.web.single import write_single
from worldmodel.web.site import write_site
from worldmodel.web.world_files import Arrays, describe_motion
from worldmodel.worlds.find import find_world
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.world_folder import MOTION, read_world_file


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
                const { short } = await import("/page/numbers.js");
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
    difference = compare(expected, found, world.file.autoencoder.palette)
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
    return state_line(cast(Session, session), cast(PlayedFrame, step))


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
    difference = compare(plays[0], plays[1])
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
