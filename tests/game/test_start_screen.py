"""From the command line over the start screen into play, with a person's keys, and out again."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import DrawnWorld
from worldmodel.action import IDLE
from worldmodel.config import UserError
from worldmodel.game.choice import Choice
from worldmodel.game.cli import main
from worldmodel.game.input import Taken
from worldmodel.game.known_speeds import speeds_here
from worldmodel.game.play_session import Session
from worldmodel.storage.moments import (
    last_sessions_folder,
    list_moments,
    moments_folder,
    new_name,
    save_moment,
)
from worldmodel.world import World


def key(scancode: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, scancode=scancode, mod=0))


def leave() -> None:
    pygame.event.post(pygame.event.Event(pygame.QUIT))


class Table:
    """Opens drawn worlds; `person` is called in a thread for each of them."""

    def __init__(self, person: Callable[[int], None], refuse: int | None = None) -> None:
        self.worlds: list[DrawnWorld] = []
        self.choices: list[Choice] = []
        self.person, self.refuse = person, refuse
        self.threads: list[threading.Timer] = []

    def open_world(self, choice: Choice) -> World:
        self.choices.append(choice)
        if len(self.choices) == self.refuse:
            raise UserError("that world is broken")
        timer = threading.Timer(0.5, self.person, [len(self.choices)])
        self.threads.append(timer)
        timer.start()
        self.worlds.append(DrawnWorld(seconds=0.001))
        return self.worlds[-1]

    def play(self, *arguments: str) -> int:
        try:
            return main(arguments, self.open_world)
        finally:
            for thread in self.threads:
                thread.join()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("WORLDMODEL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORLDMODEL_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        threading.Event().wait(0.05)
    leave()


def test_one_press_plays_the_default_world_and_its_end_is_offered_the_next_time() -> None:
    def person(_: int) -> None:
        assert table.worlds[0].frames == 0, "it rests behind the start screen"
        key(pygame.KSCAN_RETURN)
        wait_for(lambda: table.worlds[0].frames > 80)
        leave()

    table = Table(person)
    assert table.play("--fps", "0") == 0
    (last,) = list_moments(folder=last_sessions_folder())
    assert last.header.index > 60
    assert not last.is_autosave
    assert speeds_here()["drawn"] > 10


@pytest.mark.parametrize("said", [["--world", "drawn"], ["--start", "1"], ["--load"]])
def test_who_said_what_to_play_plays_at_once(said: list[str]) -> None:
    if said == ["--load"]:
        save_drawn(3)

    def person(_: int) -> None:
        wait_for(lambda: table.worlds[0].frames > 3)
        leave()

    table = Table(person)
    assert table.play(*said) == 0
    assert table.worlds[0].frames > 3


def test_the_start_screen_can_be_switched_off() -> None:
    folder = Path(os.environ["WORLDMODEL_CONFIG"])
    folder.mkdir()
    (folder / "settings.toml").write_text("start_screen = false\n", encoding="utf-8")

    def person(_: int) -> None:
        wait_for(lambda: table.worlds[0].frames > 3)
        leave()

    table = Table(person)
    assert table.play() == 0
    assert table.worlds[0].frames > 3


def save_drawn(frames: int) -> None:
    session = Session(DrawnWorld(), lambda _: Taken(IDLE, None))
    session.begin()
    for _ in range(frames):
        session.advance()
        session.remember()
    save_moment(new_name(moments_folder() / "drawn"), session.moment())


def choose_the_last_tile() -> None:
    key(pygame.KSCAN_END)
    key(pygame.KSCAN_RETURN)


def test_a_moment_of_another_world_is_gone_on_from_in_that_world() -> None:
    save_drawn(40)

    def person(turn: int) -> None:
        if turn == 1:
            choose_the_last_tile()
        else:
            wait_for(lambda: table.worlds[1].frames > 42)
            leave()

    table = Table(person)
    assert table.play() == 0
    assert len(table.worlds) == 2
    assert table.worlds[1].calls.count("generate") < table.worlds[1].frames - 30


def test_a_world_that_cannot_be_opened_leads_back_to_the_one_before() -> None:
    save_drawn(40)

    def person(turn: int) -> None:
        if turn == 1:
            choose_the_last_tile()
        else:
            key(pygame.KSCAN_RETURN)
            wait_for(lambda: table.worlds[1].frames > 2)
            leave()

    table = Table(person, refuse=2)
    assert table.play() == 0
    assert len(table.choices) == 3
    assert table.worlds[1].frames > 2


def test_broken_settings_are_one_sentence_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(os.environ["WORLDMODEL_CONFIG"])
    folder.mkdir()
    (folder / "settings.toml").write_text("font = 99.0\n", encoding="utf-8")
    assert Table(lambda _: None).play() == 2
    error = capsys.readouterr().err
    assert error.startswith("play: ")
    assert "settings.toml: font = 99.0: from 0.75 to 3.0; correct the file or remove it" in error
