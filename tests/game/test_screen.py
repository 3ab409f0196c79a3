"""Screens and terminals that are named but dead, or go away in the middle."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import DrawnWorld
from worldmodel.__main__ import main as run_job
from worldmodel.game.cli import main
from worldmodel.game.loop import Game
from worldmodel.game.step import Step
from worldmodel.recording import load_recording

Play = Callable[..., int]
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="displays of X")


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return lambda *arguments: main(list(map(str, arguments)), lambda _: DrawnWorld())


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
    command = ["record", "--env", "tests.games.squares:Squares", "--player", "human"]
    assert run_job([*command, "--out", str(tmp_path / "out")]) == 2
    assert "needs a screen" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "and no random player was recorded as a person"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
def test_a_terminal_that_goes_away_ends_a_game_in_a_window_as_its_cross_does(
    play: Play, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    show, shown = Game.show, list[Step]()

    def hang_up(game: Game, step: Step) -> None:
        show(game, step)
        shown.append(step)
        if len(shown) == 5:
            signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(Game, "show", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    assert play("--player", "random", "--frames", 2000, "--record", "walk") == 0
    assert 5 <= len(load_recording(Path("walk.jsonl"))) < 100
