"""Moments on their way to disk: what is written, what stays, what is told."""

import threading
import time
from pathlib import Path

import pytest

from tests.game.drawn_world import DrawnWorld
from tests.game.walks import play, random_take, wait_for
from worldmodel.config import UserError
from worldmodel.game.controls import Command
from worldmodel.game.play_session import Keeping, Session
from worldmodel.game.save_worker import SaveWorker
from worldmodel.storage.moments import Moment, list_moments, load_moment, save_moment


def test_autosaves_come_by_themselves_and_go_with_a_good_end(tmp_path: Path) -> None:
    save_worker = SaveWorker(tmp_path, period=0.01)
    session = Session(
        DrawnWorld(), random_take(DrawnWorld()), keeping=Keeping(save_worker=save_worker)
    )
    session.begin()
    while save_worker.autosaves < 3:
        play(session, 1)
        time.sleep(0.002)
    (path,) = tmp_path.glob("drawn/autosave-*.safetensors")
    assert path.is_file()
    save_worker.close(None)
    assert list(tmp_path.glob("drawn/*")) == []


def test_a_session_that_broke_leaves_its_last_moment(tmp_path: Path) -> None:
    save_worker = SaveWorker(tmp_path)
    session = Session(
        DrawnWorld(), random_take(DrawnWorld()), keeping=Keeping(save_worker=save_worker)
    )
    session.begin()
    play(session, 7)
    save_worker.close(session.moment())
    (kept,) = list_moments("drawn", tmp_path)
    assert kept.is_autosave
    assert kept.header.index == 7


def test_a_disk_that_refuses_costs_neither_play_nor_the_moment(tmp_path: Path) -> None:
    (tmp_path / "moments").write_text("a file where a folder should be", encoding="utf-8")
    save_worker = SaveWorker(tmp_path / "moments", period=0.0)
    session = Session(
        DrawnWorld(), random_take(DrawnWorld()), keeping=Keeping(save_worker=save_worker)
    )
    session.begin()
    play(session, 3)
    session.turn(Command.SAVE)
    play(session, 30)
    loaded = session.turn(Command.LOAD)
    assert loaded is not None
    assert loaded.index == 3
    save_worker.close(None)
    told = list(save_worker.notices())
    assert sum("no autosave" in text for text in told) == 1
    assert sum("only in memory" in text for text in told) == 1


def moment_of(frames: int) -> Moment:
    session = Session(DrawnWorld(), random_take(DrawnWorld()))
    session.begin()
    play(session, frames)
    return session.moment()


def test_moments_are_written_in_their_order_and_told_in_it(tmp_path: Path) -> None:
    save_worker = SaveWorker(tmp_path)
    for frames in (3, 5, 7):
        save_worker.save(moment_of(frames))
    save_worker.close(None)
    told = [text.removeprefix("saved this moment: ") for text in save_worker.notices()]
    assert [load_moment(Path(path)).header.index for path in told] == [3, 5, 7]
    assert list(save_worker.notices()) == [], "each is told once"


def test_what_was_saved_last_is_loaded_else_the_newest_on_disk_and_no_autosave(
    tmp_path: Path,
) -> None:
    first = SaveWorker(tmp_path)
    with pytest.raises(UserError, match="nothing is saved of drawn yet, F5 saves"):
        first.newest("drawn")
    first.save(moment_of(4))
    first.close(moment_of(9))
    assert sorted(one.is_autosave for one in list_moments("drawn", tmp_path)) == [False, True]
    second = SaveWorker(tmp_path)
    assert second.newest("drawn").header.index == 4
    second.save(moment_of(2))
    assert second.newest("drawn").header.index == 2
    second.close(None)


def test_an_autosave_waits_for_its_time_and_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, may_go_on = threading.Event(), threading.Event()

    def slow(path: Path, moment: Moment) -> None:
        written.set()
        assert may_go_on.wait(10)
        save_moment(path, moment)

    monkeypatch.setattr("worldmodel.game.save_worker.save_moment", slow)
    save_worker = SaveWorker(tmp_path, period=0.0)
    assert save_worker.autosave_is_due()
    save_worker.autosave(moment_of(1))
    assert written.wait(10)
    assert not save_worker.autosave_is_due(), "the last one is not on disk yet"
    may_go_on.set()
    wait_for(save_worker.autosave_is_due)
    save_worker.close(None)

    patient = SaveWorker(tmp_path, period=30.0)
    assert not patient.autosave_is_due()
    patient.close(None)


def test_after_a_moment_that_cannot_be_written_the_next_one_is(tmp_path: Path) -> None:
    (tmp_path / "drawn").write_text("a file where a folder should be", encoding="utf-8")
    others = set(threading.enumerate())  # of tests before this one
    save_worker = SaveWorker(tmp_path)
    save_worker.save(moment_of(3))
    lost: list[str] = []

    def is_told() -> bool:
        lost.extend(save_worker.notices())
        return bool(lost)

    wait_for(is_told)
    (tmp_path / "drawn").unlink()
    save_worker.save(moment_of(5))
    save_worker.close(None)
    assert lost[0].startswith("not on disk, only in memory until the end: ")
    assert [load_moment(one.path).header.index for one in list_moments("drawn", tmp_path)] == [5]
    left = set(threading.enumerate()) - others
    assert not [thread for thread in left if thread.name == "save_worker"]
