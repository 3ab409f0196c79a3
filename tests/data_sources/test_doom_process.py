"""The real game's own process: where it may write, and that nothing of it is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom, DoomConfig
from worldmodel.data_sources.doom_process import (
    EnginePlace,
    check_shared_memory,
    check_working_folder,
)

pytest.importorskip("vizdoom")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and prctl")


def engines(parent: int) -> list[int]:
    """Running engines that a process has started."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                words = (place / "cmdline").read_bytes()
            except OSError:  # it has just ended
                continue
            if f"worldmodel-vizdoom-{parent}.ini".encode() in words:
                found.append(int(place.name))
    return found


def wait_until(count: int, parent: int) -> list[int]:
    ends = time.monotonic() + 60
    while len(found := engines(parent)) != count and time.monotonic() < ends:
        time.sleep(0.05)
    return found


@LINUX
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"])
def test_a_recording_that_is_ended_in_any_way_leaves_no_engine(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worldmodel", "record", "--frames", "100000"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command, "--out", str(tmp_path)], stdout=quiet, stderr=quiet)
    try:
        assert len(wait_until(1, process.pid)) == 1
        process.send_signal(getattr(signal, name))
        process.wait(60)
        assert wait_until(0, process.pid) == []
    finally:
        for engine in engines(process.pid):
            os.kill(engine, signal.SIGKILL)


@LINUX
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_what_a_terminal_sends_reaches_the_program_and_not_its_engine(
    name: str, tmp_path: Path
) -> None:
    """It goes to all processes of a terminal; without its engine the library crashes."""
    command = [sys.executable, "-m", "worldmodel", "record", "--frames", "100000"]
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path)],
        stdout=quiet,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )
    try:
        assert len(wait_until(1, process.pid)) == 1
        time.sleep(1)  # it plays
        assert os.getpgid(engines(process.pid)[0]) != process.pid
        os.killpg(process.pid, getattr(signal, name))
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + getattr(signal, name), err
    assert "Traceback" not in err
    assert wait_until(0, process.pid) == []


def test_the_engine_writes_nothing_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a working folder that is read-only is no trouble either."""
    monkeypatch.chdir(tmp_path)
    with Doom(DoomConfig()) as game:
        game.reset(seed=1)
        folder = game._place.folder
        assert list(tmp_path.iterdir()) == []
        assert folder.is_dir()
    assert not folder.exists()


@LINUX
def test_what_the_library_would_crash_on_is_told_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written .* mount a tmpfs"):
        check_shared_memory(tmp_path / "missing")
    with pytest.raises(UserError, match="cannot be written"):
        check_shared_memory(Path("/proc"))  # nobody writes there, root neither
    with pytest.raises(UserError, match="needs to write into the working folder"):
        check_working_folder(Path("/proc"))
    check_shared_memory(tmp_path)
    check_working_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


@LINUX
def test_shared_memory_that_is_too_small_is_told_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small:
        free = 1 << 20

    monkeypatch.setattr("shutil.disk_usage", lambda _: Small)
    with pytest.raises(UserError, match="has 1 MB left and needs 8"):
        check_shared_memory(tmp_path)


def test_a_folder_for_temporary_files_that_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(UserError, match="set TMPDIR"):
        EnginePlace()
