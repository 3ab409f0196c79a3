"""A tiny world that all tests here share."""

import pytest

from tests.worlds.make_world import make_world
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> NativeWorld:
    folder = make_world(tmp_path_factory.mktemp("served") / "bar", is_placed=True)
    settings = RunSettings(device="cpu", engine="torch", dtype="float32", threads=1)
    return NativeWorld.load(folder, settings)


@pytest.fixture(scope="session", params=["openvino", "torch", "torch-compiled"])
def batched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> NativeWorld:
    """The same on every engine of a CPU."""
    folder = make_world(tmp_path_factory.mktemp("served") / "bar", is_placed=True)
    settings = RunSettings(device="cpu", engine=request.param, dtype="float32", threads=1)
    return NativeWorld.load(folder, settings)
