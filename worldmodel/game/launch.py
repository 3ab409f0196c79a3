"""From the command line to a played world: who plays, what is recorded, window or none."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from worldmodel.action import Action
from worldmodel.config import UserError, build_config
from worldmodel.files import plain
from worldmodel.game.beside import Beside, origin_of, way_to_start
from worldmodel.game.beside_clip import keep_beside
from worldmodel.game.camera import Camera, Place
from worldmodel.game.cli import Choice, OpenWorld
from worldmodel.game.clip import draw_keys
from worldmodel.game.controls import describe, load_controls
from worldmodel.game.fresh import REAL, record_fresh
from worldmodel.game.generator import FrameSource, Generator, InLine
from worldmodel.game.headless import play_headless
from worldmodel.game.input import Input, Taken
from worldmodel.game.keeper import Keeper
from worldmodel.game.loop import Game
from worldmodel.game.menu.menu import Menu
from worldmodel.game.menu.shelf import Shelf
from worldmodel.game.moments import choose_moment, offer_broken_sessions
from worldmodel.game.orders import Elsewhere
from worldmodel.game.policy import MakePolicy, PolicyPlayer
from worldmodel.game.replay import Replay
from worldmodel.game.session import Keeping, Session, Take
from worldmodel.game.settings import Preferences
from worldmodel.game.speeds import remember_speed
from worldmodel.game.window import NoDisplayError, Window, announce
from worldmodel.moments import ENDING, Moment, last_sessions_folder, save_moment
from worldmodel.players import (
    Player,
    RandomPlayer,
    ScriptedPlayer,
    load_code,
    load_script,
    load_timeline,
    said_during,
)
from worldmodel.real import OpenReal
from worldmodel.world import World
from worldmodel.worlds.find import find_world

HEADLESS_FRAMES = 300
WORTH_KEEPING = 60  # frames: of a shorter session neither its end nor its speed


def launch(
    options: argparse.Namespace, open_world: OpenWorld, open_real: OpenReal | None = None
) -> int:
    """Play as the options say; returns the exit code."""
    game = Launch(options, open_world, open_real)
    if options.headless:
        return game.play_headless()
    if not has_display():
        say(f"no display here: {game.stand_in} plays a short session instead")
        return game.play_headless()
    preferences = read_preferences(options)
    try:
        is_fullscreen = preferences.settings.fullscreen
        window = Window(options.world or "worldmodel", is_fullscreen=is_fullscreen)
    except NoDisplayError as error:
        say(f"{error}: {game.stand_in} plays a short session instead")
        return game.play_headless()
    with window:
        return play_on(game, window, preferences)


def play_on(game: "Launch", window: Window, preferences: Preferences) -> int:
    """One world after the other, as the player chooses; what cannot be opened leads back."""
    before: Launch | None = None
    while True:
        try:
            code = game.play_in(window, preferences)
        except UserError as error:
            if before is None:  # nothing to go back to
                raise
            game, before = before.again(str(error)), None
            continue
        if game.elsewhere is None:
            return code
        try:
            game, before = game.then(game.elsewhere), game
        except UserError as error:
            game, before = game.again(str(error)), None


def read_preferences(options: argparse.Namespace) -> Preferences:
    """The user's files, and what the command line overrules for this time."""
    preferences = Preferences.read(options.controls)
    if options.no_hud:
        preferences.overrule(numbers=False)
    if options.fullscreen:
        preferences.overrule(fullscreen=True)
    return preferences


class Launch:
    """The options, checked before anything slow begins."""

    def __init__(
        self, options: argparse.Namespace, open_world: OpenWorld, open_real: OpenReal | None
    ) -> None:
        self.options, self._open_world, self._open_real = options, open_world, open_real
        self._world: World | None = None  # once it is loaded
        self.replay = Replay.read(options.replay) if options.replay else None
        self.moment = self._read_moment()
        if options.controls:
            load_controls(options.controls)  # a mistake in it is told at once, window or not
        self.elsewhere: Elsewhere | None = None  # what the player wants after this
        self._problem = ""  # why the world that was chosen could not be opened
        self._is_first = True
        self.policy: MakePolicy | None = None
        self.script = self._read_script()
        self.rewind_megabytes: int = options.rewind_megabytes
        self.timeline = load_timeline(options.prompts) if options.prompts else ()
        self.choice = self._choose()
        self.place = Place.of(options.record or "")

    def then(self, place: Elsewhere) -> "Launch":
        """What is played after this; nothing that belonged to the first world is taken along."""
        own: dict[str, Any] = {
            "replay": None,
            "record": None,
            "frames": None,
            "start": "0",
            "player": "human",
        }
        own |= {"beside": False, "prompt": None, "prompts": None}
        load = str(place.load) if place.load else None
        options = {**vars(self.options), **own, "world": place.world, "load": load}
        launch = Launch(argparse.Namespace(**options), self._open_world, self._open_real)
        launch._is_first = False
        return launch

    def again(self, problem: str) -> "Launch":
        """The same world, with the menu in front that says what went wrong."""
        launch = self.then(Elsewhere(self.options.world))
        launch._problem = problem
        return launch

    def play_in(self, window: Window, preferences: Preferences) -> int:
        """A session in a window."""
        options, devices = self.options, Input(preferences.controls)
        rolls = options.record is not None
        camera = self._camera(lambda text: _tell(window, text), rolls=rolls)
        keeper = Keeper() if self.is_human else None
        shelf = Shelf(self._folder())
        menu = Menu(preferences, shelf, lambda: game.adopt(preferences))
        window.menu, window.overlay.caption = menu, "loading"
        beside = Beside(self._open_real, lambda text: _tell(window, text), begins=options.beside)
        game = Game(
            self._source(devices, keeper),
            window,
            devices,
            camera,
            is_human=self.is_human,
            replay=self.replay,
            keeper=keeper,
            beside=beside,
            frames=self._frames(),
            scale=options.scale,
            menu=menu,
        )
        window.adopt(preferences.settings)
        try:
            if self._problem or self.has_start_screen(preferences):
                game.open_menu(is_start=True)
                menu.say(self._problem)
            window.show_loading()
            game.play()
        except BaseException:
            self._end(keeper, game.source.session, camera)
            raise
        finally:
            shelf.close()
            beside.close()
        self.elsewhere = game.elsewhere
        if self.is_human and game.source.session:
            keep_last_session(game.source.session)
        self._end(keeper, None, camera, keeps_both=beside.was_on)
        speed = game.whole.speed()
        if speed.frames_per_second and game.source.session and game.shown > WORTH_KEEPING:
            remember_speed(game.source.session.world.name, speed.frames_per_second)
        if speed.frames_per_second:
            p50, p95 = speed.latency_p50_ms, speed.latency_p95_ms
            latency = f"; input to frame p50 {p50:.0f} ms, p95 {p95:.0f} ms" if p50 and p95 else ""
            say(f"{speed.frames_per_second:.1f} fps{latency}")
        return self._verdict(camera)

    def play_headless(self) -> int:
        """A session without a window."""
        frames = self._frames()
        rolls = self.options.record is not None or self.replay is None
        camera = self._camera(say, rolls=rolls)
        try:
            session = self._open_session(self._script_player, rate=self.options.fps or 0.0)
            if self.options.beside:
                way_to_start(session)  # says now why not
            frames = HEADLESS_FRAMES if frames is None else frames
            say(str(play_headless(session, frames, camera, self.replay)))
        finally:
            self._close(camera, keeps_both=self.options.beside)
        return self._verdict(camera)

    def has_start_screen(self, preferences: Preferences) -> bool:
        """Where nothing was said about what to play, a person is asked, the world loading."""
        options = self.options
        said = (options.world, options.load, options.replay, options.record, options.frames)
        is_silent = all(one is None for one in said) and options.start == "0"
        return self.is_human and self._is_first and is_silent and preferences.settings.start_screen

    def _folder(self) -> Path | None:
        """Of the world that is opened, if it can be found."""
        with contextlib.suppress(UserError):
            return find_world(self.choice.world)
        return None

    @property
    def is_human(self) -> bool:
        """Whether a person plays."""
        return self.options.player == "human" and self.replay is None

    @property
    def stand_in(self) -> str:
        """Who plays where there is no window for a person."""
        return f"the {'random' if self.is_human else self.options.player} player"

    def _source(self, devices: Input, keeper: Keeper | None) -> FrameSource:
        def player_for(world: World) -> Callable[[int], Taken]:
            if not self.is_human:
                return self._script_player(world)
            return lambda _: devices.take()

        def open_session() -> Session:
            session = self._open_session(player_for, rate=self.options.fps, keeper=keeper)
            if self.is_human:
                for keys, meaning in describe(session.world.actions, devices.controls):
                    say(f"  {keys:16} {meaning}")
            return session

        return InLine(open_session) if self.options.sync else Generator(open_session, announce)

    def _open_session(
        self,
        player_for: Callable[[World], Callable[[int], Taken]],
        rate: float | None,
        keeper: Keeper | None = None,
    ) -> Session:
        """Load the world; `rate` None is the world's own."""
        world = self._world = self._open_world(self.choice)
        start, seed = self._start(world), self.options.seed
        if self.replay:
            seed = self.replay.header.seed
        rate = world.frames_per_second if rate is None else rate
        if not world.actions.prompts and (self.choice.prompt is not None or self.timeline):
            raise UserError(f"--prompt, --prompts: {world.name} takes no words")
        session = Session(
            world,
            self._with_timeline(player_for(world), world.frames_per_second),
            start=start,
            seed=seed,
            rate=rate,
            keeping=Keeping(
                settings=asdict(self.choice), keeper=keeper, megabytes=self.rewind_megabytes
            ),
            moment=self.moment,
        )
        if self.policy:
            session.take = PolicyPlayer(self.policy, session).take
        _introduce(session)
        if self.replay and (difference := self.replay.compare_settings(session.identity)):
            say(difference)
        return session

    def _with_timeline(self, take: Take, rate: float) -> Take:
        """What the player does, and what the timeline says in that frame."""

        def both(index: int) -> Taken:
            taken = take(index)
            said = said_during(self.timeline, index, rate)
            return taken._replace(action=replace(taken.action, prompt=said)) if said else taken

        return both if self.timeline else take

    def _script_player(self, world: World) -> Callable[[int], Taken]:
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
        return load_script(Path(who))

    def _choose(self) -> Choice:
        """The world to open: of the command line, of the recording where that says nothing."""
        options = self.options
        start = None if self._start_number is not None else options.start
        if start == REAL:
            start = str(self._begin_real_episode())
        if start is not None and not _is_file(start):
            raise UserError(f"--start {start}: neither a number nor a file")
        asked = Choice(
            world=options.world,
            steps=options.steps,
            device=options.device,
            dtype=options.dtype,
            engine=options.engine,
            compile=options.compile,
            threads=options.threads,
            start=start,
            prompt=options.prompt,
        )
        if self.replay:
            where = f"{self.replay.path}: settings"
            return _fill(asked, self.replay.header.settings, where)
        if self.moment:
            settings = dict(self.moment.header.settings)
            if not _is_file(str(settings.get("start"))):
                settings.pop("start", None)  # an image that has gone; the moment does not need it
            return _fill(asked, settings, "the moment's settings")
        return asked

    def _begin_real_episode(self) -> Path:
        """A start of its own: the first seconds of a fresh episode of the real game."""
        if self._open_real is None:
            raise UserError(f"--start {REAL}: no real game can be started here")
        return record_fresh(self.options.world, self.options.seed, self._open_real)

    @property
    def _start_number(self) -> int | None:
        text = self.options.start
        return int(text) if text.isdecimal() and len(text) < 10 else None

    def _start(self, world: World) -> int:
        wanted = self._start_number or 0
        if self.replay:
            wanted = self.replay.header.start
        if wanted >= len(world.starts):
            starts = "; ".join(f"{i} {caption}" for i, caption in enumerate(world.starts))
            raise UserError(f"--start {wanted}: {world.name} has the starts {starts}")
        return wanted

    def _frames(self) -> int | None:
        if self.options.frames is not None:
            return int(self.options.frames)
        if self.replay:
            return len(self.replay.rows) - 1
        return None if self.script is None else len(self.script)

    def _camera(self, tell: Callable[[str], None], *, rolls: bool) -> Camera:
        if rolls:
            self.place.check_writable()
        camera = Camera(self.place, tell)
        camera.is_rolling = rolls
        return camera

    def _read_moment(self) -> Moment | None:
        """The moment to begin with; where none was asked for, a broken session is offered."""
        options = self.options
        if options.load is None:
            if self.replay:
                return self.replay.moment
            if self.is_human:
                offer_broken_sessions(say)
            return None
        if options.replay:
            raise UserError("--load and --replay: one of them; a replay begins at its own start")
        return choose_moment(options.load, options.world, say)

    def _end(
        self,
        keeper: Keeper | None,
        broken: Session | None,
        camera: Camera,
        *,
        keeps_both: bool = False,
    ) -> None:
        """Everything gets to disk; of a broken session also the last good moment."""
        try:
            if keeper:
                keeper.close(broken.moment() if broken and broken.segment else None)
                for text in keeper.notices():
                    say(text)
        finally:
            self._close(camera, keeps_both=keeps_both)

    def _close(self, camera: Camera, *, keeps_both: bool) -> None:
        camera.close()
        for clip in camera.clips:
            say(f"{clip}")
            if self.options.show_keys:
                say(f"{draw_keys(clip)}")
            if keeps_both:
                self._keep_both(clip)

    def _keep_both(self, clip: Path) -> None:
        """The recording beside the real game; it stays as good if that cannot be."""
        if self._open_real is None or self._world is None:
            return
        try:
            say(str(keep_beside(clip, origin_of(self._world), self._open_real)))
        except UserError as error:
            say(f"{clip}: not shown beside the real game: {error}")

    def _verdict(self, camera: Camera) -> int:
        if self.replay:
            say(self.replay.verdict())
        if camera.failure:
            raise camera.failure
        return 1 if self.replay and self.replay.first_different is not None else 0


def keep_last_session(session: Session) -> None:
    """Where a session ended, for the start screen; not worth a word if the disk refuses."""
    if session.segment and session.index > WORTH_KEEPING:
        folder = last_sessions_folder() / plain(session.world.name)
        with contextlib.suppress(UserError):
            save_moment(folder / f"last{ENDING}", session.moment())


def has_display() -> bool:
    """Whether a window can be hoped for; only Linux tells beforehand."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in named)


def say(text: str) -> None:
    """A line for the person at the terminal."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _tell(window: Window, text: str) -> None:
    window.note(text, seconds=8.0)
    say(text)


def _fill(asked: Choice, settings: Mapping[str, Any], where: str) -> Choice:
    """What was not asked for is as it was then."""
    default, known = asdict(Choice()), asdict(asked)
    table = {key: value for key, value in settings.items() if key in known}
    recorded = asdict(build_config(Choice, table, where))
    return replace(asked, **{k: v for k, v in recorded.items() if known[k] == default[k]})


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # longer than any name
        return False


def _introduce(session: Session) -> None:
    """Say what is played, and on what."""
    world = session.world
    rows, columns = world.frame_size
    size = f"{columns} x {rows}, {world.frames_per_second:g} frames/s"
    say(f"{world.name}: {size}; on {session.running_on}")
