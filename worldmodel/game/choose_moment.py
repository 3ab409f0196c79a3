"""Which saved moment play begins with, and what is offered after a session that was interrupted."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from worldmodel.config import UserError
from worldmodel.storage.moments import Moment, MomentEntry, ago, list_moments, load_moment, new_name
from worldmodel.system.paths import to_path

Say = Callable[[str], None]


def offer_broken_sessions(say: Say) -> None:
    """One line about the newest session that ended without saying so, if there is one."""
    broken: list[MomentEntry] = []
    with contextlib.suppress(UserError):  # no folder is known here: nothing was kept either
        broken = [kept for kept in list_moments() if kept.is_autosave]
    if broken:
        header = broken[0].header
        say(
            f"a session in {header.world} broke off {ago(header.saved_at)}, at frame "
            f"{header.index}: --load {broken[0].path} goes on from there"
        )


def choose_moment(wanted: str, world: str | None, say: Say) -> Moment:
    """The moment in a file, or the newest one there is (of a world, if one is named)."""
    if wanted:
        return load_moment(to_path(wanted))
    name = Path(world).name if world else None
    kept = list_moments(name)
    if not kept:
        raise UserError(f"--load: nothing is saved{f' of {name}' if name else ''} yet, F5 saves")
    moment = load_moment(kept[0].path)
    path = _adopt(kept[0])
    say(f"going on from frame {moment.header.index} in {moment.header.world}: {path}")
    return moment


def _adopt(kept: MomentEntry) -> Path:
    """A broken session's last moment becomes a saved one: it is offered once and stays."""
    if not kept.is_autosave:
        return kept.path
    path = new_name(kept.path.parent)
    with contextlib.suppress(OSError):
        kept.path.replace(path)
        kept.path.with_suffix(".lock").unlink(missing_ok=True)
        return path
    return kept.path
