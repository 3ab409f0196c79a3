"""The menu in the real game loop, with one kind of device at a time, on SDL's dummy driver."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import SPEC, DrawnWorld
from worldmodel.game.controls import Command
from worldmodel.game.generator import InLine
from worldmodel.game.input import Input
from worldmodel.game.jumps import Elsewhere, ToStart
from worldmodel.game.key_names import KEYS
from worldmodel.game.loop import Game
from worldmodel.game.menu.content import GoOn
from worldmodel.game.menu.library import Installed, Library, StartEntry
from worldmodel.game.menu.menu import Menu
from worldmodel.game.play_session import Keeping, Session
from worldmodel.game.preferences import Preferences
from worldmodel.game.recording_control import Place, RecordingControl
from worldmodel.game.reference_play import SideBySide
from worldmodel.game.save_worker import SaveWorker
from worldmodel.game.window import Window
from worldmodel.storage.moments import list_moments

SCANCODES = {code: scancode for scancode, code in KEYS.items()}
PADS = {"up": 11, "down": 12, "left": 13, "right": 14, "A": 0, "B": 1, "start": 6}


def installed(folder: Path, name: str) -> Installed:
    picture = DrawnWorld().reset(0, 0)
    starts = [StartEntry(caption=caption, picture=picture) for caption in DrawnWorld().starts]
    return Installed(
        folder=folder, name=name, title="squares", frame_size=(48, 64), frames_per_second=30.0,
        megabytes=1.0, actions=SPEC, starts=starts, measured=29.5,
    )  # fmt: skip


class DrawnShelf(Library):
    """Worlds that are nowhere on disk; moments are those of the tests' own folder."""

    def look(self) -> None:
        self.worlds = [installed(Path("here"), "drawn"), installed(Path("there"), "other")]
        self.moments = list_moments("drawn", self.folder)

    folder = Path()


@pytest.fixture
def game(window: Window, tmp_path: Path) -> Iterator[Game]:
    preferences = Preferences.read(folder=tmp_path / "config")
    devices = Input(preferences.controls)
    save_worker = SaveWorker(tmp_path / "moments")
    session = Session(
        DrawnWorld(), lambda _: devices.take(), keeping=Keeping(save_worker=save_worker)
    )
    library = DrawnShelf(Path("here"))
    library.folder = tmp_path / "moments"
    menu = Menu(preferences, library, lambda: playing.adopt(preferences))
    window.menu = menu
    recording_control = RecordingControl(Place(tmp_path, "clip"), lambda _: None)
    playing = Game(
        InLine(lambda: session),
        window,
        devices,
        recording_control,
        save_worker=save_worker,
        menu=menu,
    )
    yield playing
    save_worker.close(None)


def screen() -> pygame.Surface:
    surface = pygame.display.get_surface()
    assert surface
    return surface


def turn(game: Game) -> None:
    """The loop with what is in the queue, until everything was heard and done."""
    for _ in range(4):
        pygame.event.post(pygame.event.Event(pygame.QUIT))
        game.play()
        game.devices.quit = False


def key(*codes: str) -> None:
    for code in codes:
        for kind in (pygame.KEYDOWN, pygame.KEYUP):
            pygame.event.post(pygame.event.Event(kind, scancode=SCANCODES[code], mod=0))


def pad(*names: str) -> None:
    for name in names:
        for kind in (pygame.CONTROLLERBUTTONDOWN, pygame.CONTROLLERBUTTONUP):
            pygame.event.post(pygame.event.Event(kind, instance_id=0, button=PADS[name]))


def open_menu(game: Game) -> Menu:
    turn(game)
    key("F10")
    turn(game)
    assert game.menu
    assert game.menu.is_open
    assert game.is_paused()
    return game.menu


def centre(menu: Menu, name: str) -> tuple[int, int]:
    menu.draw(screen())
    one = menu._lay_out(menu._page()).find(name)
    assert one
    menu._keep_in_sight(menu._lay_out(menu._page()))
    x, y = one.box.center
    return x, y - menu.scroll + menu._view.top


def click(point: tuple[int, int]) -> None:
    pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, pos=point, rel=(0, 0)))
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, pos=point, button=1))


def test_escape_releases_the_mouse_first_and_opens_the_menu_then(game: Game) -> None:
    turn(game)
    game.is_human = False  # the dummy driver has no mouse to capture
    game.devices.captured = True
    assert game.menu
    key("Escape")
    turn(game)
    assert not game.menu.is_open
    key("Escape")
    turn(game)
    assert game.menu.is_open
    key("Escape")
    turn(game)
    assert not game.menu.is_open
    assert not game.is_paused()


def test_the_world_rests_behind_the_menu_and_a_pause_of_the_players_own_stays(game: Game) -> None:
    open_menu(game)
    key("Enter")
    turn(game)
    assert not game.is_paused()
    key("KeyP", "F10")
    turn(game)
    key("F10")
    turn(game)
    assert game.is_paused()


def test_a_mouse_that_rests_beneath_the_menu_chooses_nothing(game: Game) -> None:
    """A window that comes up under it hears where it is, once; Enter is for what was in focus."""
    menu = open_menu(game)
    point = centre(menu, "start 1")
    for x in (point[0], point[0], point[0] + 1):
        before = menu.focus
        menu.feed(pygame.event.Event(pygame.MOUSEMOTION, pos=(x, point[1]), rel=(0, 0)))
    assert (before, menu.focus) == ("play", "start 1")


@pytest.mark.parametrize("how", ["keys", "pad", "mouse"])
def test_every_device_alone_begins_at_another_start(game: Game, how: str) -> None:
    menu = open_menu(game)
    if how == "keys":
        key("ArrowDown", "ArrowRight", "Enter")
    elif how == "pad":
        pad("down", "right", "A")
    else:
        click(centre(menu, "start 1"))
    turn(game)
    session = game.source.session
    assert session
    assert session.start == 1
    assert not menu.is_open
    assert not game.is_paused()


@pytest.mark.parametrize("how", ["keys", "pad", "mouse"])
def test_every_device_alone_changes_a_setting_that_holds_and_lasts(
    game: Game, how: str, tmp_path: Path
) -> None:
    menu = open_menu(game)
    if how == "keys":
        key("ArrowUp", "ArrowRight", "Enter")
        turn(game)
        key("ArrowRight", "Escape", "Escape")
    elif how == "pad":
        pad("up", "right", "A")
        turn(game)
        pad("right", "B", "B")
    else:
        click(centre(menu, "settings"))
        turn(game)
        click(centre(menu, "font"))
        turn(game)
        click(centre(menu, "back"))
        turn(game)
        click(centre(menu, "go on"))
    turn(game)
    assert not menu.is_open
    assert game.window.overlay.font == 1.25
    assert Preferences.read(folder=tmp_path / "config").settings.font == 1.25


def test_a_key_is_put_on_another_place_by_pressing_it_and_the_two_swap(
    game: Game, tmp_path: Path
) -> None:
    menu = open_menu(game)
    menu.show_keys()
    assert menu.focus == "button KeyW"
    key("Enter", "KeyS")
    turn(game)
    key("F10")
    turn(game)
    game.devices.discard()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, scancode=SCANCODES["KeyS"], mod=0))
    turn(game)
    assert game.window.overlay.action.buttons == {"KeyW"}
    kept = Preferences.read(folder=tmp_path / "config").controls
    assert (kept.buttons["KeyW"], kept.buttons["KeyS"]) == (("KeyS",), ("KeyW",))


def test_the_keys_page_shows_devices_apart_and_says_who_lost_a_key(game: Game) -> None:
    menu = open_menu(game)
    menu.show_keys()
    rows = {one.item.key: one.item for one in menu._lay_out(menu._page()).placed}
    row = rows["button KeyW"]
    assert (row.value, row.second) == ("W", "stick up or d-pad up")
    assert (rows["restart"].value, rows["restart"].second) == ("F4", "–")
    key("Enter", "KeyS")
    turn(game)
    told = menu._foot(menu._lay_out(menu._page()))
    assert told == "S was taken from “back”, which is on W now"
    menu.focus = "button KeyA"
    key("Enter", "F4")
    turn(game)
    assert "F4 was taken from “restart”, which is on A now" in menu._foot(
        menu._lay_out(menu._page())
    )


def test_the_start_screen_says_that_the_world_loads_until_it_is_there(game: Game) -> None:
    assert game.menu
    game.menu.is_loading = True
    game.open_menu(is_start=True)
    assert game.menu._page().status == "drawn is loading…"
    turn(game)
    assert game.menu._page().status == ""


def test_f7_on_the_start_screen_plays_with_the_real_game(game: Game) -> None:
    told: list[str] = []
    game.side_by_side = SideBySide(None, told.append)
    game.open_menu(is_start=True)
    key("F7")
    turn(game)
    assert game.menu
    assert not game.menu.is_open
    assert told == ["the real game is not shown: no real game can be started here"]


def test_a_gamepads_button_can_be_given_a_command_but_start_and_escape_lead_out(
    game: Game,
) -> None:
    menu = open_menu(game)
    menu.show_keys()
    menu.focus = "pause"
    pad("A", "B")
    turn(game)
    controls = menu.preferences.controls
    assert controls.commands["pause"] == ("PadB",)
    menu.focus = "restart"
    pad("A", "start")
    turn(game)
    assert "restart" not in menu.preferences.controls.commands
    assert menu.is_open


def test_a_saved_moment_is_gone_to_from_its_picture(game: Game) -> None:
    turn(game)
    game.obey(Command.SAVE)
    turn(game)
    assert game.save_worker
    game.save_worker.close(None)
    game.save_worker = None
    saved = game.source.session
    assert saved
    menu = open_menu(game)
    (moment,) = menu.library.moments
    menu.draw(screen())
    menu.focus = f"moment {moment.path}"
    key("Enter")
    segment = saved.segment
    turn(game)
    assert saved.segment == segment + 1
    assert saved.index >= moment.header.index


def test_another_world_ends_this_play_and_is_named(game: Game) -> None:
    menu = open_menu(game)
    menu.focus = "world there"
    key("Enter")
    game.play()
    assert game.elsewhere == Elsewhere("there")


def test_on_the_start_screen_a_key_of_the_world_plays_already(game: Game) -> None:
    game.open_menu(is_start=True)
    turn(game)
    assert game.is_paused()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, scancode=SCANCODES["KeyW"], mod=0))
    turn(game)
    assert game.menu
    assert not game.menu.is_open
    assert not game.is_paused()
    assert game.window.overlay.action.buttons == {"KeyW"}


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (3840, 2160), (320, 200)])
@pytest.mark.parametrize("font", [0.75, 1.0, 3.0])
def test_every_item_of_every_page_can_be_reached_and_is_seen(
    game: Game, size: tuple[int, int], font: float
) -> None:
    menu = open_menu(game)
    menu.preferences.settings = type(menu.preferences.settings)(font=font)
    surface = pygame.Surface(size)
    for page in ("home", "settings", "keys"):
        menu._open_page(page)
        menu.draw(surface)
        layout = menu._lay_out(menu._page())
        reached = set()
        for _ in range(2 * len(layout.placed)):
            menu._tab()
            menu.draw(surface)
            one = menu._lay_out(menu._page()).find(menu.focus)
            assert one
            reached.add(menu.focus)
            assert one.box.left >= 0
            assert one.box.right <= size[0]
            assert one.box.bottom > menu.scroll
            assert one.box.top < menu.scroll + menu._view.height
            if min(size) >= 480:  # the whole of it
                assert one.box.top >= menu.scroll
                assert one.box.bottom <= menu.scroll + menu._view.height
        assert reached == {one.item.key for one in layout.placed}


def test_arrows_reach_every_item_of_the_first_page(game: Game) -> None:
    menu = open_menu(game)
    menu.draw(screen())
    layout = menu._lay_out(menu._page())
    seen, todo = set(), [menu.focus]
    while todo:
        menu.focus = todo.pop()
        if menu.focus in seen:
            continue
        seen.add(menu.focus)
        start = menu.focus
        for way in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            menu.focus = start
            menu._move(way)
            todo.append(menu.focus)
    assert seen == {one.item.key for one in layout.placed}


def test_answers_come_from_what_is_in_focus(game: Game) -> None:
    menu = open_menu(game)
    assert isinstance(menu.feed(pygame.event.Event(pygame.KEYDOWN, scancode=40)), GoOn)
    menu.focus = "start 0"
    assert menu.feed(pygame.event.Event(pygame.KEYDOWN, scancode=40)) == ToStart(0)


def test_a_rewind_ends_where_the_menu_opens(game: Game) -> None:
    turn(game)
    for code in ("Backspace", "F10"):
        event = pygame.event.Event(pygame.KEYDOWN, scancode=SCANCODES[code], mod=0)
        pygame.event.post(event)
    turn(game)
    session = game.source.session
    assert session
    assert session.paused
    assert session.seconds_to_wait() is None, "it rests, it does not go back"
