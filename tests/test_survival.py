"""What a recording is worth after the process, the power or the disk has gone."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from tests.storage.recordings import HEADER, actions, frames, record, times
from worldmodel.storage.recording import (
    ENDINGS,
    FrameRow,
    Recorder,
    RecordingError,
    begin_recording,
    free_name,
    load_recording,
    read_recording,
)
from worldmodel.storage.video import VideoWriter, read_video

RATE = HEADER.frames_per_second

RECORD_IN_REAL_TIME = """
import sys, time
from pathlib import Path
from tests.storage.recordings import HEADER, frames
from worldmodel.storage.recording import Recorder, FrameRow
recorder, clip = Recorder(Path(sys.argv[1]), HEADER), frames(40)
began = time.monotonic()
for i in range(100_000):
    time.sleep(max(0, began + i / 20 - time.monotonic()))
    recorder.write(clip[i % 40], FrameRow(index=i, time=i / 20))
"""


def start(code: str, *arguments: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])


def wait_for_rows(path: Path, count: int) -> None:
    ends = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_after_a_kill_the_clip_plays_to_its_last_second_and_every_frame_has_its_row(
    tmp_path: Path,
) -> None:
    process = start(RECORD_IN_REAL_TIME, tmp_path / "walk")
    wait_for_rows(tmp_path / "walk.jsonl", 75)
    process.kill()
    process.wait()
    with (tmp_path / "walk.jsonl").open("ab") as file:
        file.write(b'{"index": 9')  # the line that was being written
    rows = read_recording(tmp_path / "walk.jsonl")[1]
    shown = sum(1 for _ in read_video(tmp_path / "walk.mp4"))
    assert shown >= len(rows) - RATE - 2
    episode = load_recording(tmp_path / "walk.jsonl")
    assert len(episode) == shown
    np.testing.assert_allclose(episode.frames[5].astype(int), frames(40)[5], atol=60)


def test_slow_play_loses_a_second_too_and_not_a_second_of_the_worlds_rate(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "slow.mp4", (48, 64), 20.0)
    for i in range(12):
        writer.write(frames(1)[0], i / 2)  # 2 frames a second
    found = sum(1 for _ in read_video(tmp_path / "slow.mp4"))
    writer.abandon()
    assert found >= 9


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, list[tuple[int, int]]]:
    """Video and rows as they grow, and their sizes whenever the disk was sure to have them."""
    synced: list[tuple[int, int]] = []
    folder = tmp_path_factory.mktemp("power")
    rows_path, path = folder / "walk.jsonl", folder / "walk.mp4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worldmodel.storage.recording.SYNC_SECONDS", 0.05)
        real = VideoWriter.sync

        def sync(writer: VideoWriter) -> None:
            real(writer)
            synced.append((path.stat().st_size, rows_path.read_bytes().count(b"\n") - 1))

        patch.setattr(VideoWriter, "sync", sync)
        recorder, clip = Recorder(folder / "walk", HEADER), frames(100)
        for i in range(100):
            recorder.write(clip[i], FrameRow(index=i, time=i / RATE, action=actions(100)[i]))
            time.sleep(0.004)
        while len(rows_path.read_bytes().splitlines()) < 101:
            time.sleep(0.01)
        content = path.read_bytes(), rows_path.read_bytes()
        recorder.finish()
        recorder.wait()
    return *content, synced


def test_a_lost_power_leaves_what_the_disk_had_wherever_it_cuts_the_files(
    tmp_path: Path, cut_off: tuple[bytes, bytes, list[tuple[int, int]]]
) -> None:
    video, lines, synced = cut_off
    assert len(synced) > 3
    random = np.random.default_rng(0)
    path = tmp_path / "walk.mp4"
    for size, rows in synced[1:]:
        for length in {size, *random.integers(size, max(size, len(video)) + 1, 6).tolist()}:
            for tail in (b"", bytes(4096)):  # some disks give zeros for what they did not get
                path.write_bytes(video[:length] + tail)
                assert sum(1 for _ in read_video(path)) >= rows - RATE - 2
    # In the middle of a fragment's head, which no reader of the format gets over by itself.
    size, rows = next((size, rows) for size, rows in synced[1:] if size < len(video))
    for length in range(size + 30, size + 200, 3):
        path.write_bytes(video[:length] + bytes(4096))
        assert sum(1 for _ in read_video(path)) >= rows - RATE - 2
    for length in random.integers(lines.index(b"\n") + 1, len(lines), 40).tolist():
        for tail in (b"", bytes(512)):
            (tmp_path / "walk.jsonl").write_bytes(lines[:length] + tail)
            whole = lines[:length].count(b"\n") - 1
            assert len(read_recording(tmp_path / "walk.jsonl")[1]) in (whole, whole + 1)


def test_a_clip_whose_every_byte_may_be_missing_never_hangs_or_breaks_the_reader(
    tmp_path: Path, cut_off: tuple[bytes, bytes, list[tuple[int, int]]]
) -> None:
    video = cut_off[0]
    path = tmp_path / "walk.mp4"
    lengths = [0, 1, 8, 40, *range(100, len(video), len(video) // 20)]
    counts = []
    for length in lengths:
        path.write_bytes(video[:length])
        counts.append(sum(1 for _ in read_video(path)))
    assert counts == sorted(counts)


RACE = """
import sys
from pathlib import Path
from tests.storage.recordings import HEADER, frames
from worldmodel.storage.recording import FrameRow, begin_recording
sys.stdin.readline()
for n in range(5):
    recorder = begin_recording(Path(sys.argv[1]), HEADER)
    for i in range(3):
        recorder.write(frames(1)[0], FrameRow(index=i, time=i / 20))
    recorder.finish()
    recorder.wait()
"""


def test_processes_that_record_under_one_name_at_once_never_share_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACE, str(tmp_path / "walk")]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(3)]
    for racer in racers:
        racer.communicate(b"go\n", timeout=60)
        assert racer.returncode == 0
    paths = sorted(tmp_path.glob("*.jsonl"))
    assert len(paths) == 15
    assert all(len(load_recording(path)) == 3 for path in paths)


def test_a_name_taken_by_any_file_of_a_recording_or_by_a_dead_link_is_not_free(
    tmp_path: Path,
) -> None:
    for ending in ENDINGS:
        (tmp_path / f"a{ending}").write_text("", encoding="utf-8")
        assert free_name(tmp_path / "a") == tmp_path / "a_002"
        (tmp_path / f"a{ending}").unlink()
    (tmp_path / "b.mp4").symlink_to(tmp_path / "nowhere")
    recorder = begin_recording(tmp_path / "b", HEADER)
    recorder.write(frames(1)[0], FrameRow(index=0, time=0.0))
    recorder.finish()
    recorder.wait()
    assert recorder.path == tmp_path / "b_002.mp4"
    assert not (tmp_path / "nowhere").exists()


def test_a_video_that_is_there_is_neither_written_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_text("somebody's", encoding="utf-8")
    with pytest.raises(RecordingError, match="recording stopped: File exists"):
        Recorder(tmp_path / "walk", HEADER)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.mp4"]
    assert (tmp_path / "walk.mp4").read_text(encoding="utf-8") == "somebody's"


def test_a_disk_that_hangs_stops_the_recording_and_not_the_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    real = VideoWriter.write

    def hang(writer: VideoWriter, *what: object) -> None:
        if what[1] == 1.0:
            answers.wait(20)
        real(writer, *what)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(VideoWriter, "write", hang)
    monkeypatch.setattr("worldmodel.storage.recording.PATIENCE", 0.2)
    monkeypatch.setattr("worldmodel.storage.recording.LAST_PATIENCE", 0.2)
    recorder = Recorder(tmp_path / "walk", HEADER)
    began, longest = time.monotonic(), 0.0
    told = ""
    for i in range(200):
        before = time.monotonic()
        try:
            recorder.write(frames(1)[0], FrameRow(index=i, time=i / 20))
        except RecordingError as error:
            told = str(error)
        longest = max(longest, time.monotonic() - before)
    assert "recording stopped: the disk does not keep up" in told
    assert time.monotonic() - began < 5
    assert longest < 1
    recorder.finish()
    with pytest.raises(RecordingError, match="recording stopped"):
        recorder.wait()
    answers.set()
    recorder._thread.join(10)
    assert len(load_recording(tmp_path / "walk.jsonl")) == 21


FULL_DISK_WHILE_FINISHING = """
import resource, sys
from pathlib import Path
from tests.storage.recordings import frames
from worldmodel.storage.video import VideoWriter
writer = VideoWriter(Path(sys.argv[1]), (48, 64), 20.0)
for i in range(100):
    writer.write(frames(40)[i % 40], i / 20)
size = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size - 500, size - 500))
try:
    writer.close()
except OSError:
    writer.abandon()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the full disk is a limit that Windows lacks")
def test_a_disk_that_fills_up_while_the_clip_is_finished_leaves_the_clip(tmp_path: Path) -> None:
    process = start(FULL_DISK_WHILE_FINISHING, tmp_path / "walk.mp4")
    assert process.wait(60) == 0
    assert sum(1 for _ in read_video(tmp_path / "walk.mp4")) >= 79
    assert [path.name for path in tmp_path.iterdir()] == ["walk.mp4"]


def test_an_encoder_that_fails_in_the_middle_leaves_the_clip_up_to_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = VideoWriter.write

    def fail(writer: VideoWriter, frame: object, seconds: float) -> None:
        if seconds > 3:
            raise av.error.ExternalError(1, "encoder")
        real(writer, frame, seconds)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(VideoWriter, "write", fail)
    with pytest.raises(RecordingError, match="recording stopped"):
        record(tmp_path / "walk", 100)
    rows = read_recording(tmp_path / "walk.jsonl")[1]
    assert len(rows) >= sum(now <= 3 for now in times(100))
    assert len(load_recording(tmp_path / "walk.jsonl")) >= 3 * RATE - RATE


def test_a_crash_of_the_interpreter_in_the_middle_of_a_row_loses_that_row_only(
    tmp_path: Path,
) -> None:
    path = record(tmp_path / "walk", 10)
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    assert len(read_recording(path)[1]) == 9
    path.write_bytes(content[:-20] + "é".encode()[:1])
    assert len(read_recording(path)[1]) == 9
    os.truncate(path, 0)
    with pytest.raises(RecordingError, match="not a recording"):
        read_recording(path)
