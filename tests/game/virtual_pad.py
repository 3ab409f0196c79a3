"""A gamepad that SDL believes in: plugged in, pressed, pushed and pulled out like a real one."""

import ctypes
import time
from pathlib import Path

import pytest

BUTTONS, AXES = 15, 6
GAMEPAD = 1  # SDL's name for the kind
A, B, START, SHOULDER, UP, DOWN, LEFT, RIGHT = 0, 1, 6, 9, 11, 12, 13, 14
STICK_X, STICK_Y, LOOK_X, LOOK_Y = 0, 1, 2, 3


class VirtualPad:
    """Not plugged in yet. May be used from any thread."""

    def __init__(self) -> None:
        maps = Path("/proc/self/maps")
        paths = maps.read_text(encoding="utf-8").split() if maps.exists() else []
        found = [path for path in paths if "SDL2-" in path and ".so" in path]
        if not found:
            pytest.skip("SDL's library is not found here")
        self.sdl = ctypes.CDLL(found[0])
        self.sdl.SDL_JoystickOpen.restype = ctypes.c_void_p
        self._joystick = ctypes.c_void_p()
        self._number = -1

    def plug_in(self) -> None:
        """From now on SDL tells of it."""
        self._number = self.sdl.SDL_JoystickAttachVirtual(GAMEPAD, AXES, BUTTONS, 0)
        assert self._number >= 0
        self._joystick = ctypes.c_void_p(self.sdl.SDL_JoystickOpen(self._number))
        assert self._joystick.value

    def pull_out(self) -> None:
        """Whatever it held."""
        assert self.sdl.SDL_JoystickDetachVirtual(self._number) == 0

    def push(self, axis: int, value: float) -> None:
        """A stick or trigger, -1 to 1."""
        full = max(-32768, min(32767, round(32768 * value)))
        self.sdl.SDL_JoystickSetVirtualAxis(self._joystick, axis, ctypes.c_int16(full))

    def hold(self, button: int, *, down: bool) -> None:
        """Down or up."""
        self.sdl.SDL_JoystickSetVirtualButton(self._joystick, button, ctypes.c_uint8(down))

    def press(self, button: int, seconds: float = 0.08) -> None:
        """Down, and up again, slowly enough to be seen."""
        self.hold(button, down=True)
        time.sleep(seconds)
        self.hold(button, down=False)
        time.sleep(seconds)
