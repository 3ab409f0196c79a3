"""What there is to play is looked up beside the menu: what is found, how often, and its end."""

import threading
from pathlib import Path

import pytest

from tests.game.drawn_world import DrawnWorld
from tests.game.walks import play, random_take
from tests.worlds.make_world import make_world
from worldmodel.game.menu import library as module
from worldmodel.game.menu.library import Library
from worldmodel.game.play_session import Session
from worldmodel.game.save_worker import SaveWorker
from worldmodel.worlds.find import find_world


def test_the_world_that_is_played_comes_first_and_with_its_starts(tmp_path: Path) -> None:
    here = make_world(tmp_path / "mine")
    library = Library(here)
    library.look()
    library.close()
    assert not library.is_looking
    assert library.current is library.worlds[0]
    assert library.current.folder == here
    assert all(start.picture is not None for start in library.current.starts)
    assert find_world("doom-places") in [world.folder for world in library.worlds]


def test_saved_moments_and_broken_sessions_are_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLDMODEL_DATA", str(tmp_path))
    session = Session(DrawnWorld(), random_take(DrawnWorld()))
    session.begin()
    play(session, 3)
    save_worker = SaveWorker()
    save_worker.save(session.moment())
    play(session, 2)
    save_worker.close(session.moment())
    library = Library(None)
    library.look()
    library.close()
    assert [kept.header.index for kept in library.moments] == [3]
    assert [kept.header.index for kept in library.sessions] == [5]


def test_a_look_is_not_begun_twice_and_closing_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, may_end = threading.Semaphore(0), threading.Event()

    def slow() -> list[object]:
        begun.release()
        assert may_end.wait(10)
        return []

    monkeypatch.setattr(module, "list_all_worlds", slow)
    library = Library(None)
    library.look()
    assert begun.acquire(timeout=10)
    library.look()
    assert library.is_looking
    may_end.set()
    library.close()
    assert not begun.acquire(blocking=False), "one thread looks at a time"
    assert not [thread for thread in threading.enumerate() if thread.name == "library"]
    library.look()
    assert begun.acquire(timeout=10), "after its end another look can begin"
    library.close()


def test_a_folder_that_cannot_be_read_ends_the_look_and_not_the_menu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> list[object]:
        raise PermissionError("not yours")

    monkeypatch.setattr(module, "list_moments", refuse)
    library = Library(None)
    library.look()
    library.close()
    assert not library.is_looking
    assert library.worlds, "what was found before is shown"
    assert library.moments == ()
