"""Recordings that tests write."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import IDLE, Action
from worldmodel.state_spec import StateNumber, StateSpec
from worldmodel.storage.recording import FrameRow, Header, Recorder

HEADER = Header(
    settings={"world": None},
    identity={"sha256": "0"},
    seed=7,
    start=1,
    first_frame=0,
    frames_per_second=20.0,
    frame_size=(48, 64),
    buttons=("KeyW", "KeyA"),
)


def frames(count: int) -> NDArray[np.uint8]:
    """A bright square that moves over a dark gradient."""
    y, x = np.mgrid[:48, :64]
    clip = np.stack([np.stack([x, y + 20, x + y], axis=-1)] * count)
    for i in range(count):
        clip[i, 10:20, i : i + 10] = (220, 160, 40)
    return clip.astype(np.uint8)


def actions(count: int) -> list[Action]:
    return [IDLE, *(Action(frozenset({"KeyW"}), (i * 0.1, 0.0)) for i in range(1, count))]


def times(count: int) -> list[float]:
    return [0.05 * i + 0.013 * (i % 3) for i in range(count)]  # as uneven as play is


SPEC = StateSpec(
    {"x": StateNumber(kind="position", unit="m", high=100.0), "dead": StateNumber(kind="flag")}
)


def record(name: Path, count: int = 30) -> Path:
    recorder = Recorder(name, HEADER)
    for i, (frame, action, now) in enumerate(
        zip(frames(count), actions(count), times(count), strict=True)
    ):
        recorder.write(frame, FrameRow(index=i, time=now, action=action, latency_ms=12.5))
    recorder.finish()
    recorder.wait()
    return recorder.rows_path
