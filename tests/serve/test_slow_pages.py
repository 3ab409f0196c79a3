"""Slow pages and slow links get fewer frames, never old ones; two thumbs play at once."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.drawn_world import DrawnWorld
from tests.serve.measure import heap, measure, playing
from tests.serve.test_sessions import Seen
from tests.web.browser import find_chromium, open_browser
from worldmodel.serve.hall import Hall
from worldmodel.serve.running import run_server
from worldmodel.serve.server_limits import Limits
from worldmodel.worlds.native import NativeWorld

SLOW = 3.2e6, 0.02  # bits a second, seconds one way


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    find_chromium()
    with open_browser(
        tmp_path_factory.mktemp("browser"),
        has_touch=True,
        viewport={"width": 1000, "height": 600},
    ) as context:
        yield context


def test_a_slow_link_shows_new_frames_only(browser: Any) -> None:
    """With a queue it would be seconds behind; machines that run tests are slow too."""
    found = measure(browser, DrawnWorld(fine=12), 5.0, link=SLOW)
    assert found["on the way"] <= 2
    assert found["frames/s"] > 8
    assert found["overhead"][1] < 600


def test_a_busy_page_has_two_frames_on_the_way_and_disturbs_nobody(browser: Any) -> None:
    halls = [Hall(DrawnWorld((48, 64)), Limits(), 17.5) for _ in range(2)]
    with run_server(halls) as running, playing(browser, running) as well:
        seen = Seen()
        well.session.listeners.add(seen.hear)

        def rate_over(seconds: float) -> float:
            began = time.monotonic()
            seen.pictures.clear()
            time.sleep(seconds)
            return len(seen.pictures) / (time.monotonic() - began)

        alone = rate_over(3)  # on this machine, as busy as it is
        with playing(browser, running, script="window.busy = 120;", world=1) as busy:
            before = heap(busy.page)
            rate = rate_over(6)
            assert busy.most_on_the_way <= 2
            assert busy.figures()["frames/s"] < 9
            assert heap(busy.page) < before + 2
        assert rate > 0.6 * min(alone, 17.5)


def test_two_thumbs_walk_and_look_at_once(browser: Any, tiny: NativeWorld) -> None:
    with run_server(Hall(tiny, Limits())) as running, playing(browser, running) as phone:
        devtools = phone.page.context.new_cdp_session(phone.page)

        def touch(kind: str, *points: tuple[int, int]) -> None:
            marked = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": marked})

        seen = Seen()
        phone.session.listeners.add(seen.hear)
        touch("touchStart", (200, 400))
        touch("touchEnd")  # the first touch shows the sticks
        touch("touchStart", (200, 400))
        touch("touchStart", (200, 400), (800, 400))
        touch("touchMove", (260, 400), (860, 400))
        phone.page.wait_for_timeout(1000)
        seen.wait(len(seen.pictures) + 2)
        action = seen.pictures[-1].action
        assert action.buttons == {"KeyD"}
        assert action.mouse[0] > 0
        touch("touchEnd")
        phone.page.wait_for_timeout(1000)
        seen.wait(len(seen.pictures) + 2)
        assert not seen.pictures[-1].action.buttons
        assert seen.pictures[-1].action.mouse == (0.0, 0.0)
