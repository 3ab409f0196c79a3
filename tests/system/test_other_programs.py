"""What other programs did while something was measured."""

import subprocess
import sys

import pytest

from worldmodel.system import other_programs
from worldmodel.system.other_programs import STAT, Others, busy_in, busy_seconds, disturbance

BURN = "import time\nwhile time.process_time() < 0.4: pass"


@pytest.mark.skipif(not STAT.exists(), reason="only Linux tells")
def test_the_work_of_another_program_is_seen() -> None:
    before, others = busy_seconds(), Others()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    after, cores = busy_seconds(), others.cores()
    assert before is not None
    assert after is not None
    assert after - before > 0.3
    assert cores is not None
    assert cores > 0


def test_what_others_took_lately_is_what_everyone_took_less_what_this_process_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    used = dict.fromkeys(("own", "everyone"), 0.0)
    monkeypatch.setattr("time.process_time", lambda: used["own"])
    monkeypatch.setattr(other_programs, "busy_seconds", lambda: used["everyone"])
    others = Others()
    now[0], used["own"], used["everyone"] = 1.0, 1.0, 2.0
    assert others.recent() == 0, "too soon to say"
    now[0], used["own"], used["everyone"] = 4.0, 4.0, 10.0
    assert others.recent() == 1.5
    now[0], used["own"], used["everyone"] = 8.0, 8.0, 14.0
    assert others.recent() == 0, "all that was used was its own"


def test_a_system_that_does_not_say_is_not_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_programs, "STAT", STAT.with_name("missing"))
    monkeypatch.setattr(other_programs, "EVERY", 0.0)
    assert busy_seconds() is None
    assert Others().recent() == 0


def test_waiting_is_no_work() -> None:
    assert busy_in("cpu  10 20 30 4000 500 1 2 3 0 0") == 66


def test_figures_beside_another_program_say_so_and_quiet_ones_nothing() -> None:
    assert "other programs used 1.1 of 2 cores meanwhile" in disturbance(1.1, 2)
    assert disturbance(0.15, 1) == "", "the system itself"
    assert disturbance(1.1, 32) == "", "there were others free"
    assert disturbance(None, 2) == ""
