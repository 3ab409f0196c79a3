"""How a world runs where nobody says how."""

import pytest

from worldmodel.worlds import run_settings
from worldmodel.worlds.run_settings import usual_threads


@pytest.mark.parametrize(
    ("said", "threads"),
    [(None, 8), ("", 8), ("3", 3), ("8", 8), ("64", 8), ("0", 8), ("-1", 8), ("4,2", 8)],
)
def test_no_more_threads_than_cores_and_than_omp_num_threads(
    monkeypatch: pytest.MonkeyPatch, said: str | None, threads: int
) -> None:
    monkeypatch.setattr(run_settings, "available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert usual_threads() == threads
