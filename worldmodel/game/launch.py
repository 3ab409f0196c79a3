"""What the flags ask for, brought together: who plays, what is recorded, window or none."""

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from worldmodel.config import UserError
from worldmodel.game.choice import OpenWorld
from worldmodel.game.clip_with_keys import draw_keys
from worldmodel.game.controls import describe
from worldmodel.game.fps_meter import PlaySpeed
from worldmodel.game.generator import FrameSource, Generator, InLine
from worldmodel.game.headless import play_headless
from worldmodel.game.input import Input, Taken
from worldmodel.game.jumps import Elsewhere
from worldmodel.game.known_speeds import remember_speed
from worldmodel.game.loop import Game
from worldmodel.game.menu.library import Library
from worldmodel.game.menu.menu import Menu
from worldmodel.game.messages import introduce, say, tell
from worldmodel.game.play_session import Keeping, Session, Take
from worldmodel.game.policy import PolicyPlayer
from worldmodel.game.preferences import Preferences
from worldmodel.game.recording_control import RecordingControl
from worldmodel.game.reference_play import SideBySide, origin_of, trajectory_to_start
from worldmodel.game.request import Request
from worldmodel.game.save_worker import SaveWorker
from worldmodel.game.side_by_side_clip import keep_side_by_side
from worldmodel.game.window import Window, announce
from worldmodel.players import said_during
from worldmodel.reference.game import OpenReal
from worldmodel.storage.files import plain
from worldmodel.storage.moments import ENDING, last_sessions_folder, save_moment
from worldmodel.system.signals import ended_by_signals
from worldmodel.world import PreparesWords, World
from worldmodel.worlds.find import find_world, is_shipped, read_any_world
from worldmodel.worlds.known_folders import remember_folder

HEADLESS_FRAMES = 300
WORTH_KEEPING = 60  # frames: of a shorter session neither its end nor its speed
PlayerFor = Callable[[World], Take]  # who plays, once it is known what can be done


def read_preferences(options: argparse.Namespace) -> Preferences:
    """The user's files, and what the command line overrules for this time."""
    preferences = Preferences.read(options.controls)
    if options.no_hud:
        preferences.overrule(numbers=False)
    if options.fullscreen:
        preferences.overrule(fullscreen=True)
    return preferences


class Launch:
    """Brings together what a request needs, plays it, and puts everything on disk."""

    def __init__(
        self, options: argparse.Namespace, open_world: OpenWorld, open_real: OpenReal | None
    ) -> None:
        self.options, self._open_world, self._open_real = options, open_world, open_real
        self.request = Request(options, open_real)
        self._world: World | None = None  # once it is loaded
        self._problem = ""  # why the world that was chosen could not be opened
        self._is_first = True

    def then(self, place: Elsewhere) -> "Launch":
        """What is played after this."""
        launch = Launch(self.request.options_for(place), self._open_world, self._open_real)
        launch._is_first = False
        return launch

    def again(self, problem: str) -> "Launch":
        """The same world, with the menu in front that says what went wrong."""
        launch = self.then(Elsewhere(self.options.world))
        launch._problem = problem
        return launch

    @contextlib.contextmanager
    def opened(self, window: Window, preferences: Preferences) -> Iterator[Game]:
        """A game in a window; however it ends, everything gets to disk."""
        game, menu = self._game(window, preferences)
        try:
            if self._problem or self.has_start_screen(preferences):
                game.open_menu(is_start=True)
                menu.say(self._problem)
            window.draw()
            yield game
        except BaseException:
            self._end(game, game.source.session)
            raise
        finally:
            menu.library.close()
            if game.side_by_side:
                game.side_by_side.close()
        session = game.source.session
        if self.request.is_human and session:
            keep_last_session(session)
        self._end(game, None)
        tell_speed(game.whole.speed(), session, game.shown)

    def _game(self, window: Window, preferences: Preferences) -> tuple[Game, Menu]:
        """What meets in the window's thread, and its menu."""
        options, request, devices = self.options, self.request, Input(preferences.controls)
        notify = functools.partial(tell, window)
        save_worker = SaveWorker() if request.is_human else None
        library = Library(self._folder())
        menu = Menu(preferences, library, lambda: game.adopt(preferences))
        window.menu, window.overlay.caption, menu.is_loading = menu, "loading", True
        game = Game(
            self._source(devices, save_worker),
            window,
            devices,
            self._recording_control(notify, rolls=options.record is not None),
            is_human=request.is_human,
            replay=request.replay,
            save_worker=save_worker,
            side_by_side=SideBySide(self._open_real, notify, begins=options.side_by_side),
            frames=request.frames(),
            scale=options.scale,
            menu=menu,
        )
        window.adopt(preferences.settings)
        if library.here and not options.sync:  # else nothing is heard before it is loaded
            with contextlib.suppress(UserError):  # said when it is opened
                file = read_any_world(library.here)
                window.overlay.caption = f"loading {file.name}"
                game.expect(file.actions)
        return game, menu

    def play_headless(self) -> int:
        """A session without a window."""
        request = self.request
        frames = request.frames()
        rolls = self.options.record is not None or request.replay is None
        control = self._recording_control(say, rolls=rolls)
        with ended_by_signals():  # from the first frame to the last one that is on disk
            try:
                session = self._open_session(request.player, rate=self.options.fps or 0.0)
                if self.options.side_by_side:
                    trajectory_to_start(session)  # says now why not
                frames = HEADLESS_FRAMES if frames is None else frames
                say(str(play_headless(session, frames, control, request.replay)))
            finally:
                self._close(control, keeps_both=self.options.side_by_side)
        return self.verdict(control)

    def has_start_screen(self, preferences: Preferences) -> bool:
        """Where nothing was said about what to play, a person is asked, the world loading."""
        is_asked = self.request.is_silent and self._is_first
        return is_asked and preferences.settings.start_screen

    def _folder(self) -> Path | None:
        """The folder of the world that is opened, if it can be found."""
        with contextlib.suppress(UserError):
            return find_world(self.request.choice.world)
        return None

    def _source(self, devices: Input, save_worker: SaveWorker | None) -> FrameSource:
        def player_for(world: World) -> Take:
            if not self.request.is_human:
                return self.request.player(world)
            return as_followed(world, lambda _: devices.take())

        def begin() -> Session:
            session = self._open_session(player_for, self.options.fps, save_worker)
            devices.discard()  # what was tapped while it loaded; what is held counts
            if self.request.is_human:
                for keys, meaning in describe(session.world.actions, devices.controls):
                    say(f"  {keys:16} {meaning}")
            return session

        return InLine(begin) if self.options.sync else Generator(begin, announce)

    def _open_session(
        self, player_for: PlayerFor, rate: float | None, save_worker: SaveWorker | None = None
    ) -> Session:
        """The world is opened, at its start or moment; `rate` None is the world's own."""
        request = self.request
        world = self._world = self._open_world(request.choice)
        if (folder := self._folder()) and not is_shipped(folder):
            remember_folder(folder)
        if not world.actions.prompts and (request.choice.prompt is not None or request.timeline):
            raise UserError(f"--prompt, --prompts: {world.name} takes no words")
        replay, megabytes = request.replay, request.options.rewind_megabytes
        session = Session(
            world,
            _with_timeline(request, player_for(world), world.frames_per_second),
            start=request.start(world),
            seed=replay.header.seed if replay else request.options.seed,
            rate=world.frames_per_second if rate is None else rate,
            keeping=Keeping(
                settings=request.choice.settings, save_worker=save_worker, megabytes=megabytes
            ),
            moment=request.moment,
            spot=request.spot,
        )
        if request.policy:
            session.take = PolicyPlayer(request.policy, session).take
        introduce(session)
        if replay and (difference := replay.compare_settings(session.identity)):
            say(difference)
        return session

    def _recording_control(self, notify: Callable[[str], None], *, rolls: bool) -> RecordingControl:
        if rolls:
            self.request.place.check_writable()
        control = RecordingControl(self.request.place, notify)
        control.is_rolling = rolls
        return control

    def _end(self, game: Game, broken: Session | None) -> None:
        """What is on its way gets to disk; of a broken session also the last good moment."""
        try:
            if game.save_worker:
                game.save_worker.close(broken.moment() if broken and broken.segment else None)
                for text in game.save_worker.notices():
                    say(text)
        finally:
            keeps_both = (
                broken is None and game.side_by_side is not None and game.side_by_side.was_on
            )
            self._close(game.recording_control, keeps_both=keeps_both)

    def _close(self, control: RecordingControl, *, keeps_both: bool) -> None:
        """Recordings end, and their names are said; beside the real game where that can be."""
        control.close()
        for clip in control.clips:
            say(f"{clip}")
            if self.options.show_keys:
                say(f"{draw_keys(clip)}")
            if keeps_both and self._open_real and self._world:
                say(_kept_side_by_side(clip, self._world, self._open_real))

    def verdict(self, control: RecordingControl) -> int:
        """The exit code: whether a replay's frames are those that were recorded."""
        if self.request.replay:
            say(self.request.replay.verdict())
        if control.failure:
            raise control.failure
        return 1 if self.request.replay and self.request.replay.first_different is not None else 0


def has_display() -> bool:
    """Whether a window can be hoped for; only Linux tells beforehand."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in named)


def as_followed(world: World, take: Take) -> Take:
    """What a person does, as far as the world can follow it: nobody is kept waiting for words."""
    if not isinstance(world, PreparesWords):
        return take

    def followed(index: int) -> Taken:
        taken = take(index)
        return taken._replace(action=world.follow(taken.action))

    return followed


def _with_timeline(request: Request, take: Take, rate: float) -> Take:
    """What the player does, and what the timeline says in that frame."""

    def both(index: int) -> Taken:
        taken = take(index)
        said = said_during(request.timeline, index, rate)
        return taken._replace(action=replace(taken.action, prompt=said)) if said else taken

    return both if request.timeline else take


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


def _kept_side_by_side(clip: Path, world: World, open_real: OpenReal) -> str:
    """What to say of a recording beside the real game; it stays as good where that cannot be."""
    try:
        return str(keep_side_by_side(clip, origin_of(world), open_real))
    except UserError as error:
        return f"{clip}: not shown beside the real game: {error}"
