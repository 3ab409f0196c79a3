"""Recordings whose process is killed, or whose files end anywhere, and what is left of them."""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from worldmodel.selftest.trials import SelftestError
from worldmodel.storage.recording import read_recording
from worldmodel.storage.video import read_video

RATE = 20.0
ROWS = 70  # before the kill

# A process of its own that records until it is killed.
RECORD = """
import sys, time
from pathlib import Path
import numpy as np
from worldmodel.storage.recording import Header, Recorder, FrameRow
header = Header(settings={}, identity={}, seed=0, start=0, first_frame=0, frames_per_second=20.0,
                frame_size=(48, 64), buttons=("KeyW",))
recorder = Recorder(Path(sys.argv[1]), header)
noise = np.random.default_rng(0)
began = time.monotonic()
for i in range(100_000):
    time.sleep(max(0, began + i / 20 - time.monotonic()))
    recorder.write(noise.integers(0, 255, (48, 64, 3), np.uint8), FrameRow(index=i, time=i / 20))
"""


def kill(trial: int) -> tuple[int, int]:
    """Kill a recording process; returns rows and frames that are left of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.jsonl"
        process = subprocess.Popen([sys.executable, "-c", RECORD, str(path.with_suffix(""))])
        try:
            _wait_for_rows(path, ROWS + trial % 20)
        finally:
            process.kill()
            process.wait()
        rows = len(read_recording(path)[1])
        shown = sum(1 for _ in read_video(path.with_suffix(".mp4")))
        if shown < rows - RATE - 2:
            raise SelftestError(f"a killed recording has {rows} rows and shows {shown} frames")
        _cut(path, trial)
    return rows, shown


def _cut(path: Path, trial: int) -> None:
    """End both files anywhere; what is there must still be read, with or without zeros behind."""
    chance = random.Random(trial)
    lines, video = path.read_bytes(), path.with_suffix(".mp4").read_bytes()
    first = lines.index(b"\n") + 1
    for _ in range(10):
        end = chance.randint(first, len(lines))
        path.write_bytes(lines[:end] + bytes(chance.choice((0, 512))))
        whole = lines[:end].count(b"\n") - 1
        if len(read_recording(path)[1]) not in (whole, whole + 1):
            raise SelftestError(f"of {whole} whole rows some are lost")
        end = chance.randint(0, len(video))
        path.with_suffix(".mp4").write_bytes(video[:end] + bytes(chance.choice((0, 4096))))
        for _ in read_video(path.with_suffix(".mp4")):
            pass


def _wait_for_rows(path: Path, count: int) -> None:
    ends = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        if time.monotonic() > ends:
            raise SelftestError("a process that records does not get on")
        time.sleep(0.02)
