"""The front door itself: quick to answer, and nothing heavy before the arguments are understood."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HELP = """
import sys
sys.argv = ["play.py", "--help"]
try:
    exec(compile(open("play.py").read(), "play.py", "exec"))
except SystemExit as leaving:
    assert leaving.code == 0
heavy = {"torch", "pygame", "cv2", "av"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_fits_a_screen_and_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 110


def test_the_front_door_is_short() -> None:
    assert len((ROOT / "play.py").read_text(encoding="utf-8").splitlines()) <= 60
