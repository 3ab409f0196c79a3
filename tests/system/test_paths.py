"""Paths as people write them, and folders with what desktop systems leave in them."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import pytest

import worldmodel.gym_env  # noqa: F401  # registers the environment
from tests.storage.test_episodes import make_episode
from tests.training.tiny_data import SPEC
from tests.worlds.make_world import make_world
from worldmodel.config import build_config
from worldmodel.game.flags import make_parser
from worldmodel.game.recording_control import Place
from worldmodel.gym_env.world_env import WorldEnv
from worldmodel.storage.episodes import find_episodes, save_episode
from worldmodel.storage.user_dirs import config_folder, data_folder
from worldmodel.system.paths import is_clutter, list_files, to_path
from worldmodel.training.wan.sources import find_sources
from worldmodel.worlds.find import find_world, open_world
from worldmodel.worlds.run_settings import RunSettings

LEFT = (
    ".DS_Store", "._a.safetensors", "Thumbs.db", "desktop.ini", "a.safetensors~", "._a.jsonl",
    "b.safetensors.part", "~$a.txt", ".a.safetensors.1f.part", "a.mp4.crdownload", "._a.mp4",
    "__MACOSX/._a.safetensors", "__MACOSX/a.safetensors", ".Trash-1000/files/a.safetensors",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Somewhere:
    place: Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # what Windows has
    return tmp_path


def scatter(folder: Path) -> None:
    for name in LEFT:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\5\x16\7Mac OS X")


def test_what_desktops_leave_is_no_data(tmp_path: Path) -> None:
    scatter(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("b.safetensors", "deep/a.safetensors"):
        save_episode(tmp_path / name, make_episode())
    wanted = [tmp_path / "b.safetensors", tmp_path / "deep" / "a.safetensors"]
    assert find_episodes(tmp_path) == find_sources(tmp_path) == wanted
    assert list(list_files(tmp_path)) == wanted
    hidden = tmp_path / ".hidden"  # what is asked for by name is not hidden
    shutil.copytree(tmp_path / "deep", hidden)
    assert find_episodes(hidden) == [hidden / "a.safetensors"]
    assert all(is_clutter(Path(Path(name).parts[0])) for name in LEFT)
    assert not any(map(is_clutter, (Path("walk.v2.jsonl"), Path("partly.mp4"), Path("a~b.mp4"))))


def test_the_home_folder_is_understood_wherever_a_path_is_taken(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make_parser().parse_args(["--replay", "~/a.jsonl", "--controls=~/c.toml"])
    assert (options.replay, options.controls) == (home / "a.jsonl", home / "c.toml")
    assert build_config(Somewhere, {"place": "~/x"}, "x.toml").place == home / "x"
    assert build_config(Somewhere, {"place": Path("y")}, "x.toml").place == Path("y")
    assert Place.of("~/clips/walk").folder == home / "clips"
    for name, folder in (("WORLDMODEL_CONFIG", config_folder), ("WORLDMODEL_DATA", data_folder)):
        monkeypatch.setenv(name, f"~{os.sep}mine")
        assert folder() == home / "mine"
    assert to_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert find_world(str(make_world(home / "bar"))) == home / "bar"
    assert find_world("~/bar") == find_world(Path("~/bar")) == home / "bar"


def test_worlds_and_starts_are_taken_as_paths_too(home: Path) -> None:
    folder = make_world(home / "bar")
    start = folder / "starts" / "1.safetensors"
    world = open_world(folder, RunSettings(threads=1, dtype="float32", start=start))
    assert world.starts[0] == "1.safetensors"
    env = WorldEnv(Path("~/bar"), threads=1, dtype="float32", start="~/bar/starts/0.safetensors")
    assert env.world.starts == ["0.safetensors", "place 0", "place 1"]
    assert isinstance(env, gymnasium.Env)
    assert env.world.actions == SPEC
