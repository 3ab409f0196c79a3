"""What a turn of a session gives: one frame and how it came about."""

from dataclasses import dataclass

from worldmodel.action import Action
from worldmodel.game.timeline import TimelineEntry
from worldmodel.world import Frame, Split


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayedFrame:
    """One frame, the action that led to it and when that happened."""

    segment: int  # counts beginnings: restarts, changes of start, loaded moments
    start: int
    seed: int
    index: int  # 0 is the start frame, which no action led to
    action: Action  # the part that the world understood
    frame: Frame
    event_time: float | None  # oldest input event in the action; time.perf_counter
    sampled_time: float  # when the action was taken
    ready_time: float  # when the frame was made
    time: float  # seconds of play since the segment began, pauses left out
    split: Split  # clean is that of the frame before
    count: int  # frames made in this segment up to this one
    past: TimelineEntry  # the world as this frame found it; of a segment's first frame, its own
    back_to: int | None = None  # the frame before this one, if play went back to it
    is_past: bool = False  # seen again while going back, not made
    notice: str = ""  # what the world tells the player
    waiting: str = ""  # what the world gets ready for
    state: tuple[float, ...] | None = None  # what the world knows of the frame, NaN: not known
