"""Gamepads, as SDL names their buttons: plugged in and pulled out at any time.

What the sticks and buttons do becomes three kinds of events that play and menu read alike:
PAD_DOWN and PAD_UP with a `code` ("PadA", "PadStickLeft"), PAD_LOOK with `x` and `y` from -1 to 1,
right and down positive, the dead zone taken out.

    for event in pads.translate(window.events()): ...
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pygame

from worldmodel.game.key_names import PAD_BUTTONS, PAD_STICK, PAD_TRIGGERS

PAD_DOWN, PAD_UP = pygame.event.custom_type(), pygame.event.custom_type()
PAD_LOOK = pygame.event.custom_type()

FULL = 32767  # SDL's axes reach from -32768 to this
TRIGGER = 0.4  # of its way, from which a trigger counts as pressed
SIDE = math.sin(math.radians(22.5))  # a stick within 22.5° of a direction has no other one
SMALLEST_ZONE = 0.1  # in which a stick never counts as pushed: they do not rest at zero


@dataclass(slots=True)
class _Pad:
    """What one gamepad does."""

    device: Any = None  # keeps it open
    axes: dict[int, float] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    look: tuple[float, float] = (0.0, 0.0)


class Gamepads:
    """All that are there. Used in the window's thread."""

    def __init__(self, dead_zone: float = 0.2) -> None:
        self.dead_zone = dead_zone
        self._pads: dict[int, _Pad] = {}

    @property
    def names(self) -> list[str]:
        """The names of those that are plugged in."""
        return [pad.device.name for pad in self._pads.values() if pad.device]

    def translate(self, events: Iterable[pygame.event.Event]) -> Iterator[pygame.event.Event]:
        """Events of gamepads in our own words, all others as they are."""
        for event in events:
            match event.type:
                case pygame.CONTROLLERDEVICEADDED:
                    self._plug_in(event.device_index)
                    yield event
                case pygame.CONTROLLERDEVICEREMOVED:
                    yield from self._pull_out(event.instance_id)
                    yield event
                case pygame.CONTROLLERBUTTONDOWN | pygame.CONTROLLERBUTTONUP:
                    if event.button < len(PAD_BUTTONS):
                        is_down = event.type == pygame.CONTROLLERBUTTONDOWN
                        code = PAD_BUTTONS[event.button]
                        yield from self._press(self._pad(event), {code}, {code} if is_down else ())
                case pygame.CONTROLLERAXISMOTION:
                    yield from self._move(self._pad(event), event.axis, event.value / FULL)
                case _:
                    yield event

    def _plug_in(self, index: int) -> None:
        from pygame._sdl2 import controller

        try:
            device = controller.Controller(index)
            number = device.as_joystick().get_instance_id()
        except pygame.error:  # gone again already
            return
        self._pads.setdefault(number, _Pad()).device = device

    def _pull_out(self, number: int) -> Iterator[pygame.event.Event]:
        if pad := self._pads.pop(number, None):
            yield from self._press(pad, pad.down.copy(), ())
            if pad.look != (0.0, 0.0):
                yield pygame.event.Event(PAD_LOOK, x=0.0, y=0.0)

    def _pad(self, event: pygame.event.Event) -> _Pad:
        return self._pads.setdefault(event.instance_id, _Pad())

    def _move(self, pad: _Pad, axis: int, value: float) -> Iterator[pygame.event.Event]:
        pad.axes[axis] = max(-1.0, value)
        match axis:
            case pygame.CONTROLLER_AXIS_LEFTX | pygame.CONTROLLER_AXIS_LEFTY:
                x, y = pad.axes.get(0, 0.0), pad.axes.get(1, 0.0)
                way = _directions(x, y, max(self.dead_zone, SMALLEST_ZONE))
                yield from self._press(pad, set(PAD_STICK), way)
            case pygame.CONTROLLER_AXIS_RIGHTX | pygame.CONTROLLER_AXIS_RIGHTY:
                look = _out_of_dead_zone(pad.axes.get(2, 0.0), pad.axes.get(3, 0.0), self.dead_zone)
                if look != pad.look:
                    pad.look = look
                    yield pygame.event.Event(PAD_LOOK, x=look[0], y=look[1])
            case _ if code := PAD_TRIGGERS.get(axis):
                yield from self._press(pad, {code}, {code} if value > TRIGGER else ())

    def _press(
        self, pad: _Pad, asked: set[str], down: Iterable[str]
    ) -> Iterator[pygame.event.Event]:
        """Bring the codes `asked` to what is `down` of them."""
        now = set(down)
        for code in sorted(asked & pad.down - now):
            pad.down.discard(code)
            yield pygame.event.Event(PAD_UP, code=code)
        for code in sorted(now - pad.down):
            pad.down.add(code)
            yield pygame.event.Event(PAD_DOWN, code=code)


def start_gamepads() -> None:
    """Let SDL look for gamepads; those that are there come as events."""
    from pygame._sdl2 import controller

    try:
        controller.init()
    except pygame.error:  # no such subsystem here: it is played without
        return


def stop_gamepads() -> None:
    """Let go of all gamepads, so that others can open them."""
    from pygame._sdl2 import controller

    controller.quit()


def _directions(x: float, y: float, dead_zone: float) -> set[str]:
    """One of eight directions, as one or two codes."""
    length = math.hypot(x, y)
    if length <= dead_zone:
        return set()
    found = set()
    if abs(x) > SIDE * length:
        found.add("PadStickRight" if x > 0 else "PadStickLeft")
    if abs(y) > SIDE * length:
        found.add("PadStickDown" if y > 0 else "PadStickUp")
    return found


def _out_of_dead_zone(x: float, y: float, dead_zone: float) -> tuple[float, float]:
    """From the edge of the dead zone 0 to 1, squared: fine near the middle, fast at the rim."""
    length = math.hypot(x, y)
    if length <= dead_zone:
        return 0.0, 0.0
    reach = min(1.0, (length - dead_zone) / (1 - dead_zone)) ** 2
    return x / length * reach, y / length * reach
