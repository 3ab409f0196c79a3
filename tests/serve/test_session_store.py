"""A session goes on on another server, at most a second back, and as if nothing had happened."""

import os
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.serve.client import Client, Shown
from worldmodel.action import IDLE
from worldmodel.serve import session_store
from worldmodel.serve.hall import Hall, RefusedError
from worldmodel.serve.running import run_server
from worldmodel.serve.served_session import ServedSession
from worldmodel.serve.server_limits import Limits
from worldmodel.serve.session_store import ENDING, SessionStore
from worldmodel.worlds.native import NativeWorld

FAST = 40.0  # frames a second


def assert_goes_on(world: NativeWorld, seed: int, shown: list[Shown]) -> None:
    """Frames that came are those of the same session that nobody disturbed."""
    alone = world.another()
    frames = [alone.reset(0, seed)]
    while len(frames) <= shown[-1].number:
        frames.append(alone.generate(IDLE))
        alone.remember()
    assert all(np.array_equal(x.frame, frames[x.number]) for x in shown)


def test_a_session_goes_on_where_another_server_has_left_it(
    tiny: NativeWorld, tmp_path: Path
) -> None:
    store = SessionStore(tmp_path)
    with (
        run_server(Hall(tiny, Limits(), FAST, store)) as running,
        Client(running.address) as client,
    ):
        key = client.play(seed=5)["resume"]
        before = client.shown(lambda x: x.number >= 6).number
    store.close()  # as its process does at its end
    (file,) = tmp_path.glob(f"*{ENDING}")
    assert key.encode() not in file.read_bytes(), "who reads the folder could take it over"
    again = SessionStore(tmp_path)
    with (
        run_server(Hall(tiny, Limits(), FAST, again)) as running,
        Client(running.address) as client,
    ):
        client.say("hello", resume=key)
        assert client.expect("playing")["resume"] == key
        shown = [client.shown() for _ in range(12)]
        assert before <= shown[0].number <= before + 2 * FAST
        assert_goes_on(tiny, 5, shown)
        client.say("play", world=0, start=0, seed=9)  # the one before is over
        client.expect("playing")
    again.close()
    assert len(list(tmp_path.glob(f"*{ENDING}"))) == 1


def test_what_is_too_old_broken_or_of_another_world_is_not_gone_on_with(
    tiny: NativeWorld, tmp_path: Path
) -> None:
    store = SessionStore(tmp_path)
    hall = Hall(tiny, Limits(moment_every=0.0), FAST, store)
    with hall.open():
        session = hall.join(0, 1, "player")
        for _ in range(200):
            if list(tmp_path.glob(f"*{ENDING}")):
                break
            threading.Event().wait(0.05)
    store.close()
    (file,) = tmp_path.glob(f"*{ENDING}")
    store = SessionStore(tmp_path)
    found = store.find(session.key, tiny.name)
    assert found is not None
    assert found.watch_key == session.watch_key
    assert store.find(session.key, "another world") is None
    assert store.find("another key", tiny.name) is None
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert store.find(session.key, tiny.name) is None
    file.write_bytes(content)
    os.utime(file, (time.time() - 601, time.time() - 601))
    with pytest.raises(RefusedError, match="this session has ended"):
        Hall(tiny, Limits(), FAST, store).resume(session.key, "player")
    store.close()
    store = SessionStore(tmp_path)
    store.forget("a session that was over at once")
    store.close()
    assert not file.exists(), "what nobody asks for any more does not stay"


def test_nothing_in_the_folder_is_unpickled(tiny: NativeWorld, tmp_path: Path) -> None:
    """A file by somebody who may write there, under a name that a player's key leads to."""
    ran = tmp_path / "ran"

    class Runs:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (ran,)

    store, content = SessionStore(tmp_path / "store"), pickle.dumps(Runs())
    store._path("a key").write_bytes(content)
    assert store.find("a key", tiny.name) is None
    assert not ran.exists()
    pickle.loads(content)
    assert ran.exists(), "what does nothing proves nothing"
    store.close()


def test_the_newest_counts_when_a_player_goes_to_and_fro(tiny: NativeWorld, tmp_path: Path) -> None:
    stores = [SessionStore(tmp_path) for _ in range(2)]
    limits = Limits(moment_every=0.0, resume_within=2.0)
    one, other = (Hall(tiny, limits, FAST, store) for store in stores)

    def shown(hall: Hall, key: str, after: int) -> ServedSession:
        session = hall.resume(key, hall)
        for _ in range(400):
            if session.picture is not None and session.picture.number > after:
                break
            threading.Event().wait(0.02)
        assert session.picture is not None
        assert session.picture.number > after
        threading.Event().wait(0.3)  # it is on disk
        hall.leave(session, hall)
        return session

    with one.open(), other.open():
        first = one.join(0, 1, one)
        shown(one, first.key, 5)
        second = shown(other, first.key, 20)
        assert second is not first
        third = shown(one, first.key, 30)  # not what has stood still here since frame 5
        assert third is not first
        assert first not in one.sessions
        for _ in range(400):
            if second not in other.sessions:
                break
            threading.Event().wait(0.02)
        assert second not in other.sessions, "nobody came back to it"
        threading.Event().wait(0.3)
        found = stores[1].find(first.key, tiny.name)
        assert found is None or found.number > 30, "another server's session is not forgotten here"
    for store in stores:
        store.close()


def test_a_state_that_no_disk_takes_every_second_is_not_kept_and_that_is_said(
    tiny: NativeWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(session_store, "LARGEST", 100)
    store = SessionStore(tmp_path)
    hall = Hall(tiny, Limits(moment_every=0.0), FAST, store)
    with run_server(hall) as running, Client(running.address) as client:
        client.play()
        client.shown(lambda x: x.number >= 3)
    store.close()
    assert "a state of 0 MB is too large" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told_once_and_play_goes_on(
    tiny: NativeWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "store"
    store = SessionStore(folder)
    folder.rmdir()
    folder.write_bytes(b"")  # no folder any more
    hall = Hall(tiny, Limits(moment_every=0.0), FAST, store)
    with run_server(hall) as running, Client(running.address) as client:
        client.play()
        client.shown(lambda x: x.number >= 10)
    store.close()
    assert capsys.readouterr().err.count("sessions cannot be kept for other servers") == 1
