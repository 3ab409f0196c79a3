"""Wan worlds from strangers: what `world.toml` asks for is bounded, and no link leads out."""

import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.worlds.wan.wan_tiny import make_wan_world
from worldmodel.config import UserError, read_toml, to_toml
from worldmodel.system.limits import LATEST_FRAME
from worldmodel.world import SavedState, StateError
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.start import read_frames
from worldmodel.worlds.wan.world import WanWorld
from worldmodel.worlds.wan.world_file import PROMPTS, TAEHV, TRANSFORMER, read_wan_world

SETTINGS = RunSettings(device="cpu", dtype="float32", threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wan_world(tmp_path_factory.mktemp("wan") / "world")


def table_of(folder: Path) -> dict[str, Any]:
    return read_toml(folder / "world.toml")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("transformer.layers", 1 << 40),
        ("transformer.width", 128 << 40),
        ("transformer.text_tokens", 1 << 30),
        ("window.rows", 1 << 20),
        ("window.window_frames", 1 << 30),
        ("vae.width", 1 << 30),
        ("vae.blocks", 1 << 30),
        ("vae.multipliers", [1, 2, 4, 1 << 40]),
        ("vae.time_halvings", [True] * 60),
        ("taehv.decoder_widths", [8]),
        ("taehv.time_doublings", []),
        ("taehv.time_doublings", [1, 2, 1 << 40]),
        ("taehv.latent_channels", 4),
        ("actions.frames", 1 << 40),
        ("frames_per_second", 1e-300),
        ("sampler.sigmas", [1 - i / 900 for i in range(900)] + [0.0]),
        ("prompts.opening", ["x"] * 20_000),
        ("prompts.opening", ["x" * 100_000]),
        ("title", "\x1b[2J"),
        ("name", "x" * 300),
    ],
)
def test_what_a_world_file_asks_for_is_bounded(
    folder: Path, tmp_path: Path, place: str, value: Any
) -> None:
    table = table_of(folder)
    inner, (*path, last) = table, place.split(".")
    for name in path:
        inner = inner[name]
    inner[last] = value
    (tmp_path / "world.toml").write_text(to_toml(table), encoding="utf-8")
    with pytest.raises(UserError) as raised:
        read_wan_world(tmp_path)
    assert str(raised.value).isprintable()


def test_a_small_world_cannot_ask_for_a_cache_of_gigabytes(tmp_path: Path) -> None:
    folder = make_wan_world(tmp_path / "world")
    table = table_of(folder)
    table["window"] |= {"rows": 128, "columns": 128, "window_frames": 2048}
    (folder / "world.toml").write_text(to_toml(table), encoding="utf-8")
    with pytest.raises(UserError, match=r"asks for 16\.\d GB of keys and values"):
        WanWorld.load(folder, SETTINGS)


@pytest.mark.parametrize("part", [TRANSFORMER, TAEHV, PROMPTS])
def test_a_link_out_of_the_folder_is_refused_without_sha256_too(tmp_path: Path, part: str) -> None:
    folder = make_wan_world(tmp_path / "world")
    table = table_of(folder) | {"sha256": {}, "stamps": {}}
    (folder / "world.toml").write_text(to_toml(table), encoding="utf-8")
    WanWorld.load(folder, SETTINGS)
    (folder / part).rename(tmp_path / "outside")
    (folder / part).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="a link that leads out of the world's folder"):
        WanWorld.load(folder, SETTINGS)


def test_sources_of_any_kind_are_listed(folder: Path) -> None:
    from dataclasses import replace

    from worldmodel.worlds.wan.description import card

    world = replace(read_wan_world(folder), source={"transformer": 3, "vae": {"file": ["a"]}})
    assert "transformer: 3" in card(world)


def test_a_start_of_many_pixels_is_refused_and_others_are_fitted_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes())
    assert read_frames(path, 5, (8, 16), 16.0).shape == (1, 8, 16, 3)
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png: too many pixels, at most 64 million"):
        read_frames(path, 5, (8, 16), 16.0)


def test_a_state_that_counts_beyond_all_bounds_is_refused(folder: Path) -> None:
    import json

    world = WanWorld.load(folder, SETTINGS)
    world.reset(0, seed=0)
    saved = world.save_state()
    table = json.loads(saved.arrays["session"].tobytes())
    for odd in (
        {"history": [LATEST_FRAME, 0]},
        {"history": [0, LATEST_FRAME]},
        {"now": LATEST_FRAME},
        {"now": -1},
        {"prompt": ["a"]},
    ):
        session = np.frombuffer(json.dumps(table | odd).encode(), np.uint8)
        arrays = {name: saved.arrays[name] for name in saved.arrays} | {"session": session}
        with pytest.raises(StateError, match="broken or of another world"):
            world.load_state(SavedState(saved.identity, arrays))
