"""A recording that is played again: the same frames, or where and why they differ."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.conftest import Play
from tests.game.drawn_world import DrawnWorld
from tests.game.walks import hashes, press_keys, record_with_a_branch
from tests.game.walks import play as walk
from worldmodel.action import IDLE
from worldmodel.game.choice import Choice
from worldmodel.game.input import Taken
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.game.replay import Replay
from worldmodel.storage.recording import RecordingError, load_recording, read_recording


@pytest.mark.parametrize("how", [["--headless"], [], ["--sync"]])
def test_a_replay_finds_the_same_frames(
    play: Play, how: list[str], chosen: list[Choice], capsys: pytest.CaptureFixture[str]
) -> None:
    play("--headless", "--frames", 20, "--seed", 3, "--start", 1, "--steps", 2, "--record", "walk")
    assert play("--replay", "walk.jsonl", "--fps", 0, *how) == 0
    assert "21 of 21 frames identical" in capsys.readouterr().out
    assert chosen[-1].steps == 2, "the recording's settings are used"


def test_a_replay_names_the_first_changed_frame(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    play("--headless", "--frames", 20, "--record", "walk")
    path = Path("walk.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[8])
    row["hash"] = "0" * 16
    lines[8] = json.dumps(row)
    path.write_text("\n".join(lines), encoding="utf-8")
    assert play("--replay", path, "--headless") == 1
    assert (
        "20 of 21 frames identical; the first different one is frame 7" in capsys.readouterr().out
    )


def test_a_replay_says_which_settings_differ(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    play("--headless", "--frames", 5, "--record", "walk")
    path = Path("walk.jsonl")
    path.write_text(
        path.read_text(encoding="utf-8").replace('"dtype": "float32"', '"dtype": "bfloat16"'),
        encoding="utf-8",
    )
    assert play("--replay", path, "--headless") == 0
    out = capsys.readouterr().out
    assert "frames may differ, because settings do: dtype (bfloat16 then, float32 now)" in out


@pytest.mark.parametrize("how", [["--headless"], [], ["--sync"]])
def test_a_replay_follows_every_branch(
    play: Play, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = record_with_a_branch("branched")
    rows = read_recording(path)[1]
    assert [row.index for row in rows] == [*range(21), *range(15, 25)]
    assert [row.back_to for row in rows if row.back_to is not None] == [14]
    assert play("--replay", path, "--fps", 0, *how) == 0
    assert "31 of 31 frames identical" in capsys.readouterr().out


def test_a_branched_recording_is_one_episode_of_its_last_branch(play: Play) -> None:
    path = record_with_a_branch("branched")
    rows = read_recording(path)[1]
    episode = load_recording(path)
    assert len(episode) == 25
    assert list(episode.actions) == [row.action for row in (*rows[:15], *rows[21:])]
    play("--headless", "--player", path, "--seed", 4, "--record", "again")
    assert hashes(Path("again.jsonl")) == [row.hash for row in (*rows[:15], *rows[21:])]


def test_a_recording_begun_in_the_middle_of_play_replays(
    play: Play, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    press_keys(monkeypatch, {12: pygame.KSCAN_F6})
    assert play("--frames", 30, "--fps", 0, "--seed", 3, "--player", "random") == 0
    (path,) = Path("recordings").glob("*.jsonl")
    header, rows = read_recording(path)
    assert header.first_frame > 0
    assert play("--replay", path, "--headless") == 0
    assert f"{len(rows)} of {len(rows)} frames identical" in capsys.readouterr().out
    path.with_suffix(".moment").rename("elsewhere.moment")
    assert play("--replay", path, "--headless") == 2
    assert "with what came before, is not beside it" in capsys.readouterr().err


def walked(play: Play, frames: int = 5) -> Replay:
    play("--headless", "--frames", frames, "--player", "random", "--record", "walk")
    return Replay.read(Path("walk.jsonl"))


def steps_of(replay: Replay) -> list[PlayedFrame]:
    """The frames of another session that does the same."""
    session = Session(DrawnWorld(), replay.take)
    return [session.begin(), *walk(session, len(replay.rows) - 1)]


def test_past_its_last_row_the_player_stands_still(play: Play) -> None:
    replay = walked(play)
    assert [replay.take(i).action for i in range(1, 6)] == [row.action for row in replay.rows[1:]]
    assert replay.take(6) == replay.take(7) == Taken(IDLE, None)


def test_a_frame_seen_again_or_beyond_the_end_is_no_row(play: Play) -> None:
    replay = walked(play)
    steps = steps_of(replay)
    for step in (*steps[:3], replace(steps[1], is_past=True), *steps[3:]):
        replay.check(step)
    replay.check(replace(steps[-1], count=6))
    assert replay.same == 6
    assert replay.verdict() == "6 of 6 frames identical"


def test_a_replay_that_is_stopped_says_so_and_names_no_setting(play: Play) -> None:
    replay = walked(play)
    for step in steps_of(replay)[:4]:
        replay.check(step)
    stopped = "4 of 6 frames identical; the replay was stopped before its end"
    assert replay.verdict() == stopped


def test_the_first_difference_is_named_and_what_may_explain_it(play: Play) -> None:
    replay = walked(play)
    steps = steps_of(replay)
    for step in steps:
        replay.check(replace(step, frame=255 - step.frame) if step.count in (2, 4) else step)
    said = replay.verdict()
    assert said.startswith("4 of 6 frames identical; the first different one is frame 2")
    assert said.endswith("none, so the world is not deterministic here")
    assert replay.compare_settings(DrawnWorld().identity) == ""
    assert "device (cpu then, cuda now)" in replay.compare_settings(
        DrawnWorld().identity | {"device": "cuda"}
    )
    assert replay.verdict().endswith("settings that differ: device (cpu then, cuda now)")


def test_a_recording_without_frames_or_with_the_moment_of_another_is_refused(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    press_keys(monkeypatch, {12: pygame.KSCAN_F6})
    play("--frames", 30, "--fps", 0, "--player", "random")
    (path,) = Path("recordings").glob("*.jsonl")
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    Path("empty.jsonl").write_text(header + "\n", encoding="utf-8")
    with pytest.raises(RecordingError, match=r"empty.jsonl: .*no frames"):
        Replay.read(Path("empty.jsonl"))
    table = json.loads(header)
    table["first_frame"] += 1
    path.write_text("\n".join([json.dumps(table), *rows]), encoding="utf-8")
    with pytest.raises(RecordingError, match="the two do not belong together"):
        Replay.read(path)
