"""How a game ends: everything gets to disk, and what there is to say is said."""

import contextlib
from pathlib import Path

from worldmodel.config import UserError
from worldmodel.game.clip_with_keys import draw_keys
from worldmodel.game.fps_meter import PlaySpeed
from worldmodel.game.known_speeds import remember_speed
from worldmodel.game.messages import say
from worldmodel.game.play_session import Session
from worldmodel.game.recording_control import RecordingControl
from worldmodel.game.reference_play import origin_of
from worldmodel.game.save_worker import SaveWorker
from worldmodel.game.side_by_side_clip import keep_beside
from worldmodel.reference.game import OpenReal
from worldmodel.storage.files import plain
from worldmodel.storage.moments import ENDING, last_sessions_folder, save_moment
from worldmodel.world import World

WORTH_KEEPING = 60  # frames: of a shorter session neither its end nor its speed


def close_keeper(keeper: SaveWorker | None, broken: Session | None) -> None:
    """What is on its way to disk gets there; of a broken session also the last good moment."""
    if keeper:
        keeper.close(broken.moment() if broken and broken.segment else None)
        for text in keeper.notices():
            say(text)


def close_camera(camera: RecordingControl, *, shows_keys: bool) -> None:
    """Recordings end, and their names are said."""
    camera.close()
    for clip in camera.clips:
        say(f"{clip}")
        if shows_keys:
            say(f"{draw_keys(clip)}")


def keep_beside_game(clips: list[Path], world: World | None, open_real: OpenReal | None) -> None:
    """Recordings beside the real game; they stay as good where that cannot be."""
    if open_real is None or world is None:
        return
    for clip in clips:
        say(_keep_beside(clip, world, open_real))


def _keep_beside(clip: Path, world: World, open_real: OpenReal) -> str:
    try:
        return str(keep_beside(clip, origin_of(world), open_real))
    except UserError as error:
        return f"{clip}: not shown beside the real game: {error}"


def keep_last_session(session: Session) -> None:
    """Where a session ended, for the start screen; not worth a word if the disk refuses."""
    if session.segment and session.index > WORTH_KEEPING:
        with contextlib.suppress(UserError):
            folder = last_sessions_folder() / plain(session.world.name)
            save_moment(folder / f"last{ENDING}", session.moment())


def tell_speed(speed: PlaySpeed, session: Session | None, shown: int) -> None:
    """The whole session's frame rate and latency, remembered where there was enough of it."""
    if not speed.frames_per_second:
        return
    if session and shown > WORTH_KEEPING:
        remember_speed(session.world.name, speed.frames_per_second)
    p50, p95 = speed.latency_p50_ms, speed.latency_p95_ms
    latency = f"; input to frame p50 {p50:.0f} ms, p95 {p95:.0f} ms" if p50 and p95 else ""
    say(f"{speed.frames_per_second:.1f} fps{latency}")
