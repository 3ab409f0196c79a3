"""A session goes on on another server, at most a second back, and as if nothing had happened."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.serve.client import Client, Shown
from worldmodel.action import IDLE
from worldmodel.serve.hall import Hall, RefusedError
from worldmodel.serve.running import run_server
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
        assert client.told("playing")["resume"] == key
        shown = [client.shown() for _ in range(12)]
        assert before <= shown[0].number <= before + 2 * FAST
        assert_goes_on(tiny, 5, shown)
        client.say("play", world=0, start=0, seed=9)  # the one before is over
        client.told("playing")
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
    found = store.find(session.key, tiny.name, 60)
    assert found is not None
    assert found.watch_key == session.watch_key
    assert store.find(session.key, "another world", 60) is None
    assert store.find("another key", tiny.name, 60) is None
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert store.find(session.key, tiny.name, 60) is None
    file.write_bytes(content)
    os.utime(file, (time.time() - 61, time.time() - 61))
    with pytest.raises(RefusedError, match="this session has ended"):
        Hall(tiny, Limits(), FAST, store).resume(session.key, "player")
    assert not file.exists()
    store.close()


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
