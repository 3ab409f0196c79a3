"""Ctrl-C, SIGTERM and SIGHUP end alike: everything is on disk, and it is said."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from worldmodel.storage.recording import read_recording
from worldmodel.storage.video import read_video

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("signals") / "world")


def play(world: Path, clip: Path, lines: int = 12) -> "subprocess.Popen[str]":
    """A session without a window that goes on until somebody ends it; so much is recorded."""
    command = [sys.executable, "play.py", "--headless", "--world", str(world)]
    command += ["--engine", "torch", "--dtype", "float32", "--threads", "1", "--fps", "40"]
    command += ["--frames", "100000", "--record", str(clip)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe)
    ends = time.monotonic() + 60
    rows = clip.with_suffix(".jsonl")
    while not rows.exists() or rows.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < ends
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_session_without_a_window_loses_no_frame(name: str, world: Path, tmp_path: Path) -> None:
    process = play(world, tmp_path / "clip")
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    assert ("interrupted" if name == "SIGINT" else f"ended by {name}") in err
    assert "Traceback" not in err
    assert "clip.mp4" in out, "the clip is named as ever"
    rows = read_recording(tmp_path / "clip.jsonl")[1]
    assert sum(1 for _ in read_video(tmp_path / "clip.mp4")) == len(rows) >= 11


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_server_ends_in_a_line(name: str, world: Path) -> None:
    command = [sys.executable, "-m", "worldmodel", "serve", str(world), "--port", "0"]
    command += ["--engine", "torch", "--threads", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("open http"):
            assert process.poll() is None
        time.sleep(0.2)  # it waits
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    assert err.splitlines()[1:] == [
        f"worldmodel: {'interrupted' if name == 'SIGINT' else f'ended by {name}'}"
    ]


@pytest.mark.parametrize("lines", [2, 7])  # the header is one of them
def test_a_kill_in_the_first_second_leaves_a_clip_that_plays(
    world: Path, tmp_path: Path, lines: int
) -> None:
    process = play(world, tmp_path / "clip", lines=lines)  # a world of 10 frames a second
    process.kill()
    process.communicate(timeout=60)
    rows = read_recording(tmp_path / "clip.jsonl")[1]
    shown = sum(1 for _ in read_video(tmp_path / "clip.mp4"))
    assert max(1, len(rows) // 3) <= shown


TWICE = """
import signal
from worldmodel.system.signals import EndedError, ended_by_signals

try:
    with ended_by_signals():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # while everything gets to disk
            print("all is on disk")
except EndedError as error:
    print(error)
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
with ended_by_signals():
    signal.raise_signal(signal.SIGHUP)
    print("went on")
"""


def test_a_signal_is_heard_once_and_what_ignores_one_goes_on_ignoring_it() -> None:
    command = [sys.executable, "-c", TWICE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["all is on disk", "SIGTERM", "went on"]


GONE = """
import gc, signal, sys
from pathlib import Path
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

worlds = [NativeWorld.load(Path(sys.argv[1]), RunSettings(engine="openvino")) for _ in range(2)]
for world in worlds:
    world.reset(0, 0)
del world
while worlds:  # in the order in which they came
    del worlds[0]
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signal stacks of Linux")
def test_signals_are_heard_after_openvino_worlds_are_gone(world: Path) -> None:
    """A compiled model takes the thread's signal stack, and with it went the whole program."""
    command = [sys.executable, "-c", GONE, str(world)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


IN_AN_IMPORT = """
import runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            signal.raise_signal(signal.SIGINT)

module, program, *flags = sys.argv[1:]
sys.meta_path.insert(0, Interrupting())
sys.argv = [program, *flags]
if program == "play.py":
    runpy.run_path(program, run_name="__main__")
else:
    runpy.run_module(program, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("play.py --headless", "worldmodel.game.cli"),
        ("play.py --headless", "numpy"),
        ("play.py --headless", "pygame"),
        ("play.py --headless", "torch"),
        ("worldmodel worlds", "argparse"),
        ("worldmodel worlds", "worldmodel.commands.worlds"),
        ("worldmodel worlds", "worldmodel.worlds.find"),
    ],
)
def test_ctrl_c_during_any_import_is_a_line(program: str, module: str) -> None:
    command = [sys.executable, "-c", IN_AN_IMPORT, module, *program.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = f"{program.split()[0].removesuffix('.py')}: interrupted\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", told)
