"""From the command line to play. Nothing heavy is imported before the flags are understood."""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from worldmodel.config import UserError
from worldmodel.game.choice import OpenWorld
from worldmodel.game.flags import make_parser
from worldmodel.reference.game import OpenReal
from worldmodel.system import console
from worldmodel.system.exit_codes import exit_code_of
from worldmodel.system.starting import Starting
from worldmodel.world import WorldFaultError

if TYPE_CHECKING:
    from worldmodel.game.launch import Launch
    from worldmodel.game.preferences import Preferences
    from worldmodel.game.window import Window


def main(arguments: Sequence[str], open_world: OpenWorld, open_real: OpenReal | None = None) -> int:
    """Play; 0 done, 2 the user must change something, 1 a replay's frames differ or a defect."""
    with console.kept() as output:  # what it says beside the window is not what it is for
        with Starting("play"):
            options = output.parse(make_parser(), arguments)
        return play(options, open_world, open_real)


def play(
    options: argparse.Namespace, open_world: OpenWorld, open_real: OpenReal | None = None
) -> int:
    """Play as the flags say; the exit code is `main`'s."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

    def run() -> int:
        try:
            return play_worlds(options, open_world, open_real)
        except WorldFaultError as error:  # with nobody there to go back and on
            raise UserError(f"the world broke: {error}") from error

    return exit_code_of("play", run, UserError)


def play_worlds(
    options: argparse.Namespace, open_world: OpenWorld, open_real: OpenReal | None = None
) -> int:
    """One world after the other, in one window or without any: `Game.play` is the main loop."""
    with Starting("play"):
        from worldmodel.game.launch import Launch, has_display, read_preferences
        from worldmodel.game.messages import say
        from worldmodel.game.window import NoDisplayError, Window, ask_to_close
        from worldmodel.system.signals import on_hangup

    launched = Launch(options, open_world, open_real)
    if options.headless:
        return launched.play_headless()
    try:
        if not has_display():
            raise NoDisplayError("no display here")
        preferences = read_preferences(options)
        is_fullscreen = preferences.settings.fullscreen
        window = Window(options.world or "worldmodel", is_fullscreen=is_fullscreen)
    except NoDisplayError as error:
        say(f"{error}: {launched.request.stand_in} plays a short session instead")
        return launched.play_headless()
    with window, on_hangup(ask_to_close):
        return _play_in(window, launched, preferences)


def _play_in(window: "Window", launched: "Launch", preferences: "Preferences") -> int:
    before: Launch | None = None
    while True:
        try:
            with launched.opened(window, preferences) as game:
                game.play()
            code = launched.verdict(game.recording_control)
        except UserError as error:
            if before is None:  # nothing to go back to
                raise
            launched, before = before.again(str(error)), None
            continue
        if game.elsewhere is None:
            return code
        try:
            launched, before = launched.then(game.elsewhere), launched
        except UserError as error:
            launched, before = launched.again(str(error)), None
