import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.storage.recordings import HEADER, SPEC, actions, frames, record, times
from worldmodel.storage.episodes import load_episode
from worldmodel.storage.recording import (
    FrameRow,
    Recorder,
    RecordingError,
    free_name,
    hash_frame,
    load_recording,
    read_recording,
)
from worldmodel.storage.video import shown_size, watch


def test_a_recording_reads_back_as_header_rows_and_episode(tmp_path: Path) -> None:
    path = record(tmp_path / "sub" / "walk")
    header, rows = read_recording(path)
    assert header == HEADER
    assert [row.action for row in rows] == actions(30)
    assert [row.time for row in rows] == pytest.approx(times(30), abs=1e-6)
    assert [row.hash for row in rows] == [hash_frame(frame) for frame in frames(30)]

    episode = load_episode(path)
    assert list(episode.actions) == actions(30)
    assert episode.buttons == HEADER.buttons
    assert episode.frames.shape == (30, 48, 64, 3)
    difference = np.abs(episode.frames.astype(int) - frames(30))
    assert difference.mean() < 3, "the video is lossy, but not this much"
    assert episode.state is None
    assert "state" not in path.read_text()  # as it was before there was any


def record_state(name: Path, states: list[tuple[float, ...] | None]) -> Path:
    recorder = Recorder(name, replace(HEADER, state=SPEC))
    for i, state in enumerate(states):
        recorder.write(frames(i + 1)[i], FrameRow(index=i, time=i / 20, state=state))
    recorder.finish()
    recorder.wait()
    return recorder.rows_path


def test_what_the_world_knew_of_itself_is_recorded_beside_its_frames(tmp_path: Path) -> None:
    path = record_state(tmp_path / "walk", [(0.1, 0.0), (math.nan, 0.0), None, (7.5, 1.0)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["state"]["x"] == {"kind": "position", "unit": "m", "low": 0.0, "high": 100.0}
    assert [line.get("state") for line in lines[1:]] == [[0.1, 0], [None, 0], None, [7.5, 1]]
    assert read_recording(path)[0].state == SPEC
    track = load_episode(path).state
    assert track is not None
    unknown = np.nan
    wanted = np.array([[0.1, 0], [unknown, 0], [unknown, unknown], [7.5, 1]], np.float32)
    np.testing.assert_array_equal(track.values, wanted)
    numbers = track.spec.numbers  # with the range that was seen
    assert [(n.kind, n.unit, n.high) for n in numbers.values()] == [
        ("position", "m", 7.5),
        ("flag", "", 1.0),
    ]


def test_an_episode_has_the_state_of_the_branch_that_it_is(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "walk", replace(HEADER, state=SPEC))
    for i, (index, back_to) in enumerate([(0, None), (1, None), (2, None), (1, 0)]):
        row = FrameRow(index=index, time=i / 20, back_to=back_to, state=(float(i), 0.0))
        recorder.write(frames(i + 1)[i], row)
    recorder.finish()
    recorder.wait()
    track = load_episode(recorder.rows_path).state
    assert track is not None
    np.testing.assert_array_equal(track.column("x"), [0, 3])


def test_a_state_that_the_header_does_not_name_is_refused(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "walk", replace(HEADER, state=SPEC))
    with pytest.raises(RecordingError, match="frame 0 has a state of 3 numbers, the header names"):
        recorder.write(frames(1)[0], FrameRow(index=0, time=0.0, state=(1.0, 2.0, 3.0)))
    recorder.finish()
    path = record_state(tmp_path / "good", [(0.0, 0.0)] * 3)
    text = path.read_text()
    for old, new, message in (
        ('"state": [0.0, 0.0]}', '"state": [0.0]}', "line 2 is not a frame.*state of 1 numbers"),
        ('"state": [0.0, 0.0]}', '"state": [1e300, 0]}', "line 2 is not a frame.*1e\\+300"),
        ('"kind": "flag"', '"kind": "colour"', r"state\.dead: kind = 'colour': choose from"),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(RecordingError, match=message):
            read_recording(path)


def test_the_video_plays_everywhere_and_shows_frames_at_their_real_times(tmp_path: Path) -> None:
    path = record(tmp_path / "walk").with_suffix(".mp4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (640, 480)
    assert [seconds for seconds, _ in watch(path)] == pytest.approx(times(30), abs=1e-4)


def test_a_finished_video_is_a_plain_mp4_with_its_index_first(tmp_path: Path) -> None:
    content = record(tmp_path / "walk").with_suffix(".mp4").read_bytes()
    assert b"moof" not in content
    assert content.index(b"moov") < content.index(b"mdat")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["walk.jsonl", "walk.mp4"]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((48, 64), (480, 640)),
        ((45, 81), (360, 648)),
        ((720, 1280), (720, 1280)),
        ((5, 7), (460, 644)),
    ],
)
def test_small_frames_are_scaled_up_by_a_whole_number_to_even_sizes(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert shown_size(size) == shown


def test_whoever_finds_a_row_finds_a_frame(tmp_path: Path) -> None:
    """At any moment of the first frames, as if the process had been killed then."""
    recorder = Recorder(tmp_path / "walk", HEADER)
    rows, video = tmp_path / "walk.jsonl", tmp_path / "walk.mp4"
    found: list[int] = []
    for i, (frame, action) in enumerate(zip(frames(4), actions(4), strict=True)):
        recorder.write(frame, FrameRow(index=i, time=times(4)[i], action=action))
        lines = 0
        while lines < i + 2:  # the header, too
            lines = rows.read_bytes().count(b"\n")
            if lines > 1:
                copies = tmp_path / "copy.jsonl", tmp_path / "copy.mp4"
                for source, copy in zip((rows, video), copies, strict=True):
                    copy.write_bytes(source.read_bytes())
                found.append(len(load_recording(copies[0])))
    recorder.finish()
    recorder.wait()
    assert min(found) >= 1
    assert len(load_recording(rows)) == 4


WRITE_TO_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.storage.recordings import HEADER
from worldmodel.storage.recording import Recorder, RecordingError, FrameRow
import numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
recorder = Recorder(Path(sys.argv[1]), HEADER)
noise = np.random.default_rng(0)
try:
    for i in range(400):
        frame = noise.integers(0, 255, (48, 64, 3), np.uint8)
        recorder.write(frame, FrameRow(index=i, time=i / 20))
    recorder.finish()
    recorder.wait()
except RecordingError as error:
    recorder.finish()
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the full disk is a limit that Windows lacks")
def test_a_full_disk_stops_the_recording_with_one_sentence_and_leaves_what_was_written(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", WRITE_TO_A_FULL_DISK, str(tmp_path / "walk")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "recording stopped: File too large; what was written" in done.stdout
    assert done.stderr == ""
    assert 0 < len(load_recording(tmp_path / "walk.jsonl")) < 400


def test_a_place_that_cannot_be_written_to_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RecordingError, match="recording stopped"):
        Recorder(tmp_path / "file" / "walk", HEADER)


def test_a_recording_never_replaces_another(tmp_path: Path) -> None:
    record(tmp_path / "walk", 2)
    assert free_name(tmp_path / "walk.mp4") == tmp_path / "walk_002"
    record(free_name(tmp_path / "walk"), 2)
    assert free_name(tmp_path / "walk") == tmp_path / "walk_003"
    assert free_name(tmp_path / "v1.5") == tmp_path / "v1.5"


def fail(error: Exception) -> Callable[..., None]:
    def raise_it(*_: object) -> None:
        raise error

    return raise_it


def write_slowly(recorder: Recorder, count: int) -> None:
    for i in range(count):
        recorder.write(frames(1)[0], FrameRow(index=i, time=i / 20))
        time.sleep(0.001)


ERRORS = pytest.mark.parametrize(
    "error", [av.error.ExternalError(1, "encoder"), RuntimeError("odd"), OSError(28, "disk full")]
)


@ERRORS
def test_whatever_the_encoder_raises_play_never_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("worldmodel.storage.video.VideoWriter.write", fail(error))
    recorder = Recorder(tmp_path / "walk", HEADER)
    with pytest.raises(RecordingError, match=r"recording stopped: .*(encoder|odd|disk full)"):
        write_slowly(recorder, 500)
    recorder.finish()
    with pytest.raises(RecordingError, match="recording stopped"):
        recorder.wait()


@ERRORS
def test_a_failure_while_finishing_reaches_the_one_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("worldmodel.storage.video.VideoWriter.close", fail(error))
    with pytest.raises(RecordingError, match="recording stopped"):
        record(tmp_path / "walk", 3)


def test_a_video_that_cannot_be_made_plain_stays_as_it_grew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "worldmodel.storage.video._defragment", fail(av.error.ExternalError(1, "x"))
    )
    assert len(load_recording(record(tmp_path / "walk", 5))) == 5


@pytest.mark.parametrize("part", ["_write_line", "path"])
def test_a_recording_that_cannot_begin_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    broken = fail(av.error.ExternalError(1, "x"))
    if part == "path":
        monkeypatch.setattr("worldmodel.storage.recording.VideoWriter", broken)
    else:
        monkeypatch.setattr(Recorder, part, broken)
    with pytest.raises(RecordingError, match="recording stopped"):
        Recorder(tmp_path / "walk", HEADER)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_refused_before_the_video_of_it_is_touched(tmp_path: Path) -> None:
    path = record(tmp_path / "walk", 3)
    with pytest.raises(RecordingError, match="recording stopped"):
        Recorder(tmp_path / "walk", HEADER)
    assert len(load_recording(path)) == 3


def test_without_pyav_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match="pip install av"):
        Recorder(tmp_path / "walk", HEADER)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_is_removed_while_it_grows_is_not_said_to_be_recorded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "walk", HEADER)
    recorder.write(frames(1)[0], FrameRow(index=0, time=0.0))
    (tmp_path / "walk.mp4").unlink()
    recorder.finish()
    with pytest.raises(RecordingError, match=r"walk\.mp4: was removed while it was recorded"):
        recorder.wait()
