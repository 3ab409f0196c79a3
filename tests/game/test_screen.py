"""Screens and terminals that are named but dead, or go away in the middle."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from worldmodel.__main__ import main as run_job
from worldmodel.storage.recording import load_recording

Play = Callable[..., int]
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="displays of X")


@pytest.fixture
def dead_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is named, as over an ssh connection that has broken, and does not answer."""
    for name in ("SDL_VIDEODRIVER", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":987")
    pygame.display.quit()


@LINUX
def test_a_display_that_does_not_answer_is_no_display(
    play: Play, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """SDL would draw into memory, for ever, and nobody would see it."""
    request.getfixturevalue("dead_display")
    assert play("--frames", 20) == 0
    out = capsys.readouterr().out
    assert "no window can be opened: DISPLAY=:987 does not answer: the random player" in out
    assert "20 frames, " in out
    assert list(Path("recordings").glob("*.mp4"))


@LINUX
@pytest.mark.usefixtures("dead_display")
def test_nobody_can_play_a_real_game_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["record", "--env", "tests.data_sources.squares:Squares", "--player", "human"]
    assert run_job([*command, "--out", str(tmp_path / "out")]) == 2
    assert "needs a screen" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "and no random player was recorded as a person"


HUNG_UP = """
import signal, sys
from tests.game.drawn_world import DrawnWorld
from worldmodel.game.cli import main
from worldmodel.game.loop import Game

show, shown = Game.show, []

def hang_up(game, step):
    show(game, step)
    shown.append(step)
    if len(shown) == 5:
        signal.raise_signal(signal.SIGHUP)

Game.show = hang_up
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
sys.exit(main(sys.argv[1:], lambda _: DrawnWorld()))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
def test_a_terminal_that_goes_away_ends_a_game_in_a_window_as_its_cross_does(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HUNG_UP, "--player", "random", "--frames", "2000"]
    machine = {"SDL_VIDEODRIVER": "dummy", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*command, "--record", "walk"],
        cwd=tmp_path,
        env=os.environ | machine,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 5 <= len(load_recording(tmp_path / "walk.jsonl")) < 100
