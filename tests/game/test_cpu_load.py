"""Slowness that other programs cause is not blamed on the world."""

import os
from pathlib import Path

import pytest

from tests.game.test_pace import run
from worldmodel.game.cpu_load import Load, Used, read_used
from worldmodel.game.pace import Pace


def test_others_are_what_everyone_took_less_what_this_process_took() -> None:
    looks = iter(
        [
            Used(wall=0.0, own=0.0, everyone=100.0),
            Used(wall=1.0, own=1.0, everyone=102.0),  # too soon to say
            Used(wall=4.0, own=4.0, everyone=110.0),
            Used(wall=8.0, own=8.0, everyone=114.0),
        ]
    )
    load = Load(lambda: next(looks))
    assert load.others() == 0
    assert load.others() == pytest.approx((10 - 4) / 4)
    assert load.others() == 0, "all that was used was its own"


def test_a_system_that_does_not_say_is_not_accused(tmp_path: Path) -> None:
    assert read_used(tmp_path / "missing") is None
    (tmp_path / "stat").write_text("something else")
    assert read_used(tmp_path / "stat") is None
    assert Load(lambda: None).others() == 0


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux")
def test_the_systems_own_count_grows_with_work() -> None:
    first = read_used()
    sum(i * i for i in range(2_000_000))
    second = read_used()
    assert first is not None
    assert second is not None
    assert second.own > first.own
    assert second.everyone >= first.everyone > 0


def test_what_helps_is_to_end_other_programs_where_they_are_the_reason() -> None:
    taken = [0.0]
    pace = Pace(17.5, "a smaller world", lambda: taken[0])
    now = run(pace, 12, 8.0)
    assert pace.slow == "12.0 of 17.5 fps: a smaller world"
    taken[0] = 1.6
    run(pace, 12, 4.0, now)
    cores = os.cpu_count()
    assert pace.slow == f"12.0 of 17.5 fps: other programs take 1.6 of {cores} cores; end them"
