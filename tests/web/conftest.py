from collections.abc import Iterator
from typing import Any

import pytest

from tests.web.browser import find_chromium, open_browser
from tests.web.pages import SEE, Made, make
from tests.worlds.make_world import PALETTE, make_world
from worldmodel.web.runtime import WASM, RuntimeFilesError, fetch_runtime
from worldmodel.worlds.find import find_world


@pytest.fixture(scope="session")
def runtime() -> dict[str, bytes]:
    """The real one, without its part for WebGPU, which is the larger half."""
    find_chromium()
    try:
        return {name: content for name, content in fetch_runtime().items() if name in WASM}
    except RuntimeFilesError as error:
        pytest.skip(f"no onnxruntime-web: {error}")


@pytest.fixture(scope="session")
def rooms(runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(find_world("doom-rooms"), runtime, tmp_path_factory.mktemp("rooms") / "site")


@pytest.fixture(scope="session")
def tiny(runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("tiny")
    world = make_world(folder / "bar", is_placed=True, view_pull=0.3)
    return make(world, runtime, folder / "site")


@pytest.fixture(
    scope="session",
    params=[
        {},
        {"is_placed": True, "palette": PALETTE},
        {"has_objects": True},
        {
            "has_objects": True,
            "has_scene": True,
            "time_attention_every": 2,
            "view_pull": 0.3,
            "palette": PALETTE,
        },
    ],
    ids=["numbers alone", "a place, a palette", "and objects", "a scene, a palette"],
)
def lively(
    request: pytest.FixtureRequest,
    runtime: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Made:
    """A world in which things happen, and whose transformer is given them."""
    folder = tmp_path_factory.mktemp("lively")
    world = make_world(folder / "bar", is_numbered=True, **request.param)
    return make(world, runtime, folder / "site")


@pytest.fixture(scope="module")  # no longer: while it is open, nothing else can run asyncio
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
