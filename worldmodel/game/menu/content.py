"""What is on each page of the menu."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worldmodel.action import ActionSpec
from worldmodel.game.controls import Command, Controls, KeyMap
from worldmodel.game.jumps import Elsewhere, Order, ToMoment, ToStart
from worldmodel.game.key_names import labels
from worldmodel.game.menu.layout import Item, Page, Section
from worldmodel.game.menu.library import Installed, Library
from worldmodel.game.menu.remap import NOTHING, Target
from worldmodel.game.preferences import (
    LARGEST_FONT,
    SMALLEST_FONT,
    DisplaySettings,
    Filter,
    Preferences,
    Scaling,
)
from worldmodel.storage.moments import MomentEntry, ago

HOME, SETTINGS, KEYS_PAGE = "home", "settings", "keys"
SENSITIVITIES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0)  # degrees a pixel
TURNS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 14.0, 20.0)  # degrees a frame
DEVICES = ("Keyboard, mouse", "Gamepad")
ZONES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
FONTS = (SMALLEST_FONT, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, LARGEST_FONT)


class GoOn:
    """The answer that closes the menu."""


class Quit:
    """The answer that ends the game."""


Answer = GoOn | Quit | Order | Elsewhere


@dataclass(frozen=True, slots=True)
class MenuActions:
    """What pressing things does: `Menu` actions these in."""

    answer: Callable[[Answer], None]
    open: Callable[[str], None]
    change_settings: Callable[..., None]
    change_controls: Callable[[Controls], None]
    listen: Callable[[Target], None]
    reset_keys: Callable[[], None]


def home(
    library: Library,
    actions: MenuActions,
    *,
    is_start: bool,
    can_branch: bool,
    is_loading: bool = False,
) -> Page:
    """The page on which a world and a start are chosen."""
    here = library.current
    worlds = [
        _world(world, library, actions) for world in library.worlds if can_branch or world is here
    ]
    sessions = [
        _moment(one, library, actions, "session") for one in library.sessions[:3] if can_branch
    ]
    tiles = [*(worlds or [_nameless(actions)]), *sessions]
    title = "Worlds and last sessions" if sessions else "Worlds"
    sections = [_doors(actions, is_start=is_start), Section(title, "tiles", tiles)]
    if can_branch:
        if here:
            sections.append(Section(f"Starts of {here.name}", "tiles", _starts(here, actions)))
        moments = [_moment(one, library, actions, "moment") for one in library.moments]
        title = "Saved moments" if moments else _nothing_saved(library)
        sections.append(Section(title, "tiles", moments))
    title = "worldmodel" if is_start else "worldmodel: paused"
    status = f"{here.name if here else 'the world'} is loading…" if is_loading else ""
    return Page(title, sections, first="play", status=status)


def settings(preferences: Preferences, actions: MenuActions) -> Page:
    """Everything that lasts but the keys."""
    back = Item(key="back", text="Back", press=lambda: actions.open(HOME))
    keys = Item(key="keys", text="Keys and gamepad", press=lambda: actions.open(KEYS_PAGE))
    sections = (
        Section("", "buttons", (back, keys)),
        Section("Picture", "rows", _picture_rows(preferences.settings, actions)),
        Section("Mouse, arrow keys, gamepad", "rows", _control_rows(preferences.controls, actions)),
    )
    return Page("Settings", sections, first="font")


def _picture_rows(now: DisplaySettings, actions: MenuActions) -> tuple[Item, ...]:
    """How the window looks."""

    def choice(name: str, text: str, values: Sequence[Any], shown: Sequence[str]) -> Item:
        value = getattr(now, name)

        def step(by: int) -> None:
            actions.change_settings(**{name: _stepped(values, value, by, round_trip=True)})

        return _row(name, text, shown[list(values).index(value)], step)

    def switch(name: str, text: str) -> Item:
        return choice(name, text, (False, True), ("off", "on"))

    def font(by: int) -> None:
        actions.change_settings(font=_stepped(FONTS, now.font, by))

    return (
        _row("font", "Size of letters", f"{now.font:.0%}", font),
        choice("scaling", "Picture", _choices(Scaling), ("as large as fits", "whole pixels")),
        choice("filter", "Smoothing", _choices(Filter), _choices(Filter)),
        switch("fullscreen", "Fullscreen"),
        switch("numbers", "Numbers and keys"),
        switch("start_screen", "Start screen"),
    )


def _control_rows(controls: Controls, actions: MenuActions) -> tuple[Item, ...]:
    """How fast the devices turn, and which way."""
    pad = controls.gamepad

    def change(**values: Any) -> None:
        actions.change_controls(replace(controls, **values))

    def mouse(by: int) -> None:
        change(degrees_per_pixel=_stepped(SENSITIVITIES, controls.degrees_per_pixel, by))

    def turn(by: int) -> None:
        change(turn_degrees=_stepped(TURNS, controls.turn_degrees, by))

    def look(by: int) -> None:
        change(gamepad=replace(pad, look_degrees=_stepped(TURNS, pad.look_degrees, by)))

    def zone(by: int) -> None:
        change(gamepad=replace(pad, dead_zone=_stepped(ZONES, pad.dead_zone, by)))

    def invert(name: str, text: str) -> Item:
        value = getattr(controls, name)
        return _row(name, text, "on" if value else "off", lambda _: change(**{name: not value}))

    return (
        _row("mouse", "Mouse", f"{controls.degrees_per_pixel:g}° a pixel", mouse),
        _row("turn", "Turn with arrow keys", f"{controls.turn_degrees:g}° a frame", turn),
        invert("invert_left_right", "Invert left and right"),
        invert("invert_up_down", "Invert up and down"),
        _row("look", "Look with gamepad", f"{pad.look_degrees:g}° a frame", look),
        _row("zone", "Gamepad's dead zone", f"{pad.dead_zone:.0%}", zone),
    )


def keys(
    controls: Controls, spec: ActionSpec | None, actions: MenuActions, waits: Target | None
) -> Page:
    """What does what; press one to put it on another key."""
    spec = spec or NOTHING
    held = KeyMap.of(spec, controls)

    def row(target: Target, name: str) -> Item:
        own, pads = labels(held.keys_of(target, pad=False)), held.keys_of(target, pad=True)
        value, second = own, labels(pads)
        if target == waits:
            value, second = "press a key…", "or a button…"
        key = target.key if isinstance(target, Command) else f"button {target}"
        tip = f"{name}: {own}" + (f"; gamepad: {labels(pads)}" if pads else "")
        return Item(
            key=key,
            text=name.partition(";")[0],
            value=value,
            second=second,
            help=tip,
            press=lambda: actions.listen(target),
        )

    buttons = [row(b, name) for b, name in zip(spec.buttons, spec.names, strict=True)]
    commands = [row(c, c.value) for c in Command if c not in (Command.GO_ON, Command.MENU)]
    doors = (
        Item(key="back", text="Back", press=lambda: actions.open(HOME)),
        Item(key="usual", text="Reset all keys", press=actions.reset_keys),
    )
    sections = (
        Section("", "buttons", doors),
        Section("In this world", "rows", buttons, DEVICES),
        Section("Everywhere", "rows", commands, DEVICES),
    )
    return Page("Keys and gamepad", sections, first=buttons[0].key if buttons else "controls")


def _doors(actions: MenuActions, *, is_start: bool) -> Section:
    doors = [
        Item(key="go on", text="Continue", press=lambda: actions.answer(GoOn())),
        Item(key="settings", text="Settings", press=lambda: actions.open(SETTINGS)),
        Item(key="keys", text="Keys and gamepad", press=lambda: actions.open(KEYS_PAGE)),
        Item(key="quit", text="Quit", press=lambda: actions.answer(Quit())),
    ]
    return Section("", "buttons", doors[1:] if is_start else doors)


def _nameless(actions: MenuActions) -> Item:
    """While nothing is known yet, the world that loads can be played already."""
    go_on = GoOn()
    return Item(key="play", text="Play", details=("", ""), press=lambda: actions.answer(go_on))


def _world(world: Installed, library: Library, actions: MenuActions) -> Item:
    rows, columns = world.frame_size
    rate = world.frames_per_second
    speed = f"{world.measured:.1f} of {rate:g} fps here" if world.measured else f"{rate:g} fps"
    is_here = world.folder == library.here
    answer = GoOn() if is_here else Elsewhere(str(world.folder))
    return Item(
        key="play" if is_here else f"world {world.folder}",
        text=f"Play {world.name}" if is_here else world.name,
        details=(f"{columns} × {rows}, {world.megabytes:.0f} MB", speed),
        help=world.title,
        picture=world.starts[0].picture if world.starts else None,
        press=lambda: actions.answer(answer),
    )


def _starts(here: Installed, actions: MenuActions) -> list[Item]:
    def item(number: int, caption: str, picture: Any) -> Item:
        return Item(
            key=f"start {number}",
            text=caption,
            picture=picture,
            press=lambda: actions.answer(ToStart(number)),
        )

    return [item(i, start.caption, start.picture) for i, start in enumerate(here.starts)]


def _moment(kept: MomentEntry, library: Library, actions: MenuActions, kind: str) -> Item:
    header, here = kept.header, library.current
    is_here = here is not None and header.world == here.name
    answer = ToMoment(kept.path) if is_here else Elsewhere(None, kept.path)
    minutes, seconds = divmod(round(header.seconds), 60)
    what = "interrupted" if kept.is_autosave else "last session"
    text = what.capitalize() if kind == "session" else header.caption
    place = f"{minutes}:{seconds:02} in {header.caption if kind == 'session' else header.world}"
    return Item(
        key=f"{kind} {kept.path}",
        text=text,
        details=(place, ago(header.saved_at)),
        help=f"{header.world}, {header.caption}, frame {header.index}: {kept.path.name}",
        picture=kept.frame,
        press=lambda: actions.answer(answer),
    )


def _nothing_saved(library: Library) -> str:
    return "Looking for saved moments…" if library.is_looking else "Nothing is saved yet: F5 saves"


def _row(key: str, text: str, value: str, step: Callable[[int], None]) -> Item:
    full = f"{text}: {value}"  # a narrow row has no room for all of it
    return Item(key=key, text=text, value=value, help=full, change=step, press=lambda: step(1))


def _choices(kind: Any) -> tuple[str, ...]:
    return tuple(kind.__args__)


def _stepped(values: Sequence[Any], value: Any, by: int, *, round_trip: bool = False) -> Any:
    """The next of some values; one that lies between two counts as the nearest."""
    if value in values:
        index = list(values).index(value) + by
    else:
        index = min(range(len(values)), key=lambda i: abs(values[i] - value))
    return values[index % len(values) if round_trip else max(0, min(len(values) - 1, index))]
