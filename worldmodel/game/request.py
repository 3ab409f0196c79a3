"""What the command line asks for, checked before anything slow begins.

That is also which saved moment play begins with, and what is offered after a broken session.
"""

import argparse
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from worldmodel.action import Action
from worldmodel.config import UserError, build_config
from worldmodel.game.choice import Choice
from worldmodel.game.controls import load_controls
from worldmodel.game.input import Taken
from worldmodel.game.jumps import Elsewhere
from worldmodel.game.messages import say
from worldmodel.game.policy import MakePolicy
from worldmodel.game.recording_control import Place
from worldmodel.game.reference_start import REAL, record_reference_start
from worldmodel.game.replay import Replay
from worldmodel.players import (
    Player,
    RandomPlayer,
    ScriptedPlayer,
    load_code,
    load_script,
    load_timeline,
)
from worldmodel.reference.game import OpenReal
from worldmodel.storage.files import is_file
from worldmodel.storage.moments import Moment, MomentEntry, ago, list_moments, load_moment, new_name
from worldmodel.system.limits import MOST_FOREIGN_STEPS
from worldmodel.system.paths import Pathlike, to_path
from worldmodel.world import Spot, World
from worldmodel.worlds.find import Recorded, find_start_of, find_world_of, is_world


class Request:
    """The options, and what the files that they name hold."""

    def __init__(self, options: argparse.Namespace, open_real: OpenReal | None) -> None:
        self.options, self._open_real = options, open_real
        self._refuse_what_means_nothing()
        self.replay = Replay.read(options.replay) if options.replay else None
        self.spot = self._read_spot()
        self.moment = self._read_moment()
        if options.controls:
            load_controls(options.controls)  # a mistake in it is told at once, window or not
        self.policy: MakePolicy | None = None
        self.script = self._read_script()
        self.timeline = load_timeline(options.prompts) if options.prompts else ()
        self.choice = self._choose()
        self.place = Place.of(options.record or "")

    def options_for(self, place: Elsewhere) -> argparse.Namespace:
        """What is asked for afterwards; nothing that belonged to the first world is taken along."""
        own: dict[str, Any] = {
            "replay": None,
            "record": None,
            "frames": None,
            "start": "0",
            "player": "human",
        }
        own |= {"side_by_side": False, "prompt": None, "prompts": None, "at": None}
        load = str(place.load) if place.load else None
        return argparse.Namespace(
            **{**vars(self.options), **own, "world": place.world, "load": load}
        )

    @property
    def is_human(self) -> bool:
        """Whether a person plays."""
        return self.options.player == "human" and self.replay is None

    @property
    def is_silent(self) -> bool:
        """Whether a person plays and nothing was said about what."""
        options = self.options
        said = [options.world, options.load, options.replay, options.record]
        said += [options.frames, options.at]
        return self.is_human and all(one is None for one in said) and options.start == "0"

    @property
    def stand_in(self) -> str:
        """Who plays where there is no window for a person."""
        return f"the {'random' if self.is_human else self.options.player} player"

    def frames(self) -> int | None:
        """How many are played, the start not counted; None: until the player leaves."""
        if self.options.frames is not None:
            return int(self.options.frames)
        if self.replay:
            return len(self.replay.rows) - 1
        return None if self.script is None else len(self.script)

    def start(self, world: World) -> int:
        """The number of the start in this world."""
        wanted = self._start_number or 0
        if self.replay:
            wanted = self.replay.header.start
        if wanted >= len(world.starts):
            starts = "; ".join(f"{i} {caption}" for i, caption in enumerate(world.starts))
            raise UserError(f"--start {wanted}: {world.name} has the starts {starts}")
        return wanted

    def _refuse_what_means_nothing(self) -> None:
        """A flag that another one leaves nothing to do for is told, not ignored."""
        options = self.options
        for name in ("fullscreen", "scale", "no_hud", "sync") if options.headless else ():
            if getattr(options, name):
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"--headless and {flag}: there is no window; leave one of them out")
        begins = {"start": options.start != "0"}
        replays = begins | {"seed": options.seed != 0, "player": options.player != "human"}
        for other, known in (("load", begins), ("replay", replays)):
            for name, is_said in known.items():
                if is_said and getattr(options, other) is not None:
                    what = "moment" if other == "load" else "recording"
                    raise UserError(
                        f"--{other} and --{name}: the {what} says which; leave one of them out"
                    )
        is_recorded = options.record is not None or not options.replay or not options.headless
        for name in ("show_keys", "side_by_side"):
            if getattr(options, name) and not is_recorded:
                raise UserError(f"--{name.replace('_', '-')} is of a clip: add --record")

    def _read_spot(self) -> Spot | None:
        """The place to begin at; nothing else may say where that is."""
        spot: Spot | None = self.options.at
        taken = [name for name in ("load", "replay") if getattr(self.options, name) is not None]
        taken += ["start"] * (self.options.start != "0") + [
            "side_by_side"
        ] * self.options.side_by_side
        if spot and "side_by_side" in taken[:1]:
            raise UserError(
                "--at and --side-by-side: the real game begins at its starts, not anywhere"
            )
        if spot and taken:
            raise UserError(f"--at and --{taken[0]}: each says where play begins; give one")
        return spot

    def player(self, world: World) -> Callable[[int], Taken]:
        """Who plays where no person does."""
        if self.replay:
            return self.replay.take
        player: Player = ScriptedPlayer(self.script or ())
        if self.script is None and self.options.player != "idle":
            player = RandomPlayer(world.actions, self.options.seed)
        return lambda index: Taken(player.act(index), None)

    def _read_script(self) -> list[Action] | None:
        if self.replay:
            return None
        who = self.options.player
        if who in ("human", "idle", "random"):
            return None
        if ":" in who and not _is_file(who):
            self.policy = load_code(who, allow_code=self.options.allow_code)
            return None
        if not _is_file(who):
            raise UserError(f"--player {who}: no such file; choose human, idle, random or a file")
        return load_script(to_path(who))

    def _read_moment(self) -> Moment | None:
        """The moment to begin with; where none was asked for, a broken session is offered."""
        options = self.options
        if options.load is None:
            if self.replay:
                return self.replay.moment
            if self.is_human:
                offer_broken_sessions()
            return None
        if options.replay:
            raise UserError("--load and --replay: one of them; a replay begins at its own start")
        return choose_moment(options.load, options.world)

    def _choose(self) -> Choice:
        """The world to open: of the command line, of the recording where that says nothing."""
        options = self.options
        start = None if self._start_number is not None else options.start
        if start == REAL:
            start = str(self._begin_real_episode())
        if start is not None and not _is_file(start):
            raise UserError(f"--start {start}: neither a number nor a file")
        said = {field.name: getattr(options, field.name) for field in fields(Choice)}
        asked = Choice(**{**said, "world": _whole(options.world), "start": start})
        if self.replay:
            return self._as_recorded(asked, self.replay.header, self.replay.path)
        if self.moment:
            near = to_path(options.load or ".")
            chosen = self._as_recorded(asked, self.moment.header, near)
            is_gone = chosen.start is not None and not _is_file(chosen.start)
            return replace(chosen, start=None) if is_gone else chosen  # which it does not need
        return asked

    def _as_recorded(self, asked: Choice, header: Recorded, near: Path) -> Choice:
        """What was not asked for is as it was then; files are looked for where they may be now."""
        chosen = _fill(asked, header.settings, f"{near}: settings")
        if asked.world is None:
            chosen = replace(chosen, world=find_world_of(header, near))
        if asked.start is None and chosen.start:
            chosen = replace(chosen, start=find_start_of(str(chosen.start), near))
        return chosen

    def _begin_real_episode(self) -> Path:
        """A start of its own: the first seconds of a fresh episode of the real game."""
        if self._open_real is None:
            raise UserError(f"--start {REAL}: no real game can be started here")
        return record_reference_start(self.options.world, self.options.seed, self._open_real)

    @property
    def _start_number(self) -> int | None:
        text = self.options.start
        return int(text) if text.isdecimal() and len(text) < 10 else None


def _fill(asked: Choice, settings: Mapping[str, Any], where: str) -> Choice:
    """What was not asked for is as it was then."""
    unasked = {k for k, v in asdict(Choice()).items() if v == getattr(asked, k)}
    recorded = {key: value for key, value in settings.items() if key in unasked}
    steps = build_config(Choice, recorded, where).steps
    if steps > MOST_FOREIGN_STEPS:
        raise UserError(
            f"{where} ask for {steps} denoising steps a frame, above {MOST_FOREIGN_STEPS}; "
            f"if that is meant, say --steps {steps}"
        )
    return replace(asked, **recorded)


def _whole(world: str | None) -> str | None:
    """A world's name, or its folder from the root on: a recording is replayed from elsewhere."""
    return world if world is None or not is_world(to_path(world)) else str(to_path(world).resolve())


def _is_file(text: Pathlike) -> bool:
    return is_file(to_path(text))


def offer_broken_sessions() -> None:
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


def choose_moment(wanted: str, world: str | None) -> Moment:
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
