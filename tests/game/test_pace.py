"""Whether the machine keeps up."""

import os

from worldmodel.game.pace import Pace, what_would_help


def run(pace: Pace, rate: float, seconds: float, begin: float = 0.0) -> float:
    for i in range(round(rate * seconds)):
        pace.add(begin + i / rate)
    return begin + seconds


def test_too_slow_is_said_only_after_some_seconds_and_not_when_it_is_well_again() -> None:
    pace = Pace(17.5, "--steps 1")
    now = run(pace, 12, 3.0)
    assert pace.slow == ""
    now = run(pace, 12, 4.0, now)
    assert pace.slow == "12.0 of 17.5 fps: --steps 1"
    run(pace, 17.5, 4.0, now)
    assert pace.slow == ""


def test_one_long_frame_is_not_slowness() -> None:
    pace = Pace(17.5, "help")
    now = run(pace, 17.5, 5.0)
    run(pace, 17.5, 10.0, now + 1.0)
    assert pace.slow == ""


def test_a_rest_is_not_slowness() -> None:
    pace = Pace(20, "help")
    now = run(pace, 20, 3.0)
    for _ in range(20):
        pace.interrupt()
        now = run(pace, 20, 1.0, now + 5.0)
        assert pace.slow == ""


def test_without_a_rate_nothing_is_slow() -> None:
    pace = Pace(0.0, "help")
    run(pace, 1, 60.0)
    assert pace.slow == ""


def test_only_what_is_not_done_already_is_advised() -> None:
    one, four = {"sigmas": (1.0, 0.0)}, {"sigmas": (1.0, 0.75, 0.5, 0.25, 0.0)}
    assert what_would_help({"sampler": four, "device": "cpu"}) == (
        "--steps 1, a smaller world, or a GPU"
    )
    assert what_would_help({"sampler": one, "device": "cpu"}) == "a smaller world or a GPU"
    assert what_would_help({"sampler": one, "device": "cuda"}) == "a smaller world or a faster GPU"


def test_what_helps_is_to_end_other_programs_where_they_are_the_reason() -> None:
    taken = [0.0]
    pace = Pace(17.5, "a smaller world", lambda: taken[0])
    now = run(pace, 12, 8.0)
    assert pace.slow == "12.0 of 17.5 fps: a smaller world"
    taken[0] = 1.6
    run(pace, 12, 4.0, now)
    cores = os.cpu_count()
    assert pace.slow == f"12.0 of 17.5 fps: other programs take 1.6 of {cores} cores; end them"
