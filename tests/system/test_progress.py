"""A bar for a person, a line now and then for a log, nothing for what is short."""

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worldmodel.system import progress
from worldmodel.system.progress import LINE_SECONDS, Progress, note, through

PACKAGE = Path(__file__).parents[2] / "worldmodel"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    monkeypatch.setattr(progress._Log, "since", 0.0)
    monkeypatch.setattr(progress._Log, "running", 0)
    yield clock
    assert progress._Log.running == 0


def test_a_log_gets_a_plain_line_every_ten_seconds_at_most(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in through(range(7200), desc="siege", unit="frame"):
        clock.now += 0.01  # 72 seconds
    told = capsys.readouterr().err
    lines = told.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("siege: 1001 of 7200 frames, 00:10 gone, 01:0")
    assert "\r" not in told
    assert told.isascii()


def test_what_is_over_in_a_moment_says_nothing(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(50):  # jobs one after the other
        with Progress(total=9, desc="part") as part:
            clock.now += LINE_SECONDS - 1
            part.update(9)
        clock.now += 1
    assert capsys.readouterr().err == ""


def test_jobs_within_a_job_share_the_ten_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in through(range(10), desc="rows"):
        for _ in through(range(30), desc="frames"):
            clock.now += 0.1  # 30 seconds in all
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 3
    assert all(line.startswith(("rows: ", "frames: ")) for line in lines)


def test_a_training_says_its_figures_and_goes_on_from_where_it_was(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(total=None, initial=100, unit="step") as training:
        training.total = 300
        training.add(loss="0.12", critic_loss="3")
        clock.now += 10
        training.update(50)
    told = capsys.readouterr().err
    assert told == "150 of 300 steps, loss 0.12, critic_loss 3, 00:10 gone, 00:30 left\n"


def test_names_from_files_are_letters_in_bars_lines_and_notes(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(total=4, desc="a\x1b[2Jb") as bar:
            clock.now += 11
            bar.update()
            bar.describe("c\x07d")
        note("e\x9bf")
        told = stream.getvalue()
        assert "a?[2Jb" in told
        assert "e?f\n" in told
        assert not {"\x07", "\x9b"} & set(told)


@pytest.mark.usefixtures("clock")
def test_a_terminal_has_a_bar_and_a_closed_stream_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(through(range(3), desc="walks", leave=True)) == [0, 1, 2]
    assert "walks: 100%" in terminal.getvalue()
    seen = len(terminal.getvalue())
    assert list(through(range(3), disable=True)) == [0, 1, 2]
    assert len(terminal.getvalue()) == seen
    monkeypatch.setattr(sys, "stderr", None)
    assert list(through(range(3))) == [0, 1, 2]


def test_every_job_shows_its_progress_here() -> None:
    users = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^ *(from|import) tqdm\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert users == [Path("system/progress.py")]
