import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

from tests.game.drawn_world import DrawnWorld
from tests.worlds.make_world import make_world
from worldmodel.game.choice import Choice
from worldmodel.game.cli import main
from worldmodel.game.save_worker import SaveWorker
from worldmodel.game.window import Window
from worldmodel.world import World
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

Play = Callable[..., int]


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window("test") as window:
        yield window


@pytest.fixture
def save_worker(tmp_path: Path) -> Iterator[SaveWorker]:
    save_worker = SaveWorker(tmp_path / "moments")
    yield save_worker
    save_worker.close(None)


@pytest.fixture
def chosen() -> list[Choice]:
    return []


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: list[Choice]) -> Play:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def open_world(choice: Choice) -> World:
        chosen.append(choice)
        return DrawnWorld()

    return lambda *arguments: main([str(argument) for argument in arguments], open_world)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> NativeWorld:
    folder = make_world(tmp_path_factory.mktemp("w") / "tiny")
    return NativeWorld.load(folder, RunSettings(threads=1, engine="torch", dtype="float32"))


@pytest.fixture(params=["drawn", "learned"])
def world(request: pytest.FixtureRequest, learned: NativeWorld) -> World:
    return DrawnWorld() if request.param == "drawn" else learned
