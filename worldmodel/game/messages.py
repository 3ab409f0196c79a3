"""What is said to the person at the terminal, beside and around a window."""

import sys

from worldmodel.game.play_session import Session
from worldmodel.game.window import Window
from worldmodel.system.printable import printable


def say(text: str) -> None:
    """A line for the person at the terminal, who is told what files said: no control characters."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def tell(window: Window, text: str) -> None:
    """In the window and at the terminal."""
    window.note(text, seconds=8.0)
    say(text)


def introduce(session: Session) -> None:
    """Say what is played, and on what."""
    world = session.world
    rows, columns = world.frame_size
    size = f"{columns} x {rows}, {world.frames_per_second:g} frames/s"
    say(f"{world.name}: {size}; on {session.running_on}")
