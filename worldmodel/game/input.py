"""Device events become one `Action` per frame.

Events arrive whenever they like; the world asks once per frame. Between two asks mouse travel adds
up and a button tapped and released still counts as held, so no press is ever lost. The window's
thread feeds, the generator's thread takes.

    devices = Input(controls)
    devices.learn(world.actions)        # until then every key but the window's own is silent
    command = devices.feed(event)       # a runtime key, or None
    devices.begin_line()                # from here on keys write words, until Enter or Escape
    taken = devices.take()              # at the last moment before a frame
"""

import threading
import time
from dataclasses import replace
from typing import NamedTuple

import pygame

from worldmodel.action import Action, ActionSpec, Prompt
from worldmodel.game.controls import Command, Controls, KeyMap, command_keys
from worldmodel.game.gamepad import PAD_DOWN, PAD_LOOK, PAD_UP, Gamepads
from worldmodel.game.key_names import KEYS, MOUSE_BUTTONS

LONGEST_LINE = 1000  # letters; the text encoder reads about half as many


class Taken(NamedTuple):
    """The action of one frame, and when the oldest event in it happened."""

    action: Action
    event_time: float | None  # time.perf_counter; None when nothing changed
    back_to: int | None = None  # the frame that it comes after, if not the one before


class Input:
    """Collects events; `take` hands over the frame's action and starts the next one."""

    def __init__(self, controls: Controls) -> None:
        self.controls = controls
        self.pads = Gamepads(controls.gamepad.dead_zone)
        self.keys = KeyMap(buttons={}, turns={}, commands=command_keys(controls))
        self.captured = False  # whether the mouse belongs to the game
        self.quit = False
        self.line: str | None = None  # words being typed
        self._prompt: Prompt | None = None  # words that were typed
        self._held: set[str] = set()  # physical keys
        self._tapped: set[str] = set()  # pressed since the last take
        self._travel = (0.0, 0.0)  # pixels
        self._look = (0.0, 0.0)  # right stick, -1 to 1
        self._spec: ActionSpec | None = None
        self._event_time: float | None = None
        self._rewinds = False  # while the key is held
        self._lock = threading.Lock()

    def learn(self, spec: ActionSpec) -> None:
        """Listen to the buttons of a world."""
        with self._lock:
            self._spec = spec
            self.keys = KeyMap.of(spec, self.controls)

    def adopt(self, controls: Controls) -> None:
        """Other controls from now on."""
        with self._lock:
            self.controls, self.pads.dead_zone = controls, controls.gamepad.dead_zone
            if self._spec:
                self.keys = KeyMap.of(self._spec, controls)
            else:
                self.keys = replace(self.keys, commands=command_keys(controls))

    def let_go(self) -> Command | None:
        """Everything counts as released, the mouse included: somebody else listens now."""
        with self._lock:
            self.line = None
            self._let_go()
            return self._stop_rewinding()

    def feed(self, event: pygame.event.Event) -> Command | None:
        """Take note of one device event; returns what a runtime key asks for."""
        with self._lock:
            if self.line is not None and event.type in (pygame.KEYDOWN, pygame.TEXTINPUT):
                self._type(self.line, event)
                return None
            match event.type:
                case pygame.KEYDOWN:
                    return self._key_down(KEYS.get(event.scancode, ""), event)
                case pygame.KEYUP:
                    return self._key_up(KEYS.get(event.scancode, ""), event)
                case pygame.MOUSEBUTTONDOWN if event.button in MOUSE_BUTTONS:
                    if self.captured:
                        self._press(MOUSE_BUTTONS[event.button], event)
                    self.captured = True
                case pygame.MOUSEBUTTONUP if event.button in MOUSE_BUTTONS:
                    self._release(MOUSE_BUTTONS[event.button], event)
                case pygame.MOUSEMOTION if self.captured:
                    self._travel = self._travel[0] + event.rel[0], self._travel[1] + event.rel[1]
                    self._stamp(event)
                case _ if event.type == PAD_DOWN:
                    return self._key_down(event.code, event)
                case _ if event.type == PAD_UP:
                    return self._key_up(event.code, event)
                case _ if event.type == PAD_LOOK:
                    self._look = event.x, event.y
                    self._stamp(event)
                case pygame.WINDOWFOCUSLOST:
                    self._let_go()
                    return self._stop_rewinding()
                case pygame.QUIT:
                    self.quit = True
        return None

    def begin_line(self) -> None:
        """From now on keys write words, until the line is sent."""
        with self._lock:
            self._let_go()
            self.line = ""

    def take(self) -> Taken:
        """The action of the frame that begins now."""
        with self._lock:
            down = self._held | self._tapped
            buttons = {button for key in down for button in self.keys.buttons.get(key, ())}
            action = Action(frozenset(buttons), self._mouse(down), self._prompt)
            taken = Taken(action, self._event_time)
            self._prompt = None
            self._forget()
            return taken

    def discard(self) -> None:
        """Forget what was done while nobody asked; what is still held stays held."""
        with self._lock:
            self._forget()

    def _key_down(self, key: str, event: pygame.event.Event) -> Command | None:
        if key == "Escape":
            was_captured = self.captured
            self._let_go()
            return None if was_captured else Command.MENU
        if key in self.keys.commands:
            command = None if self._is_shortcut(event) else self.keys.commands[key]
            self._rewinds = self._rewinds or command is Command.REWIND
            return command
        self._press(key, event)
        return None

    def _is_shortcut(self, event: pygame.event.Event) -> bool:
        """Whether a key is part of a shortcut of the desktop's, unless the world holds Ctrl."""
        mod = event.dict.get("mod", 0)
        has_ctrl = {"ControlLeft", "ControlRight"} & self.keys.buttons.keys()
        others = pygame.KMOD_ALT | pygame.KMOD_GUI | (0 if has_ctrl else pygame.KMOD_CTRL)
        return bool(mod & others)

    def _type(self, line: str, event: pygame.event.Event) -> None:
        """One key of a line of words; whole letters come as events of their own."""
        if event.type == pygame.TEXTINPUT:
            self.line = (line + event.text)[:LONGEST_LINE]
            return
        match KEYS.get(event.scancode, ""):
            case "Backspace":
                self.line = line[:-1]
            case "Escape":
                self.line = None
            case "Enter" | "NumpadEnter":
                if text := line.strip():
                    self._prompt = Prompt(text, renew=bool(event.mod & pygame.KMOD_SHIFT))
                    self._stamp(event)
                self.line = None

    def _key_up(self, key: str, event: pygame.event.Event) -> Command | None:
        if self.keys.commands.get(key) is Command.REWIND:
            return self._stop_rewinding()
        self._release(key, event)
        return None

    def _stop_rewinding(self) -> Command | None:
        was, self._rewinds = self._rewinds, False
        return Command.GO_ON if was else None

    def _press(self, key: str, event: pygame.event.Event) -> None:
        if key in self.keys.buttons or key in self.keys.turns:
            self._held.add(key)
            self._tapped.add(key)
            self._stamp(event)

    def _release(self, key: str, event: pygame.event.Event) -> None:
        if key in self._held:
            self._held.discard(key)
            self._stamp(event)

    def _let_go(self) -> None:
        self.captured = False
        self._held.clear()
        self._look = (0.0, 0.0)
        self._forget()

    def _forget(self) -> None:
        self._tapped.clear()
        self._travel = (0.0, 0.0)
        self._event_time = None

    def _stamp(self, event: pygame.event.Event) -> None:
        if self._event_time is None:
            self._event_time = happened(event)

    def _mouse(self, down: set[str]) -> tuple[float, float]:
        turns = [self.keys.turns[key] for key in down if key in self.keys.turns]
        degrees, turn = self.controls.degrees_per_pixel, self.controls.turn_degrees
        look = self.controls.gamepad.look_degrees
        right = self._travel[0] * degrees + self._look[0] * look
        below = self._travel[1] * degrees + self._look[1] * look
        right = -right if self.controls.invert_left_right else right
        below = -below if self.controls.invert_up_down else below
        return right + turn * sum(w[0] for w in turns), below + turn * sum(w[1] for w in turns)


def happened(event: pygame.event.Event) -> float:
    """When an event came into being, where pygame tells (in ticks); else now, as it is read."""
    now = time.perf_counter()
    if not hasattr(event, "timestamp"):
        return now
    return now - max(0, pygame.time.get_ticks() - event.timestamp) / 1000
