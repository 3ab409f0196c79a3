"""The menu over the picture: with a keyboard alone, a gamepad alone, a mouse alone.

`python play.py` without a world, start or moment opens the window with the menu in front and the
default world loading behind it: Enter, A, a click, or simply a key of the world plays it. So it is
both the start screen and the default world at once, and choosing costs no time, because a world
takes longer to load than a person to press Enter. Later Escape (where it has no mouse to release),
F10 and Start open it.

    menu = Menu(preferences, Library(folder), changed)
    menu.open(is_start=True)
    answer = menu.feed(event)       # GoOn, Quit, ToStart, ToMoment, Elsewhere, or None
    menu.draw(surface)
"""

import time
from collections.abc import Callable
from typing import Any

import pygame

from worldmodel.action import ActionSpec
from worldmodel.game.controls import Controls
from worldmodel.game.gamepad import PAD_DOWN, PAD_UP
from worldmodel.game.key_names import KEYS, MOUSE_BUTTONS
from worldmodel.game.menu.content import (
    HOME,
    KEYS_PAGE,
    SETTINGS,
    Answer,
    GoOn,
    MenuActions,
    home,
    keys,
    settings,
)
from worldmodel.game.menu.layout import Direction, Layout, Page, Placed, lay_out, next_one
from worldmodel.game.menu.library import Library
from worldmodel.game.menu.remap import NOTHING, Target, assign, usual
from worldmodel.game.menu.style import Look, arrows_of, foot_height
from worldmodel.game.panels import line_height
from worldmodel.game.preferences import Preferences

DIRECTIONS: dict[str, Direction] = {
    "ArrowUp": (0, -1), "ArrowDown": (0, 1), "ArrowLeft": (-1, 0), "ArrowRight": (1, 0),
    "PadDpUp": (0, -1), "PadDpDown": (0, 1), "PadDpLeft": (-1, 0), "PadDpRight": (1, 0),
    "PadStickUp": (0, -1), "PadStickDown": (0, 1), "PadStickLeft": (-1, 0),
    "PadStickRight": (1, 0),
}  # fmt: skip
PRESS = {"Enter", "NumpadEnter", "Space", "PadA"}
BACK = {"Escape", "Backspace", "PadB"}
LEAVE = {"F10", "PadStart"}
LISTENS = 6.0  # seconds for a key to be pressed; who has only a mouse gets out by waiting
FIRST_REPEAT, REPEAT = 0.4, 0.09  # seconds that a direction is held
MESSAGE = 6.0  # seconds
HELP = {
    "keys": "Arrows and Enter, Esc back",
    "pad": "Stick or d-pad, A chooses, B back",
    "mouse": "Click, wheel",
}


class Menu:
    """Used in the window's thread."""

    def __init__(
        self, preferences: Preferences, library: Library, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.preferences, self.library, self.changed = preferences, library, changed
        self.is_open = self.is_start = False
        self.is_loading = False  # the world is not there yet
        self.can_branch = True  # whether other starts and moments can be gone to
        self.spec: ActionSpec | None = None  # of the world that is played
        self.page, self.focus, self.scroll = HOME, "", 0
        self._look, self._is_fresh = Look(), True  # the page is drawn for the first time
        self._size, self._view = (640, 480), pygame.Rect(0, 0, 640, 480)  # as last drawn
        self._answer: Answer | None = None
        self._waits: Target | None = None  # whose key is asked for
        self._wait_ends = self._message_ends = 0.0
        self._message = ""
        self._by = "keys"  # what was used last
        self._pointer: tuple[int, int] | None = None  # where the mouse was last
        self._held: tuple[Direction, float] | None = None  # and when it repeats
        self._actions = MenuActions(
            answer=self._give,
            open=self._open_page,
            change_settings=self._change_settings,
            change_controls=self._change_controls,
            listen=self._listen,
            reset_keys=lambda: self._change_controls(usual(self.preferences.controls)),
        )

    def open(self, *, is_start: bool = False) -> None:
        """Show the first page; what was saved meanwhile is looked up."""
        self.is_open, self.is_start = True, is_start
        self.library.look()
        self._open_page(HOME)

    def show_keys(self) -> None:
        """Open the menu at the page that lists the keys."""
        self._open_page(KEYS_PAGE)

    def close(self) -> None:
        """Take the menu off the screen."""
        self.is_open, self._waits, self._held = False, None, None

    def say(self, text: str) -> None:
        """A line at the foot, for a while."""
        self._message, self._message_ends = text, time.perf_counter() + MESSAGE

    def feed(self, event: pygame.event.Event) -> Answer | None:
        """Take note of one device event; returns what the player decided on."""
        self._answer = None
        match event.type:
            case pygame.KEYDOWN:
                self._by = "keys"
                self._key_down(KEYS.get(event.scancode, ""))
            case _ if event.type == PAD_DOWN:
                self._by = "pad"
                self._key_down(event.code)
            case _ if event.type in (pygame.KEYUP, PAD_UP, pygame.WINDOWFOCUSLOST):
                self._held = None
            case pygame.MOUSEMOTION:
                # The first one tells where the pointer rested when the window came up beneath it.
                has_moved = self._pointer not in (None, event.pos)
                self._pointer = event.pos
                if has_moved and self._waits is None and (one := self._at(event.pos)):
                    self._by, self.focus = "mouse", one.item.key
            case pygame.MOUSEBUTTONDOWN if event.button in MOUSE_BUTTONS:
                self._by = "mouse"
                self._click(event)
            case pygame.MOUSEWHEEL:
                self.scroll -= event.y * 3 * self._unit
        return self._answer

    def draw(self, surface: pygame.Surface) -> None:
        """Draw the open page over the picture that is there."""
        self._size = surface.get_size()
        self._tick()
        page = self._page()
        layout = self._lay_out(page)
        if layout.find(self.focus) is None and layout.placed:
            first = layout.find(page.first)
            self.focus = first.item.key if first else layout.placed[0].item.key
            self._is_fresh = True
        foot, unit, top = self._foot(layout), self._unit, 3 * self._unit
        high = max(unit, self._size[1] - top - foot_height(surface, foot, unit))
        shrinks = high < self._view.height and self._by != "mouse"  # a longer help below
        self._view = pygame.Rect(0, top, self._size[0], high)
        if self._is_fresh or shrinks:
            self._is_fresh = False
            self._keep_in_sight(layout)
        self.scroll = max(0, min(self.scroll, layout.height - high))
        self._look.draw(surface, page, layout, self.focus, self._view, self.scroll, foot, unit)

    def _key_down(self, code: str) -> None:
        if self._waits is not None:
            self._assign(code)
            return
        match code:
            case "Tab":
                self._tab()
            case "Home" | "End":
                self._go_to_edge(0 if code == "Home" else -1)
            case "PageUp" | "PageDown":
                for _ in range(4):
                    self._move((0, 1 if code == "PageDown" else -1))
            case _ if code in DIRECTIONS:
                self._held = DIRECTIONS[code], time.perf_counter() + FIRST_REPEAT
                self._move(DIRECTIONS[code])
            case _ if code in PRESS:
                self._press(self._focused())
            case _ if code in BACK and self.page != HOME:
                self._open_page(HOME)
            case _ if code in (*BACK, *LEAVE):
                self._give(GoOn())

    def _click(self, event: pygame.event.Event) -> None:
        if self._waits is not None:
            self._assign(MOUSE_BUTTONS[event.button])
        elif event.button == 3:
            self._key_down("Escape")
        elif one := self._at(event.pos):
            self.focus = one.item.key
            self._click_on(one, event.pos)

    def _click_on(self, one: Placed, position: tuple[int, int]) -> None:
        less, _ = arrows_of(one.box.move(0, self._view.top - self.scroll), self._unit)
        if one.item.change and less.collidepoint(position):
            one.item.change(-1)
        else:
            self._press(one)

    def _press(self, one: Placed | None) -> None:
        if one and one.item.press:
            one.item.press()

    def _move(self, direction: Direction) -> None:
        layout = self._lay_out(self._page())
        here = layout.find(self.focus)
        if here and direction[0] and here.item.change:
            here.item.change(direction[0])
            return
        self.focus = next_one(layout, self.focus, direction)
        self._keep_in_sight(layout)

    def _go_to_edge(self, place: int) -> None:
        layout = self._lay_out(self._page())
        if layout.placed:
            self.focus = layout.placed[place].item.key
            self._keep_in_sight(layout)

    def _tab(self) -> None:
        layout = self._lay_out(self._page())
        names = [one.item.key for one in layout.placed]
        if names:
            place = names.index(self.focus) + 1 if self.focus in names else 0
            self.focus = names[place % len(names)]
            self._keep_in_sight(layout)

    def _keep_in_sight(self, layout: Layout) -> None:
        one = layout.find(self.focus)
        if one is None:
            return
        high = self._view.height
        if one.box.bottom + self._unit > self.scroll + high:
            self.scroll = one.box.bottom + self._unit - high
        above = max(0, min(3 * self._unit, high - one.box.height))  # with its headline
        self.scroll = min(self.scroll, max(0, one.box.top - above))

    def _tick(self) -> None:
        """What happens by itself: a held direction goes on, waiting for a key ends."""
        now = time.perf_counter()
        if self._held and now >= self._held[1]:
            self._held = self._held[0], now + REPEAT
            self._move(self._held[0])
        if self._waits is not None and now > self._wait_ends:
            self._waits = None

    def _assign(self, code: str) -> None:
        target, self._waits = self._waits, None
        if code in ("Escape", "PadStart") or target is None:
            return
        if not code:
            self.say("that key has no name here")
            return
        controls, notice = assign(self.preferences.controls, self.spec or NOTHING, target, code)
        if notice:
            self.say(notice)
        if controls != self.preferences.controls:
            self._change_controls(controls)

    def _listen(self, target: Target) -> None:
        self._waits, self._wait_ends = target, time.perf_counter() + LISTENS

    def _give(self, answer: Answer) -> None:
        self._answer = answer

    def _open_page(self, name: str) -> None:
        self.page, self.focus, self.scroll, self._is_fresh = name, "", 0, True
        page = self._page()
        layout = self._lay_out(page)
        if layout.find(page.first):
            self.focus = page.first

    def _change_settings(self, **changes: Any) -> None:
        self._say_if(self.preferences.set(**changes))

    def _change_controls(self, controls: Controls) -> None:
        self._say_if(self.preferences.set_controls(controls))

    def _say_if(self, problem: str) -> None:
        if problem:
            self.say(problem)
        self.changed()

    def _page(self) -> Page:
        if self.page == SETTINGS:
            return settings(self.preferences, self._actions)
        if self.page == KEYS_PAGE:
            return keys(self.preferences.controls, self.spec, self._actions, self._waits)
        return home(
            self.library,
            self._actions,
            is_start=self.is_start,
            can_branch=self.can_branch,
            is_loading=self.is_loading,
        )

    def _lay_out(self, page: Page) -> Layout:
        return lay_out(page, (self._size[0], self._size[1] - 6 * self._unit), self._unit)

    def _focused(self) -> Placed | None:
        return self._lay_out(self._page()).find(self.focus)

    def _at(self, point: tuple[int, int]) -> Placed | None:
        if not self._view.collidepoint(point):
            return None
        on_page = point[0], point[1] - self._view.top + self.scroll
        return self._lay_out(self._page()).at(on_page)

    def _foot(self, layout: Layout) -> str:
        if self._waits is not None:
            left = max(0, round(self._wait_ends - time.perf_counter()))
            return f"press a key or a gamepad's button ({left} s); Esc or Start: leave it"
        if time.perf_counter() < self._message_ends:
            return self._message
        one = layout.find(self.focus)
        hint = HELP[self._by]
        return f"{one.item.help}. {hint}" if one and one.item.help else hint

    @property
    def _unit(self) -> int:
        return line_height(self._size, self.preferences.settings.font)
