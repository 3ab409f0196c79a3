"""An environment that draws with SDL is recorded without a display and without a complaint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worldmodel.system.unseen_sdl import SETTINGS, let_sdl_draw_unseen

RECORD = (
    "worldmodel record --env Pendulum-v1 --keys ArrowLeft=2,ArrowRight=-2 --size 48x48 --frames 3"
)


def test_what_is_set_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    let_sdl_draw_unseen()
    assert {name: os.environ[name] for name in SETTINGS} == {**SETTINGS, "SDL_VIDEODRIVER": "x11"}
    for name in SETTINGS:
        monkeypatch.setenv(name, os.environ[name])  # so that it is undone


def test_nothing_is_said_of_a_display_that_nobody_needs(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "SDL_VIDEODRIVER")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-m", *RECORD.split(), "--out", str(tmp_path / "data")]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
    assert "display" not in ran.stderr.lower()
    assert "error" not in ran.stderr.lower()
    assert "pygame" not in ran.stdout
