"""Wan worlds from the command line, window included."""

from pathlib import Path
from typing import Any

import pygame
import pytest

from play import open_world
from tests.worlds.wan.wan_tiny import make_wan_world
from worldmodel.action import Prompt
from worldmodel.font import words
from worldmodel.game.cli import main
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.storage.recording import read_recording

RUN = ("--device", "cpu", "--dtype", "float32", "--threads", "1")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return make_wan_world(tmp_path / "world")


def play(world: Path, *arguments: str) -> int:
    return main(["--world", str(world), *RUN, *arguments], open_world)


def hashes(name: str) -> list[str]:
    return [row.hash for row in read_recording(Path(f"{name}.jsonl"))[1]]


def test_a_timeline_is_recorded_and_replays_to_the_same_frames(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("said.txt").write_text("0.3 a desert\n0.6 ! a forest\n", encoding="utf-8")
    frames = ("--headless", "--frames", "16")
    assert play(world, *frames, "--prompts", "said.txt", "--record", "told") == 0
    rows = read_recording(Path("told.jsonl"))[1]
    assert [(row.index, row.action.prompt) for row in rows if row.action.prompt] == [
        (5, Prompt("a desert")),
        (10, Prompt("a forest", renew=True)),
    ]
    assert play(world, *frames, "--record", "silent", "--player", "idle") == 0
    assert hashes("silent") != hashes("told")
    assert main(["--replay", "told.jsonl", "--headless"], open_world) == 0
    assert "17 of 17 frames identical" in capsys.readouterr().out


def test_the_first_words_can_be_given(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("a", "a forest"), ("b", "a desert")):
        code = play(world, "--headless", "--frames", "4", "--prompt", text, "--record", name)
        assert code == 0
    assert hashes("a") != hashes("b")
    assert play(world, "--headless", "--prompt", "the moon") == 2
    assert "no embedding of this prompt" in capsys.readouterr().err


def test_words_typed_in_the_window_steer_the_world(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(
        [
            pygame.event.Event(pygame.KEYDOWN, scancode=pygame.KSCAN_RETURN, mod=0),
            pygame.event.Event(pygame.TEXTINPUT, text="a desert"),
            pygame.event.Event(pygame.KEYDOWN, scancode=pygame.KSCAN_RETURN, mod=0),
        ]
    )
    from worldmodel.game.loop import Game

    show = Game.show

    def type_and_show(game: Game, step: object) -> None:
        show(game, step)  # type: ignore[arg-type]  # as it came
        if event := next(typed, None):
            pygame.event.post(event)

    monkeypatch.setattr(Game, "show", type_and_show)
    assert play(world, "--sync", "--fps", "0", "--frames", "12", "--record", "typed") == 0
    said = [row.action.prompt for row in read_recording(Path("typed.jsonl"))[1]]
    assert [prompt for prompt in said if prompt] == [Prompt("a desert")]
    monkeypatch.setattr(Game, "show", show)
    assert main(["--replay", "typed.jsonl", "--headless"], open_world) == 0


def test_a_world_without_text_refuses_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--headless", "--frames", "1", "--prompt", "rain"], open_world) == 2
    assert "doom-places takes no words" in capsys.readouterr().err


def test_the_screen_says_how_many_frames_are_drawn_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    folder = make_wan_world(tmp_path / "world", "chunkwise-4step")
    drawn: list[str] = []

    def note(text: str, height: int, colour: Any) -> pygame.Surface:
        drawn.append(text)
        return words(text, height, colour)

    monkeypatch.setattr("worldmodel.game.hud.words", note)
    settings = Path("config")
    settings.mkdir()
    (settings / "settings.toml").write_text("numbers = true\n", encoding="utf-8")
    monkeypatch.setenv("WORLDMODEL_CONFIG", str(settings))
    assert play(folder, "--sync", "--fps", "0", "--frames", "3") == 0
    assert "measuring, 12 frames at a time" in drawn


def test_memory_for_going_back_can_be_chosen(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Session] = []
    begin = Session.begin

    def note(session: Session) -> PlayedFrame:
        made.append(session)
        return begin(session)

    monkeypatch.setattr(Session, "begin", note)
    for megabytes in ("1", "64"):
        assert play(world, "--headless", "--frames", "40", "--rewind-megabytes", megabytes) == 0
    little, much = (session.timeline for session in made)
    assert 0 < little.oldest < 40
    assert little.megabytes <= 1
    assert much.oldest == 0
