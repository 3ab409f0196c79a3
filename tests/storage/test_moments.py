"""Saved moments on disk, and the autosaves of sessions that broke off."""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from tests.game.drawn_world import DrawnWorld
from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.storage.action_history import History, HistoryError
from worldmodel.storage.autosave import Autosave, forget_old, is_orphan
from worldmodel.storage.moments import (
    FORMAT,
    Moment,
    MomentHeader,
    ago,
    list_moments,
    load_moment,
    peek,
    save_moment,
)
from worldmodel.world import SavedState, step

WALK = [Action(frozenset({"KeyW"} if i % 4 else set()), (0.1 * i, 0.0)) for i in range(20)]


def make_moment(frames: int = 20, saved_at: float = 1000.0) -> Moment:
    world, history = DrawnWorld(), History()
    frame = world.reset(1, 3)
    for action in WALK[:frames]:
        frame = step(world, action)
        history.append(action)
    header = MomentHeader(
        settings={"world": None, "steps": 2},
        identity=world.identity,
        world=world.name,
        caption="the blue room",
        seed=3,
        start=1,
        index=frames,
        seconds=1.5,
        saved_at=saved_at,
        sets=tuple(tuple(sorted(buttons)) for buttons in history.sets),
        versions={},
    )
    return Moment(header=header, state=world.save_state(), frame=frame, history=history)


def test_a_moment_reads_back_as_it_was(tmp_path: Path) -> None:
    moment = make_moment()
    save_moment(tmp_path / "m.safetensors", moment)
    again = load_moment(tmp_path / "m.safetensors")
    assert again.header == moment.header
    assert [again.history[i] for i in range(20)] == WALK
    np.testing.assert_array_equal(again.frame, moment.frame)
    one, other = DrawnWorld(), DrawnWorld()
    one.load_state(moment.state)
    other.load_state(again.state)
    np.testing.assert_array_equal(step(one, WALK[3]), step(other, WALK[3]))
    header, frame = peek(tmp_path / "m.safetensors")
    assert header == moment.header
    np.testing.assert_array_equal(frame, moment.frame)


def test_a_list_shows_the_newest_first_and_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    for name, saved_at in (("a", 5.0), ("b", 9.0), ("c", 7.0)):
        save_moment(tmp_path / "drawn" / f"{name}.safetensors", make_moment(3, saved_at))
    (tmp_path / "drawn" / "d.safetensors").write_bytes(b"no moment")
    (tmp_path / "drawn" / "e.safetensors").mkdir()
    kept = list_moments("drawn", tmp_path)
    assert [one.path.stem for one in kept] == ["b", "c", "a"]
    assert kept[0].frame.shape == (48, 64, 3)
    assert list_moments("another", tmp_path) == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"index": 2**60}, "index"),
        ({"index": "x"}, "index"),
        ({"saved_at": float("nan")}, "saved_at"),
        ({"sets": [[1]]}, "sets"),
        ({"sets": []}, "actions hold values that mean nothing"),
        ({"more": 1}, "unknown key 'more'"),
        ({"settings": 3}, "settings"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    path = tmp_path / "m.safetensors"
    save_moment(path, make_moment())
    arrays = load(path.read_bytes())
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    old = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["moment"])
    facts = {"format": FORMAT, "moment": json.dumps({**old, **table})}
    path.write_bytes(save(arrays, facts))
    with pytest.raises(UserError, match=rf"m.safetensors: .*{message}"):
        load_moment(path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("frame", np.zeros((4, 4), np.uint8), "frame is uint8"),
        ("frame", np.zeros((4, 4, 3), np.float32), "frame is float32"),
        ("held", np.zeros(20, np.int64), "held sets are int64"),
        ("mouse", np.zeros((3, 2)), "mouse is float64"),
        ("mouse", np.full((20, 2), np.inf), "mean nothing"),
    ],
)
def test_a_wrong_array_is_named(tmp_path: Path, name: str, array: Any, message: str) -> None:
    path = tmp_path / "m.safetensors"
    save_moment(path, make_moment())
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    facts = json.loads(content[8 : 8 + length])["__metadata__"]
    path.write_bytes(save({**load(content), name: array}, facts))
    with pytest.raises(UserError, match=rf"m.safetensors: .*{message}"):
        load_moment(path)


def test_a_small_file_that_promises_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = json.dumps(
        {"frame": {"dtype": "U8", "shape": [60 << 30], "data_offsets": [0, 60 << 30]}}
    ).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match="broken moment"):
        load_moment(path)
    path.write_bytes(struct.pack("<Q", 60 << 30) + b"{}")
    with pytest.raises(UserError, match="broken moment"):
        load_moment(path)
    with path.open("wb") as file:
        file.truncate(60 << 30)  # 60 GB of nothing
    with pytest.raises(UserError, match="at most"):
        load_moment(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="not a file"):
        load_moment(tmp_path / "m.safetensors")


def test_truncated_at_any_byte_a_moment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_moment(path, make_moment())
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"m\.safetensors"):
            load_moment(path)


def test_an_autosave_is_listed_only_when_its_session_is_gone(tmp_path: Path) -> None:
    autosave = Autosave(tmp_path / "drawn")
    autosave.claim()
    save_moment(autosave.path, make_moment())
    assert not is_orphan(autosave.path)
    assert list_moments("drawn", tmp_path) == []
    autosave.let_go()
    (kept,) = list_moments("drawn", tmp_path)
    assert kept.is_autosave
    autosave.remove()
    assert list(tmp_path.glob("drawn/*")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="what is open cannot be removed there")
def test_a_session_whose_folder_is_removed_meanwhile_does_not_count_as_broken(
    tmp_path: Path,
) -> None:
    autosave = Autosave(tmp_path / "drawn")
    for _ in range(2):
        autosave.claim()
        save_moment(autosave.path, make_moment())
        assert not is_orphan(autosave.path)
        shutil.rmtree(tmp_path / "drawn")
    autosave.remove()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.storage.test_moments import make_moment
from worldmodel.storage.autosave import Autosave
from worldmodel.storage.moments import save_moment
autosave = Autosave(Path(sys.argv[1]) / "drawn")
autosave.claim()
save_moment(autosave.path, make_moment())
print(autosave.path, flush=True)
sys.stdin.readline()
"""


def test_a_killed_session_leaves_its_autosave_and_a_running_one_keeps_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    path = Path(process.stdout.readline().decode().strip())
    assert not is_orphan(path)
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    (kept,) = list_moments("drawn", tmp_path)
    assert kept.path == path


def test_of_many_broken_sessions_the_newest_stay(tmp_path: Path) -> None:
    for i in range(8):
        path = tmp_path / f"autosave-{i}.safetensors"
        path.write_bytes(b"x")
        os.utime(path, (i, i))
    forget_old(tmp_path)
    assert sorted(path.stem[-1] for path in tmp_path.iterdir()) == ["3", "4", "5", "6", "7"]


def test_a_history_is_exact_and_small() -> None:
    history = History()
    for i in range(10_000):
        history.append(Action(frozenset({"KeyW", "KeyD"} if i % 3 else ()), (i / 7, -i / 11)))
    held, mouse = history.to_arrays()
    assert held.nbytes + mouse.nbytes == 20 * 10_000
    again = History.from_arrays([sorted(s) for s in history.sets], held, mouse, 10_000)
    assert all(again[i] == history[i] for i in (0, 1, 5000, 9999))
    again.cut(5)
    again.append(Action(frozenset({"KeyA"})))
    assert len(again) == 6
    assert again[5].buttons == {"KeyA"}
    assert len(history) == 10_000
    with pytest.raises(HistoryError, match="different sets"):
        History.from_arrays([[]] * 70_000, held, mouse, 10_000)


def test_a_moment_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = make_moment()
    save_moment(tmp_path / "m.safetensors", moment)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(UserError, match="cannot be written"):
        save_moment(tmp_path / "m.safetensors", replace(moment, frame=moment.frame[:4]))
    assert load_moment(tmp_path / "m.safetensors").frame.shape == (48, 64, 3)


def test_a_moment_of_every_kind_of_array_reads_back_exactly(tmp_path: Path) -> None:
    moment, rng = make_moment(), np.random.default_rng(0)
    kinds = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
    arrays = {kind: rng.integers(0, 2, (3, 5)).astype(kind).T for kind in kinds}
    arrays |= {"none": np.zeros((0, 4), np.float32), "one": np.array(7)}
    state = SavedState(moment.state.identity, arrays)
    save_moment(tmp_path / "m.safetensors", replace(moment, state=state))
    again = load_moment(tmp_path / "m.safetensors").state.arrays
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        assert again[name].shape == array.shape
        assert np.array_equal(again[name], array)


def test_a_clock_that_is_set_before_1970_loses_no_moment(tmp_path: Path) -> None:
    save_moment(tmp_path / "drawn" / "m.safetensors", make_moment(3, saved_at=-86400.0))
    assert [kept.header.saved_at for kept in list_moments(folder=tmp_path)] == [-86400.0]


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0, "just now"),
        (1, "1 minute ago"),
        (119, "119 minutes ago"),
        (120, "2 hours ago"),
        (2880, "2 days ago"),
    ],
)
def test_how_long_ago_is_said_in_words(minutes: int, words: str) -> None:
    assert ago(time.time() - 60 * minutes) == words
