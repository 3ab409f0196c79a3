"""Clips: a stretch of play as a video and rows, under an address that nobody guesses."""

import http.client
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.serve.client import Client
from tests.serve.drawn_world import psnr
from worldmodel.action import Action
from worldmodel.serve.clips import Clip
from worldmodel.serve.hall import Hall
from worldmodel.serve.running import Running, run_server
from worldmodel.serve.served_session import ServedSession
from worldmodel.serve.server_limits import Limits
from worldmodel.serve.session_store import SessionStore
from worldmodel.storage.recording import load_recording, read_recording
from worldmodel.world import Frame
from worldmodel.worlds.native import NativeWorld

FAST = 40.0


def fetch(running: Running, path: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(running.address).port or 0)
    connection.request("GET", f"/{path}", headers={"Host": "localhost"})
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def record(client: Client, frames: int, into: dict[int, Frame] | None = None) -> dict[str, Any]:
    """Record so many frames: what the server says at the end."""
    client.say("record")
    client.expect("recording")
    for _ in range(frames):
        shown = client.shown()
        if into is not None:
            into[shown.number] = shown.frame
    client.say("stop")
    return client.expect("clip")


def test_a_clip_is_a_recording_of_what_was_played(tiny: NativeWorld, tmp_path: Path) -> None:
    with run_server(Hall(tiny, Limits(), FAST)) as running, Client(running.address) as client:
        client.play()
        client.shown(lambda x: x.number >= 3)
        client.say("act", buttons=[tiny.actions.buttons[0]], mouse=[0, 0])
        shown: dict[int, Frame] = {}
        told = record(client, 20, shown)
        for ending, name in ((".mp4", "video"), (".jsonl", "keys")):
            status, content, headers = fetch(running, told[name])
            assert status == 200
            assert headers["Content-Disposition"].startswith("attachment")
            assert headers["Content-Security-Policy"].startswith("default-src 'self'")
            (tmp_path / f"clip{ending}").write_bytes(content)
        header, rows = read_recording(tmp_path / "clip.jsonl")
        episode = load_recording(tmp_path / "clip.jsonl")
    assert header.first_frame >= 3
    assert [row.index for row in rows] == list(range(rows[0].index, rows[0].index + len(rows)))
    assert len(rows) >= 19
    assert told["seconds"] == round(len(rows) / FAST, 1)
    assert any(row.action.buttons for row in rows)
    assert len(episode.frames) == len(rows)
    compared = 0
    for row, frame in zip(rows, episode.frames, strict=True):
        if row.index in shown:
            compared += 1
            assert psnr(np.asarray(frame), shown[row.index]) > 30
    assert compared > 10


def test_a_clip_has_what_the_world_knows_of_each_frame(tiny: NativeWorld, tmp_path: Path) -> None:
    world, action = tiny.another(), Action(frozenset(tiny.actions.buttons[:1]), (3.0, 0.0))
    session = ServedSession(world, start=0, seed=5, moments=4)
    session.begin()
    clip, known = Clip(tmp_path, session, FAST, Limits()), [world.state]
    for _ in range(6):
        session.show(world.generate(action), action, 0.0)
        known.append(world.state)
        world.remember()
    clip.stop("")
    clip.wait()
    header, rows = read_recording(tmp_path / f"{clip.key}.jsonl")
    assert header.state == tiny.state_spec
    told = np.asarray([row.state for row in rows], np.float32)
    assert np.array_equal(told, np.asarray(known), equal_nan=True)
    assert np.ptp(told, axis=0).any(), "numbers that never change prove nothing"


def test_going_back_stays_a_recording(tiny: NativeWorld, tmp_path: Path) -> None:
    with run_server(Hall(tiny, Limits(), FAST)) as running, Client(running.address) as client:
        client.play()
        client.shown()
        client.say("record")
        client.expect("recording")
        client.shown(lambda x: x.number >= 8)
        client.say("save")
        client.expect("notice")
        client.shown(lambda x: x.number >= 20)
        client.say("load")
        client.expect("notice")
        client.shown(lambda x: x.number >= 15)
        client.say("stop")
        content = fetch(running, client.expect("clip")["keys"])[1]
    (tmp_path / "clip.jsonl").write_bytes(content)
    _, rows = read_recording(tmp_path / "clip.jsonl")
    assert sum(row.back_to is not None for row in rows) == 1


def test_clips_are_bounded_and_expire(tiny: NativeWorld) -> None:
    limits = Limits(clips=2, clip_seconds=0.2, clip_kept=4.0)
    with run_server(Hall(tiny, limits, FAST)) as running, Client(running.address) as client:
        client.play()
        client.shown()
        client.say("record")
        client.expect("recording")
        told = client.expect("clip")
        assert "at most" in told["why"]
        assert told["seconds"] == 0.2
        second = record(client, 2)
        client.say("record")
        assert "all 2 places" in client.expect("clip")["why"]
        for path in ("clip/x.mp4", "clip/..%2f..%2fetc%2fpasswd", f"{told['video'][:-3]}moment"):
            assert fetch(running, path)[0] == 404
        assert fetch(running, second["video"])[0] == 200
        end = time.monotonic() + 20
        while fetch(running, second["video"])[0] == 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert b"no longer" in fetch(running, second["video"])[1]
        assert record(client, 2)["video"], "there is room again"


def test_servers_that_share_a_store_answer_for_each_others_clips(
    tiny: NativeWorld, tmp_path: Path
) -> None:
    stores = [SessionStore(tmp_path / "store") for _ in range(2)]
    limits = Limits(clip_kept=6.0)
    with run_server(Hall(tiny, limits, FAST, stores[1])) as other:
        with (
            run_server(Hall(tiny, limits, FAST, stores[0])) as running,
            Client(running.address) as client,
        ):
            client.play()
            client.shown()
            told = record(client, 3)
            made = {name: fetch(running, told[name]) for name in ("video", "keys")}
        for name, (status, content, _) in made.items():
            assert status == 200
            assert fetch(other, told[name])[:2] == (200, content), "the first server is gone"
        folder = tmp_path / "store" / "clips"
        assert folder.stat().st_mode & 0o77 == 0
        key = told["video"].removeprefix("clip/").removesuffix(".mp4")
        listed = [path.name for path in folder.iterdir()]
        assert len(listed) == 2
        assert not any(key in name for name in listed)
        assert fetch(other, f"clip/{listed[0]}")[0] == 404
        end = time.monotonic() + 30
        while fetch(other, told["video"])[0] == 200:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert not list(folder.iterdir())
    for store in stores:
        store.close()


def test_a_player_who_leaves_frees_the_place(tiny: NativeWorld) -> None:
    hall = Hall(tiny, Limits(recordings=1), FAST)
    with run_server(hall) as running, Client(running.address) as client:
        with Client(running.address) as other:
            keys = other.play()
            other.shown()
            other.say("record")
            other.expect("recording")
            client.play()
            client.shown()
            client.say("record")
            assert "being recorded" in client.expect("clip")["why"]
        end = time.monotonic() + 10
        found: dict[str, Any] = {}
        while "video" not in found:
            assert time.monotonic() < end
            client.say("record")
            client.shown()
            client.say("stop")
            found = client.expect("clip")
        with Client(running.address) as spectator:
            spectator.say("hello", watch=keys["watch"])
            spectator.say("record")
            assert spectator.why_closed()[0] == "who watches cannot play"


@pytest.mark.parametrize("most", [1, 100])
def test_a_clip_is_no_larger_than_allowed(tiny: NativeWorld, most: int) -> None:
    limits = Limits(clip_bytes=most)
    with run_server(Hall(tiny, limits, FAST)) as running, Client(running.address) as client:
        client.play()
        client.shown()
        client.say("record")
        assert "MB at most" in client.expect("clip")["why"]


def test_asking_for_a_clip_where_none_was_made_takes_no_place_on_disk(tiny: NativeWorld) -> None:
    with run_server(Hall(tiny, Limits(), FAST)) as running:
        assert fetch(running, "clip/x.mp4")[0] == 404
        assert running.server.clips._made is None
