"""The window on SDL's dummy driver: its size, what it draws and what it says."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import DrawnWorld
from worldmodel.game.preferences import DisplaySettings
from worldmodel.game.window import (
    DisplayLostError,
    Window,
    announce,
    ask_to_close,
    fitting,
    room_on_screen,
)


def test_a_window_is_never_larger_than_can_be_drawn(window: Window) -> None:
    window.fit((4, 6000), 64)
    assert window.screen.get_size() == (6000, 4), "of 8192 pixels at most, by a whole number"


def test_a_window_is_never_larger_than_its_screen(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "x11")
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [(1024, 600)])
    room = room_on_screen()
    assert room[0] < 1024
    assert room[1] < 600, "a title and a task bar find room too"
    assert fitting((960, 720), room) == (704, 528)
    for scale, size in ((None, (704, 528)), (4, (256, 192)), (40, (704, 528))):
        window.fit((48, 64), scale)
        assert window.screen.get_size() == size
        assert ("--scale" in window.overlay.note) == (scale == 40)


def test_on_the_screen_files_have_names_and_no_paths(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/Some Body")
    monkeypatch.setenv("USERPROFILE", "/home/Some Body")
    path = "/var/lib/somebody/worldmodel/storage/moments/doom-rooms/20261128-205a0b74.safetensors"
    for text, shown in (
        (f"saved this moment: {path}", "saved this moment: 20261128-205a0b74.safetensors"),
        (f"saved {Path.home() / 'a' / 'c.png'}", "saved c.png"),
        (
            "recordings/clip.mp4: cannot be written: disk full",
            "clip.mp4: cannot be written: disk full",
        ),
        (r"saved C:\games\clip.mp4", "saved clip.mp4"),
        ("9.8 of 17.5 frames/s, and/or 1/2", "9.8 of 17.5 frames/s, and/or 1/2"),
    ):
        window.note(text)
        assert window.overlay.note == shown


def test_the_picture_keeps_its_shape_in_a_window_of_any_shape(window: Window) -> None:
    window.show(DrawnWorld().reset(0, 0))
    wide = pygame.Surface((1000, 300))
    window._draw_frame(wide)
    assert wide.get_at((10, 150))[:3] == (0, 0, 0)
    assert wide.get_at((500, 280))[:3] != (0, 0, 0)
    assert wide.get_at((302, 280))[:3] != (0, 0, 0), "as large as it fits: 400 x 300"
    assert wide.get_at((297, 280))[:3] == (0, 0, 0)


def test_a_refused_fullscreen_leaves_the_window_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window("test") as window:
        real = pygame.display.set_mode

        def refuse(size: Any, flags: int = 0) -> Any:
            if flags & pygame.FULLSCREEN:
                raise pygame.error("no such mode")
            return real(size, flags)

        monkeypatch.setattr(pygame.display, "set_mode", refuse)
        window.toggle_fullscreen()
        assert "no fullscreen here: no such mode" in window.overlay.note
        monkeypatch.setattr(pygame.display, "set_mode", lambda *_: refuse(0, pygame.FULLSCREEN))
        with pytest.raises(DisplayLostError):
            window.toggle_fullscreen()


def test_what_a_person_sets_is_drawn_from_the_next_picture_on(window: Window) -> None:
    window.show(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3))
    drawn = []
    for settings in (DisplaySettings(), DisplaySettings(filter="nearest", font=2.0, numbers=True)):
        window.adopt(settings)
        surface = pygame.Surface((640, 480))
        window._draw_frame(surface)
        drawn.append(pygame.image.tobytes(surface, "RGB"))
    assert drawn[0] != drawn[1]
    assert (window.overlay.font, window.overlay.shows_numbers) == (2.0, True)
    narrow = pygame.Surface((150, 110))
    window.adopt(DisplaySettings(scaling="integer"))
    window._draw_frame(narrow)
    columns = [x for x in range(150) if narrow.get_at((x, 50))[:3] != (0, 0, 0)]
    assert len(columns) in range(126, 129), "twice 64 columns"
    assert columns[0] in range(11, 13), "and black beside them"


def test_a_switch_that_a_key_turned_stays_when_other_settings_change(window: Window) -> None:
    window.overlay.shows_numbers = True
    window.adopt(DisplaySettings(font=1.5))
    assert window.overlay.shows_numbers


def test_a_note_goes_after_its_time_and_a_hint_after_its_own(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("worldmodel.game.window.time.perf_counter", lambda: clock[0])
    window.hint("press W")
    window.note("saved", seconds=2.0)
    for clock[0], note, hint in (
        (101.9, "saved", "press W"),
        (102.1, "", "press W"),
        (105.1, "", ""),
    ):
        window.draw()
        assert (window.overlay.note, window.overlay.hint) == (note, hint)


def test_a_ready_frame_wakes_the_window_from_another_thread_and_is_no_event(
    window: Window,
) -> None:
    window.events(0.0)
    waker = threading.Timer(0.05, announce)
    began = time.perf_counter()
    waker.start()
    assert window.events(30.0) == []
    assert time.perf_counter() - began < 10
    waker.join()
    ask_to_close()
    assert [event.type for event in window.events(0.0)] == [pygame.QUIT]


def test_what_covers_the_world_is_drawn_instead_of_the_numbers(window: Window) -> None:
    class Red:
        is_open = True

        def draw(self, surface: pygame.Surface) -> None:
            surface.fill((255, 0, 0))

    window.menu = Red()
    window.show(DrawnWorld().reset(0, 0))
    assert window.screen.get_at((5, 5))[:3] == (255, 0, 0)
    window.menu.is_open = False
    window.draw()
    assert window.screen.get_at((5, 5))[:3] != (255, 0, 0)
