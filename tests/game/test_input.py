import os
import time
from pathlib import Path

import pytest

from worldmodel.action import Action, ActionSpec, Prompt
from worldmodel.config import ConfigError
from worldmodel.game.controls import Command, Controls, load_controls

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import SPEC
from worldmodel.game.input import Input, happened


def key(code: int, *, down: bool = True, mod: int = 0) -> pygame.event.Event:
    kind = pygame.KEYDOWN if down else pygame.KEYUP
    return pygame.event.Event(kind, scancode=code, mod=mod)


def motion(dx: int, dy: int) -> pygame.event.Event:
    return pygame.event.Event(pygame.MOUSEMOTION, rel=(dx, dy))


def click(button: int = 1) -> pygame.event.Event:
    return pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=button)


def devices_for(spec: ActionSpec = SPEC, controls: Controls | None = None) -> Input:
    devices = Input(controls or Controls())
    devices.learn(spec)
    return devices


def spec_with(*buttons: str, look_up_down: bool = False) -> ActionSpec:
    return ActionSpec(
        buttons=buttons,
        names=buttons,
        mouse_degrees=15.0,
        max_mouse_degrees=15.0,
        look_up_down=look_up_down,
    )


def test_a_tap_shorter_than_a_frame_counts_for_exactly_one_frame() -> None:
    devices = devices_for()
    devices.feed(key(pygame.KSCAN_W))
    devices.feed(key(pygame.KSCAN_W, down=False))
    assert devices.take().action.buttons == {"KeyW"}
    assert devices.take().action.buttons == set()


def test_a_held_key_counts_until_it_is_released() -> None:
    devices = devices_for()
    devices.feed(key(pygame.KSCAN_W))
    assert [devices.take().action.buttons for _ in range(3)] == [{"KeyW"}] * 3
    devices.feed(key(pygame.KSCAN_W, down=False))
    assert devices.take().action.buttons == set()


def test_mouse_travel_adds_up_and_is_zeroed_by_taking() -> None:
    devices = devices_for(controls=Controls(degrees_per_pixel=0.5))
    devices.feed(click())
    for _ in range(3):
        devices.feed(motion(4, -2))
    assert devices.take().action.mouse == (6.0, -3.0)
    assert devices.take().action.mouse == (0.0, 0.0)


def test_the_mouse_is_ignored_until_a_click_captures_it_and_that_click_is_no_action() -> None:
    devices = devices_for(spec_with("Mouse0"))
    devices.feed(motion(50, 0))
    assert devices.take().action.mouse == (0.0, 0.0)
    devices.feed(click())
    assert devices.captured
    assert devices.take().action.buttons == set()
    devices.feed(click())
    assert devices.take().action.buttons == {"Mouse0"}


@pytest.mark.parametrize("event", [pygame.event.Event(pygame.WINDOWFOCUSLOST), key(41)])
def test_focus_loss_and_escape_release_everything(event: pygame.event.Event) -> None:
    devices = devices_for()
    devices.feed(click())
    devices.feed(key(pygame.KSCAN_W))
    devices.feed(motion(9, 9))
    devices.feed(event)
    assert not devices.captured
    assert devices.take() == (devices_for().take())


def test_escape_never_quits_and_closing_the_window_does() -> None:
    devices = devices_for()
    devices.feed(key(pygame.KSCAN_ESCAPE))
    devices.feed(key(pygame.KSCAN_ESCAPE))
    assert not devices.quit
    devices.feed(pygame.event.Event(pygame.QUIT))
    assert devices.quit


def test_arrow_keys_turn_unless_the_world_names_them() -> None:
    turning = devices_for()
    turning.feed(key(pygame.KSCAN_LEFT))
    assert turning.take().action.mouse == (-6.0, 0.0)
    assert turning.take().action.mouse == (-6.0, 0.0)

    named = devices_for(spec_with("ArrowLeft"))
    named.feed(key(pygame.KSCAN_LEFT))
    assert named.take().action.buttons == {"ArrowLeft"}
    assert named.take().action.mouse == (0.0, 0.0)


def test_up_and_down_look_only_where_looking_up_means_something() -> None:
    flat, tall = devices_for(), devices_for(spec_with("KeyW", look_up_down=True))
    for devices in (flat, tall):
        devices.feed(key(pygame.KSCAN_UP))
    assert flat.take().action.mouse == (0.0, 0.0)
    assert tall.take().action.mouse == (0.0, -6.0)


def test_runtime_keys_are_commands_and_never_actions() -> None:
    devices = devices_for()
    assert devices.feed(key(pygame.KSCAN_F4)) is Command.RESTART
    assert devices.feed(key(pygame.KSCAN_TAB)) is Command.NEXT_START
    assert devices.feed(key(pygame.KSCAN_TAB, mod=pygame.KMOD_LALT)) is None
    taken = devices.take()
    assert taken.action.buttons == set()
    assert taken.event_time is None


def test_a_key_that_the_world_names_is_no_runtime_key() -> None:
    devices = devices_for(spec_with("KeyP"))
    assert devices.feed(key(pygame.KSCAN_P)) is None
    assert devices.take().action.buttons == {"KeyP"}


def test_the_time_is_that_of_the_oldest_event_not_yet_taken() -> None:
    devices = devices_for()
    before = time.perf_counter()
    devices.feed(key(pygame.KSCAN_W))
    after = time.perf_counter()
    devices.feed(key(pygame.KSCAN_A))
    event_time = devices.take().event_time
    assert event_time is not None
    assert before <= event_time <= after
    assert devices.take().event_time is None, "a held key is no new event"


def test_where_pygame_dates_an_event_that_is_when_it_happened() -> None:
    pygame.time.Clock()  # starts the ticks
    time.sleep(0.06)
    dated = pygame.event.Event(pygame.KEYDOWN, timestamp=pygame.time.get_ticks() - 50)
    assert time.perf_counter() - happened(dated) == pytest.approx(0.05, abs=0.02)
    undated = pygame.event.Event(pygame.KEYDOWN)
    assert time.perf_counter() - happened(undated) == pytest.approx(0, abs=0.02)
    early = pygame.event.Event(pygame.KEYDOWN, timestamp=pygame.time.get_ticks() + 9000)
    assert happened(early) <= time.perf_counter()


def test_what_happened_unasked_is_forgotten_but_held_keys_stay_held() -> None:
    devices = devices_for()
    devices.feed(click())
    devices.feed(key(pygame.KSCAN_W))
    devices.feed(motion(50, 0))
    devices.discard()
    taken = devices.take()
    assert taken.action.buttons == {"KeyW"}
    assert taken.action.mouse == (0.0, 0.0)
    assert taken.event_time is None


def test_a_controls_file_puts_buttons_on_other_keys(tmp_path: Path) -> None:
    path = tmp_path / "controls.toml"
    path.write_text(
        'turn_degrees = 3\n[buttons]\nKeyW = "ArrowUp"\nKeyA = ["KeyQ", "Numpad4"]\n',
        encoding="utf-8",
    )
    devices = devices_for(controls=load_controls(path))
    devices.feed(key(pygame.KSCAN_W))
    assert devices.take().action.buttons == set()
    devices.feed(key(pygame.KSCAN_UP))
    devices.feed(key(pygame.KSCAN_KP_4))
    devices.feed(key(pygame.KSCAN_RIGHT))
    taken = devices.take().action
    assert taken.buttons == {"KeyW", "KeyA"}
    assert taken.mouse == (3.0, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed = 2", r"controls.toml: unknown key 'speed'; choose from degrees_per_pixel"),
        ('[buttons]\nKeyW = "Keyw"', r"no key is called 'Keyw'.*KeyW"),
        ('[buttons]\nKeyW = "Escape"', r"Escape always releases the mouse"),
        ("degrees_per_pixel = 0", r"must be above 0"),
        ("degrees_per_pixel = ", r"cannot be read as TOML"),
    ],
)
def test_a_wrong_controls_file_is_named_with_its_mistake(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "controls.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_controls(path)


def type_line(devices: Input, text: str, end: int, mod: int = 0) -> None:
    devices.begin_line()
    for letter in text:
        devices.feed(pygame.event.Event(pygame.TEXTINPUT, text=letter))
    devices.feed(key(end, mod=mod))


def test_words_are_said_once_and_their_letters_press_nothing() -> None:
    devices = devices_for()
    devices.feed(key(pygame.KSCAN_W))
    devices.begin_line()
    assert devices.take().action.buttons == set()  # nothing stays held behind the words
    devices.feed(key(pygame.KSCAN_A))
    devices.feed(pygame.event.Event(pygame.TEXTINPUT, text="rainn"))
    devices.feed(key(pygame.KSCAN_BACKSPACE))
    assert devices.line == "rain"
    assert devices.feed(key(pygame.KSCAN_F4)) is None
    devices.feed(key(pygame.KSCAN_RETURN))
    assert devices.line is None
    taken = devices.take()
    assert taken.action == Action(prompt=Prompt("rain"))
    assert taken.event_time is not None
    assert devices.take().action.prompt is None


def test_shift_lets_words_change_the_past_and_escape_says_nothing() -> None:
    devices = devices_for()
    type_line(devices, "snow", pygame.KSCAN_RETURN, mod=pygame.KMOD_LSHIFT)
    assert devices.take().action.prompt == Prompt("snow", renew=True)
    for text, end in (("snow", pygame.KSCAN_ESCAPE), ("  ", pygame.KSCAN_RETURN)):
        type_line(devices, text, end)
        assert devices.take().action.prompt is None


def test_only_worlds_with_text_listen_to_words() -> None:
    talks = ActionSpec(buttons=(), names=(), mouse_degrees=1.0, max_mouse_degrees=1.0, prompts=True)
    assert devices_for(talks).feed(key(pygame.KSCAN_RETURN)) is Command.PROMPT
    assert devices_for().feed(key(pygame.KSCAN_RETURN)) is None
    assert SPEC.known(Action(prompt=Prompt("rain"))) == Action()
    assert talks.known(Action(prompt=Prompt("rain"))).prompt == Prompt("rain")
