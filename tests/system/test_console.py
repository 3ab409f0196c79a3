"""Standard output that is missing, closed, full, gone, or cannot say a letter."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from worldmodel.system import console

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="redirections of a POSIX shell")
WORLDS = f"{sys.executable} -m worldmodel worlds"
HELP = f"{sys.executable} play.py --help"


def shell(command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@POSIX
@pytest.mark.parametrize(
    ("where", "why"), [(">/dev/full", "No space left on device"), (">&-", "there is none")]
)
def test_a_list_that_nobody_got_is_no_success_and_no_traceback(where: str, why: str) -> None:
    if "full" in where and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = shell(f"{WORLDS} {where}")
    assert done.returncode == 2
    assert done.stderr == f"worldmodel: standard output could not be written: {why}\n"


@POSIX
@pytest.mark.parametrize("flag", ["--help", "--version", "serve --help"])
def test_a_help_or_a_version_that_nobody_got_is_no_success(flag: str) -> None:
    done = shell(f"{sys.executable} -m worldmodel {flag} >&-")
    assert done.returncode == 2
    assert "standard output could not be written" in done.stderr
    assert shell(f"{HELP} >&-").returncode == 2


@POSIX
def test_a_game_that_nobody_reads_has_been_played(tmp_path: Path) -> None:
    world = make_world(tmp_path / "tiny")
    play = f"{sys.executable} -m worldmodel play --world {world} --headless --frames 2"
    done = shell(f"{play} --engine torch --threads 1 --record {tmp_path / 'clip'} >&-")
    assert done.returncode == 0
    assert (tmp_path / "clip.mp4").exists()


@POSIX
def test_a_reader_that_leaves_ends_nothing_in_a_traceback() -> None:
    done = shell(f"{{ {WORLDS}; echo $? >&2; }} | head -c 1")
    assert "Traceback" not in done.stderr
    assert done.stderr.split()[-1] in ("0", "141")  # 0: all was in the pipe before it left


@POSIX
def test_a_terminal_without_the_letters_gets_question_marks() -> None:
    done = shell(f"{WORLDS}", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "doom-rooms" in done.stdout


def test_what_an_encoding_cannot_say_is_a_question_mark() -> None:
    written = io.BytesIO()
    stream = console.Stream(io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert stream.write("loading …") == 9
    assert written.getvalue() == b"loading ?"
    assert stream.failure is None


class Gone(io.StringIO):
    """A terminal whose window has been closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0

    def write(self, text: str) -> int:
        del text
        self.tries += 1
        raise OSError(errno.EIO, "Input/output error")


def test_a_terminal_that_has_gone_is_asked_once_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = Gone()
    monkeypatch.setattr("sys.stdout", gone)
    with console.kept() as output:
        for _ in range(3):
            print("a line", flush=True)  # noqa: T201  # what is tried
        assert not sys.stdout.isatty()
    assert sys.stdout is gone
    assert gone.tries == 1
    assert output.exit_code(0) == 2
    assert output.exit_code(130) == 130, "what went wrong before counts more"


def test_nothing_to_say_is_nothing_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with console.kept() as output:
        pass
    assert output.exit_code(0) == 0
