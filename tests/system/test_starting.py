"""Programs leave with their code and all they said; one of several is not torn down."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import atexit
from worldmodel.system.starting import leave

atexit.register(print, "torn down")
print("done", end=" ")
leave(3)
"""


@pytest.mark.parametrize(
    ("processes", "said"), [(None, "done torn down"), ("1", "done torn down"), ("2", "done ")]
)
def test_only_one_of_several_processes_skips_the_tidying_up(
    processes: str | None, said: str
) -> None:
    """The threads of a group of processes outlive its end; Python's must not meet them."""
    around = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=around | ({"WORLD_SIZE": processes} if processes else {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.rstrip("\n"), done.stderr) == (3, said, "")


def test_a_reader_who_has_gone_does_not_change_the_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"WORLD_SIZE": "2", "PYTHONUNBUFFERED": ""},
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, b"")
