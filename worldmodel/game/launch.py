"""From the command line to a played world: who plays, what is recorded, window or none."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from worldmodel.config import UserError
from worldmodel.game.choice import OpenWorld
from worldmodel.game.closing import (
    close_camera,
    close_keeper,
    keep_beside_game,
    keep_last_session,
    tell_speed,
)
from worldmodel.game.controls import describe
from worldmodel.game.generator import FrameSource, Generator, InLine
from worldmodel.game.headless import play_headless
from worldmodel.game.input import Input
from worldmodel.game.jumps import Elsewhere
from worldmodel.game.loop import Game
from worldmodel.game.menu.library import Library
from worldmodel.game.menu.menu import Menu
from worldmodel.game.messages import say, tell
from worldmodel.game.opening import PlayerFor, as_followed, open_session
from worldmodel.game.play_session import Session, Take
from worldmodel.game.preferences import Preferences
from worldmodel.game.recording_control import RecordingControl
from worldmodel.game.reference_play import Beside, way_to_start
from worldmodel.game.request import Request
from worldmodel.game.save_worker import SaveWorker
from worldmodel.game.window import NoDisplayError, Window, announce, ask_to_close
from worldmodel.reference.game import OpenReal
from worldmodel.system.signals import ended_by_signals, on_hangup
from worldmodel.world import World
from worldmodel.worlds.find import find_world, is_shipped, read_any_world
from worldmodel.worlds.known_folders import remember_folder

HEADLESS_FRAMES = 300


def launch(
    options: argparse.Namespace, open_world: OpenWorld, open_real: OpenReal | None = None
) -> int:
    """Play as the options say; returns the exit code."""
    game = Launch(options, open_world, open_real)
    if options.headless:
        return game.play_headless()
    if not has_display():
        say(f"no display here: {game.request.stand_in} plays a short session instead")
        return game.play_headless()
    preferences = read_preferences(options)
    try:
        is_fullscreen = preferences.settings.fullscreen
        window = Window(options.world or "worldmodel", is_fullscreen=is_fullscreen)
    except NoDisplayError as error:
        say(f"{error}: {game.request.stand_in} plays a short session instead")
        return game.play_headless()
    with window, on_hangup(ask_to_close):
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
    """A request, played."""

    def __init__(
        self, options: argparse.Namespace, open_world: OpenWorld, open_real: OpenReal | None
    ) -> None:
        self.options, self._open_world, self._open_real = options, open_world, open_real
        self.request = Request(options, open_real)
        self._world: World | None = None  # once it is loaded
        self.elsewhere: Elsewhere | None = None  # what the player wants after this
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

    def play_in(self, window: Window, preferences: Preferences) -> int:
        """A session in a window."""
        options, request, devices = self.options, self.request, Input(preferences.controls)
        rolls = options.record is not None
        camera = self._camera(lambda text: tell(window, text), rolls=rolls)
        keeper = SaveWorker() if request.is_human else None
        shelf = Library(self._folder())
        menu = Menu(preferences, shelf, lambda: game.adopt(preferences))
        window.menu, window.overlay.caption, menu.is_loading = menu, "loading", True
        beside = Beside(self._open_real, lambda text: tell(window, text), begins=options.beside)
        game = Game(
            self._source(devices, keeper),
            window,
            devices,
            camera,
            is_human=request.is_human,
            replay=request.replay,
            keeper=keeper,
            beside=beside,
            frames=request.frames(),
            scale=options.scale,
            menu=menu,
        )
        window.adopt(preferences.settings)
        if shelf.here and not options.sync:  # else nothing is heard before it is loaded
            with contextlib.suppress(UserError):  # said when it is opened
                file = read_any_world(shelf.here)
                window.overlay.caption = f"loading {file.name}"
                game.expect(file.actions)
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
        if request.is_human and game.source.session:
            keep_last_session(game.source.session)
        self._end(keeper, None, camera, keeps_both=beside.was_on)
        tell_speed(game.whole.speed(), game.source.session, game.shown)
        return self._verdict(camera)

    def play_headless(self) -> int:
        """A session without a window."""
        request = self.request
        frames = request.frames()
        rolls = self.options.record is not None or request.replay is None
        camera = self._camera(say, rolls=rolls)
        with ended_by_signals():  # from the first frame to the last one that is on disk
            try:
                session = self._open_session(request.player, rate=self.options.fps or 0.0)
                if self.options.beside:
                    way_to_start(session)  # says now why not
                frames = HEADLESS_FRAMES if frames is None else frames
                say(str(play_headless(session, frames, camera, request.replay)))
            finally:
                self._close(camera, keeps_both=self.options.beside)
        return self._verdict(camera)

    def has_start_screen(self, preferences: Preferences) -> bool:
        """Where nothing was said about what to play, a person is asked, the world loading."""
        is_asked = self.request.is_silent and self._is_first
        return is_asked and preferences.settings.start_screen

    def _folder(self) -> Path | None:
        """Of the world that is opened, if it can be found."""
        with contextlib.suppress(UserError):
            return find_world(self.request.choice.world)
        return None

    def _source(self, devices: Input, keeper: SaveWorker | None) -> FrameSource:
        def player_for(world: World) -> Take:
            if not self.request.is_human:
                return self.request.player(world)
            return as_followed(world, lambda _: devices.take())

        def begin() -> Session:
            session = self._open_session(player_for, rate=self.options.fps, keeper=keeper)
            devices.discard()  # what was tapped while it loaded; what is held counts
            if self.request.is_human:
                for keys, meaning in describe(session.world.actions, devices.controls):
                    say(f"  {keys:16} {meaning}")
            return session

        return InLine(begin) if self.options.sync else Generator(begin, announce)

    def _open_session(
        self, player_for: PlayerFor, rate: float | None, keeper: SaveWorker | None = None
    ) -> Session:
        world = self._world = self._open_world(self.request.choice)
        if (folder := self._folder()) and not is_shipped(folder):
            remember_folder(folder)
        return open_session(self.request, world, player_for, rate, keeper)

    def _camera(self, tell: Callable[[str], None], *, rolls: bool) -> RecordingControl:
        if rolls:
            self.request.place.check_writable()
        camera = RecordingControl(self.request.place, tell)
        camera.is_rolling = rolls
        return camera

    def _end(
        self,
        keeper: SaveWorker | None,
        broken: Session | None,
        camera: RecordingControl,
        *,
        keeps_both: bool = False,
    ) -> None:
        try:
            close_keeper(keeper, broken)
        finally:
            self._close(camera, keeps_both=keeps_both)

    def _close(self, camera: RecordingControl, *, keeps_both: bool) -> None:
        close_camera(camera, shows_keys=self.options.show_keys)
        if keeps_both:
            keep_beside_game(camera.clips, self._world, self._open_real)

    def _verdict(self, camera: RecordingControl) -> int:
        if self.request.replay:
            say(self.request.replay.verdict())
        if camera.failure:
            raise camera.failure
        return 1 if self.request.replay and self.request.replay.first_different is not None else 0


def has_display() -> bool:
    """Whether a window can be hoped for; only Linux tells beforehand."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in named)
