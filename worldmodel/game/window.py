"""The window: scales frames, draws the heads-up display and passes device events on."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pygame

from worldmodel.config import UserError
from worldmodel.font import start_fonts
from worldmodel.game.gamepad import start_gamepads, stop_gamepads
from worldmodel.game.hud import Hud, Overlay
from worldmodel.game.keyboard_layout import forget_layout
from worldmodel.game.preferences import DisplaySettings
from worldmodel.reference.side_by_side import View, draw_side_by_side
from worldmodel.storage.recording import free_name
from worldmodel.world import Frame

FIRST_SIZE = (960, 720)
LARGEST = 8192  # pixels, whatever the scale
SHARE = 0.96, 0.88  # of the screen's columns and rows: the rest is for title and task bar
HINT_SECONDS = 5.0
REFRESH_SECONDS = 0.1  # how often the picture is drawn again when no frame comes
UNSEEN = ("offscreen", "dummy", "evdev")  # what SDL takes where it finds no screen
FILTERS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
# From a root, or up to an ending: "and/or" and "17 fps/s" are no paths.
PART = r"[^\s:;,/\\]+"
PATH = re.compile(
    rf"(?<![^\s'\"(])(?:(?:~|[A-Za-z]:)?[/\\](?:{PART}[/\\])*{PART}|(?:{PART}[/\\])+{PART}\.\w+)"
)
STEP_READY = pygame.event.custom_type()  # wakes the window when the generator has a frame


class Cover(Protocol):
    """What covers the world while it is open."""

    @property
    def is_open(self) -> bool:
        """Whether it covers the world now."""

    def draw(self, surface: pygame.Surface) -> None:
        """Draw what covers the world onto the window's surface."""


class NoDisplayError(UserError):
    """There is no screen to open a window on."""


def start_display() -> None:
    """Reach the screen, or say in a `NoDisplayError` why there is none.

    Where a display is named but does not answer, SDL draws into memory instead, without a word: an
    endless game that nobody sees.
    """
    try:
        pygame.display.init()
    except pygame.error as error:
        raise NoDisplayError(f"no window can be opened: {error}") from error
    driver = pygame.display.get_driver()
    if driver in UNSEEN and not os.environ.get("SDL_VIDEODRIVER"):
        pygame.display.quit()
        names = ("DISPLAY", "WAYLAND_DISPLAY")
        named = " and ".join(f"{n}={os.environ[n]}" for n in names if os.environ.get(n))
        raise NoDisplayError(f"no window can be opened: {named or 'no display'} does not answer")


class DisplayLostError(UserError):
    """The screen went away in the middle of play."""


class Window:
    """A pygame window. Everything here happens in the thread that made it."""

    screen: pygame.Surface  # another one after a resize

    def __init__(self, title: str, *, is_fullscreen: bool = False) -> None:
        start_display()
        try:
            start_fonts()
            pygame.time.Clock()  # starts the ticks in which events are dated
            pygame.display.set_caption(title)
            self._size = fitting(FIRST_SIZE, room_on_screen())
            self._open(is_fullscreen=is_fullscreen)
            forget_layout()
        except pygame.error as error:
            raise NoDisplayError(f"no window can be opened: {error}") from error
        start_gamepads()
        self.settings = DisplaySettings()
        self.overlay = Overlay(caption="loading")
        self.hud = Hud()
        self.convert_ms = self.present_ms = 0.0  # of the last picture: draw it, flip it
        self.menu: Cover | None = None  # drawn over the world while it is open
        self.view: View | None = None  # of the real game beside the world, in place of the frame
        self._frame: Frame | None = None
        self._drawn = 0.0
        self._note_ends = self._hint_ends = 0.0

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *_: object) -> None:
        stop_gamepads()
        pygame.display.quit()

    def fit(self, frame_size: tuple[int, int], scale: int | None) -> None:
        """Take the shape of the world's frames: `scale` times their size, or about 960 wide.

        A screen too small for that gets a smaller window, by a whole number if one was asked for.
        """
        rows, columns = frame_size
        room = room_on_screen()
        most = min(room[0] / columns, room[1] / rows)
        factor = min(scale or FIRST_SIZE[0] / columns, most)
        if scale and factor < scale:
            factor = max(1, int(factor)) if most >= 1 else most
            self.note(f"--scale {scale} is larger than this screen: {factor:.3g} instead")
        size = max(1, round(columns * factor)), max(1, round(rows * factor))
        if size != self._size:
            self._size = size
            if not self._is_fullscreen:
                self._open(is_fullscreen=False)

    def events(self, patience: float) -> list[pygame.event.Event]:
        """What happened at the devices; waits until something does, but not past `patience`."""
        with _naming_a_lost_display():
            first = pygame.event.wait(max(1, round(patience * 1000))) if patience else None
            events = ([first] if first else []) + pygame.event.get()
        return [event for event in events if event.type not in (pygame.NOEVENT, STEP_READY)]

    def draw(self) -> float:
        """Draw what is there, a frame or not; returns when it was on the display."""
        began = time.perf_counter()
        self.overlay.note = self.overlay.note if began < self._note_ends else ""
        self.overlay.hint = self.overlay.hint if began < self._hint_ends else ""
        self.screen = pygame.display.get_surface() or self.screen
        with _naming_a_lost_display():
            self.overlay.taken = self._draw_frame(self.screen)
            if self.menu and self.menu.is_open:
                self.menu.draw(self.screen)
            else:
                self.hud.draw(self.screen, self.overlay)
            drawn = time.perf_counter()
            pygame.display.flip()
        self._drawn = time.perf_counter()
        self.convert_ms, self.present_ms = 1000 * (drawn - began), 1000 * (self._drawn - drawn)
        return self._drawn

    def show(self, frame: Frame) -> float:
        """Put a frame on the display; returns when it was there (`time.perf_counter`)."""
        self._frame = frame
        return self.draw()

    def show_view(self, view: View | None) -> None:
        """Draw the same frame again, with other news of the real game beside it."""
        self.view = view
        self.draw()

    def refresh(self) -> None:
        """Draw again if the last time is a while ago."""
        if time.perf_counter() - self._drawn > REFRESH_SECONDS:
            self.draw()

    def note(self, text: str, seconds: float = 4.0) -> None:
        """Say something on the screen for a while; of a file, its name is enough there."""
        self.overlay.note, self._note_ends = named(text), time.perf_counter() + seconds

    def hint(self, text: str) -> None:
        """Say in the first seconds what to press."""
        self.overlay.hint, self._hint_ends = text, time.perf_counter() + HINT_SECONDS

    def capture(self, *, captured: bool) -> None:
        """Give the mouse to the game, or back."""
        if pygame.mouse.get_relative_mode() != captured:
            pygame.mouse.set_relative_mode(captured)

    def toggle_fullscreen(self) -> None:
        """Whole screen and back; where the system refuses, as it was."""
        was = self._is_fullscreen
        try:
            self._open(is_fullscreen=not was)
        except pygame.error as error:
            self.note(f"no fullscreen here: {error}")
            with _naming_a_lost_display():
                self._open(is_fullscreen=was)
        self.draw()

    def adopt(self, settings: DisplaySettings) -> None:
        """Look as a person wants it; what a key switched meanwhile stays as it is."""
        before, self.settings = self.settings, settings
        if settings.fullscreen != before.fullscreen and settings.fullscreen != self._is_fullscreen:
            self._open(is_fullscreen=settings.fullscreen)
        if settings.numbers != before.numbers:
            self.overlay.shows_numbers = settings.numbers
        self.overlay.font = settings.font

    def save_picture(self, name: Path) -> Path:
        """Write what is seen, without the heads-up display, as NAME.png or NAME_002.png."""
        picture = pygame.Surface(self.screen.get_size())
        self._draw_frame(picture)
        try:
            name.parent.mkdir(parents=True, exist_ok=True)
            name = free_name(name, (".png",))
            path = name.with_name(f"{name.name}.png")
            pygame.image.save(picture, path)
        except (pygame.error, OSError) as error:
            raise UserError(f"{name}.png: cannot be written: {error}") from error
        return path

    def _open(self, *, is_fullscreen: bool) -> None:
        self._is_fullscreen = is_fullscreen
        flags = pygame.FULLSCREEN if is_fullscreen else pygame.RESIZABLE
        self.screen = pygame.display.set_mode((0, 0) if is_fullscreen else self._size, flags)

    def _draw_frame(self, surface: pygame.Surface) -> list[pygame.Rect]:
        """The frame as large as it fits, or by a whole number, with black around it.

        Returns where something is written in it.
        """
        surface.fill((0, 0, 0))
        if self._frame is None:
            return []
        if self.view is not None:
            drawn = draw_side_by_side(self.view, surface.get_size()[::-1], self.overlay.font)
            whole = pygame.image.frombuffer(drawn.picture.data, surface.get_size(), "RGB")
            surface.blit(whole, (0, 0))
            return [pygame.Rect(box) for box in drawn.written]
        rows, columns = self._frame.shape[:2]
        width, height = surface.get_size()
        factor = min(width / columns, height / rows)
        if self.settings.scaling == "integer" and factor >= 1:
            factor = int(factor)
        size = max(1, round(columns * factor)), max(1, round(rows * factor))
        kind = FILTERS[self.settings.filter]
        picture = cv2.resize(np.ascontiguousarray(self._frame), size, interpolation=kind)
        corner = (width - size[0]) // 2, (height - size[1]) // 2
        surface.blit(pygame.image.frombuffer(picture.data, size, "RGB"), corner)
        return []


def room_on_screen() -> tuple[int, int]:
    """Columns and rows that a window may have."""
    if pygame.display.get_driver() in UNSEEN:  # no screen: as large as one likes
        return LARGEST, LARGEST
    columns, rows = pygame.display.get_desktop_sizes()[0]
    return int(SHARE[0] * columns), int(SHARE[1] * rows)


def fitting(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """A size of the same shape that is no larger than the room for it."""
    factor = min(1.0, room[0] / size[0], room[1] / size[1])
    return round(size[0] * factor), round(size[1] * factor)


def named(text: str) -> str:
    """A sentence with the names of files in place of their paths."""
    text = text.replace(str(Path.home()), "~")  # it may hold spaces, which a path ends at
    return PATH.sub(lambda path: re.split(r"[/\\]", path[0])[-1], text)


@contextlib.contextmanager
def _naming_a_lost_display() -> Iterator[None]:
    try:
        yield
    except pygame.error as error:
        raise DisplayLostError(
            f"the display went away: {error}; play ended, and --load goes on where it was"
        ) from error


def ask_to_close() -> None:
    """As if somebody had clicked the window's cross."""
    with contextlib.suppress(pygame.error):
        pygame.event.post(pygame.event.Event(pygame.QUIT))


def announce() -> None:
    """Wake the window from another thread: a frame is ready."""
    try:
        pygame.event.post(pygame.event.Event(STEP_READY))
    except pygame.error:  # a full queue of events, or a closed window: it looks by itself
        return
