"""Playing without a window: the same turns, as fast as the world goes.

Nothing depends on how fast that is: the clip's frames are spaced as the world's rate says, so the
same seed and player give the same files wherever the world computes the same numbers.
"""

import statistics
import sys
import time
from dataclasses import dataclass, replace

from worldmodel.game.fps_meter import Meter, PlaySpeed
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.game.recording_control import RecordingControl
from worldmodel.game.replay import Replay
from worldmodel.system.printable import counted, printable
from worldmodel.system.progress import through
from worldmodel.world import Split


@dataclass(frozen=True, slots=True)
class HeadlessSpeed:
    """What a session without a window shows about speed."""

    frames: int
    speed: PlaySpeed
    split: Split  # medians

    def __str__(self) -> str:
        speed, split = self.speed, self.split
        if speed.latency_p50_ms is None or speed.latency_p95_ms is None:
            return counted(self.frames, "frame")
        return (
            f"{counted(self.frames, 'frame')}, {speed.frames_per_second or 0:.1f} fps; action to "
            f"frame p50 {speed.latency_p50_ms:.1f} ms, p95 {speed.latency_p95_ms:.1f} ms (nothing "
            f"was displayed); denoise {split.denoise:.1f} + decode {split.decode:.1f} + "
            f"clean pass {split.clean:.1f} ms"
        )


def play_headless(
    session: Session, frames: int, recording_control: RecordingControl, replay: Replay | None = None
) -> HeadlessSpeed:
    """Play `frames` frames after the start frame."""
    meter, splits = Meter(recent=None), []
    _keep(session, session.begin(), recording_control, replay)
    meter.add(time.perf_counter(), None)
    for _ in through(range(frames), unit="frame"):
        time.sleep(session.seconds_to_wait() or 0)
        step = session.advance()
        assert step is not None  # only commands can make no frame
        session.remember()
        _keep(session, step, recording_control, replay)
        meter.add(time.perf_counter(), 1000 * (step.ready_time - step.sampled_time))
        splits.append(session.world.split)
    return HeadlessSpeed(frames, meter.speed(), _median(splits))


def _keep(
    session: Session, step: PlayedFrame, recording_control: RecordingControl, replay: Replay | None
) -> None:
    if step.notice:
        sys.stderr.write(f"{printable(step.notice)}\n")
    spaced = replace(step, time=step.count / session.world.frames_per_second)
    recording_control.show(session, spaced, None)
    if replay:
        replay.check(step)


def _median(splits: list[Split]) -> Split:
    if not splits:
        return Split()
    return Split(
        statistics.median(split.denoise for split in splits),
        statistics.median(split.decode for split in splits),
        statistics.median(split.clean for split in splits),
    )
