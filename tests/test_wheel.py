"""The package without its checkout: the wheel is built, installed elsewhere, and plays."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUICK = ("--engine", "torch", "--threads", "1")  # nothing is compiled or measured first
GYM = """
import gymnasium, worldmodel.gym_env
env = gymnasium.make("worldmodel/World-v0", world="doom-rooms", engine="torch")
first, _ = env.reset(seed=0)
assert first.shape == (48, 64, 3) and first.std() > 5, (first.shape, first.std())
assert env.step(env.action_space.sample())[0].shape == first.shape
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(build, check=True, capture_output=True, env=environment)
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 100_000_000  # what PyPI takes
    venv.create(folder / "home", symlinks=os.name != "nt")
    python = _program(folder / "home", "python")
    install = [*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, env=environment)
    paths = {"base": str(folder / "home"), "platbase": str(folder / "home")}
    here = Path(sysconfig.get_path("purelib", "venv" if os.name != "nt" else "nt", vars=paths))
    (here / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "home"


def _program(home: Path, name: str) -> str:
    return str(home / ("Scripts" if os.name == "nt" else "bin") / name)


def _run(home: Path, tmp_path: Path, *command: str) -> str:
    done = _start(home, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _start(home: Path, tmp_path: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [_program(home, command[0]), *command[1:]],
        cwd=tmp_path,
        env={**environment, "XDG_DATA_HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_lists_and_plays_its_worlds_from_any_folder(home: Path, tmp_path: Path) -> None:
    assert _run(home, tmp_path, "worldmodel", "--version").startswith("worldmodel ")
    worlds = json.loads(_run(home, tmp_path, "worldmodel", "worlds", "--json"))["worlds"]
    assert [world["name"] for world in worlds] == ["doom-places", "doom-rooms"]
    assert all(Path(world["folder"]).is_relative_to(home.resolve()) for world in worlds)
    played = _run(home, tmp_path, "worldmodel", "play", "--headless", "--frames", "4", *QUICK)
    assert "4 frames" in played
    assert list(tmp_path.rglob("*.mp4"))


def test_gymnasium_finds_a_world_of_the_wheel(home: Path, tmp_path: Path) -> None:
    _run(home, tmp_path, "python", "-c", GYM)


def test_what_is_not_in_the_wheel_is_said_to_be_missing(home: Path, tmp_path: Path) -> None:
    (tmp_path / "ideas.toml").write_text("", encoding="utf-8")
    for words, said in (
        (("ideas", "ideas.toml"), "not part of the installed package"),
        (("bench", "--world", "wan-1.3b", "--random-weights"), "of a checkout's configs/wan"),
        (("play", "--headless", "--world", "doom-siege"), "a checkout of the project has all"),
    ):
        done = _start(home, tmp_path, "worldmodel", *words)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
