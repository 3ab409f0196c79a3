"""Keys act by place and are named by the active layout: WASD is ZQSD on a French keyboard."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pygame
import pytest

from tests.game.drawn_world import DrawnWorld
from tests.training.tiny_data import SPEC
from worldmodel.action import IDLE
from worldmodel.game import keyboard_layout
from worldmodel.game.controls import Controls, describe, describe_pause
from worldmodel.game.free_space import FreeSpace
from worldmodel.game.generator import InLine
from worldmodel.game.input import Input
from worldmodel.game.key_names import label
from worldmodel.game.key_overlay import draw_keys
from worldmodel.game.loop import Game
from worldmodel.game.menu.content import keys
from worldmodel.game.menu.remap import assign
from worldmodel.game.play_session import Session
from worldmodel.game.recording_control import Place, RecordingControl
from worldmodel.game.window import Window

AZERTY = {"KeyW": "Z", "KeyA": "Q", "KeyQ": "A", "KeyZ": "W", "KeyM": ",", "Semicolon": "M",
          "Period": ":", "Digit1": "1", "Space": "Space", "ArrowLeft": "Left"}  # fmt: skip
SHOW = """
import json, sys, pygame
from worldmodel.game.window import Window
from worldmodel.game.key_names import label
with Window("x") as window:
    window.events(0.2)
    print(json.dumps({code: label(code) for code in sys.argv[1:]}))
"""


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window("x") as window:
        yield window
    keyboard_layout.forget_layout()


def french(patch: pytest.MonkeyPatch) -> None:
    """What SDL tells on a French keyboard: the place of each letter."""
    usual = pygame.key.ScancodeWrapper
    places = {ord("z"): pygame.KSCAN_W, ord("w"): pygame.KSCAN_Z, ord("q"): pygame.KSCAN_A}
    places |= {ord("a"): pygame.KSCAN_Q, ord("m"): pygame.KSCAN_SEMICOLON}
    places |= {ord(","): pygame.KSCAN_M, ord(":"): pygame.KSCAN_PERIOD, ord("&"): pygame.KSCAN_1}
    places |= {ord(";"): pygame.KSCAN_COMMA, ord("."): 0}

    class Places(dict[int, int]):
        def __init__(self, table: tuple[int, ...]) -> None:
            super().__init__()
            self.usual = usual(table)  # type: ignore[arg-type]  # as pygame's stubs have it

        def __missing__(self, key: int) -> int:
            return places.get(key, self.usual[key])

    patch.setattr(pygame.key, "ScancodeWrapper", Places)


@pytest.mark.skipif(not all(map(shutil.which, ("xvfb-run", "setxkbmap"))), reason="no X server")
@pytest.mark.parametrize(
    ("country", "expected"),
    [("fr", AZERTY), ("de", {"KeyZ": "Y", "KeyY": "Z", "Semicolon": "Ö", "Minus": "ß"}),
     ("ru", {"KeyW": "Ц", "Period": "Ю"}), ("us", {"KeyW": "W", "Period": "."})],
)  # fmt: skip
def test_a_real_layout_names_the_keys(country: str, expected: dict[str, str]) -> None:
    inner = f'setxkbmap {country}; exec "$@"'
    server = ["xvfb-run", "-a", "-s", "-noreset", "sh", "-c", inner, "sh"]
    environment = {**os.environ, "SDL_VIDEODRIVER": "x11"}
    done = subprocess.run(
        [*server, sys.executable, "-c", SHOW, *expected],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_help_pause_and_menu_name_keys_as_the_layout_does(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert label("KeyW") == "W"
    french(monkeypatch)
    window.events(0.0)
    keyboard_layout.forget_layout()
    assert {code: label(code) for code in AZERTY} == AZERTY
    controls = Controls(buttons={SPEC.buttons[0]: ("KeyW",)})
    assert describe(SPEC, controls)[0][0] == "Z"
    assert describe_pause(SPEC, controls) == "P to go on      :  one frame"
    hands = SimpleNamespace(reset_keys=None)  # nobody presses anything
    page = keys(controls, SPEC, hands, None)  # type: ignore[arg-type]  # these are no real hands
    assert page.sections[1].items[0].value.startswith("Z")
    assert assign(controls, SPEC, SPEC.buttons[0], "Escape")[1].startswith("Esc ")


def test_the_screen_changes_with_the_layout(
    window: Window, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    devices = Input(Controls())
    source = InLine(lambda: Session(DrawnWorld(), lambda _: devices.take()))
    recording_control = RecordingControl(Place(tmp_path, "clip"), lambda _: None)
    game = Game(source, window, devices, recording_control, frames=2)

    def caps() -> bytes:
        surface = pygame.Surface((320, 240))
        assert window.overlay.spec
        draw_keys(surface, FreeSpace(surface.get_size()), window.overlay.spec, IDLE, 12)
        return pygame.image.tobytes(surface, "RGB")

    game.play()
    before = caps()
    assert ("W", "forward") in window.overlay.controls
    french(monkeypatch)
    assert caps() == before  # nobody said that the layout has changed
    pygame.event.post(pygame.event.Event(pygame.KEYMAPCHANGED))
    game.frames = 4
    game.play()
    assert ("Z", "forward") in window.overlay.controls
    assert window.overlay.paused == "P to go on      :  one frame"
    assert caps() != before


def test_without_a_window_keys_have_their_american_names() -> None:
    pygame.display.quit()
    assert (label("KeyW"), label("Period"), label("Digit1")) == ("W", ".", "1")
