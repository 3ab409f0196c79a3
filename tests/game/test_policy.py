"""Code of the user's at the controls, from the command line to the recording."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.game.drawn_world import SPEC, DrawnWorld
from worldmodel.action import Action, ActionSpec
from worldmodel.config import UserError
from worldmodel.game.cli import main
from worldmodel.game.policy import to_action
from worldmodel.storage.recording import hash_frame, read_recording
from worldmodel.world import Frame

SEEN: list[Frame] = []
MADE: list[ActionSpec] = []


def make_walker(actions: ActionSpec) -> Callable[[Frame], Any]:
    """Walks while the picture is bright on the left, and turns with what it has seen."""
    MADE.append(actions)
    count = 0

    def walk(frame: Frame) -> Action:
        nonlocal count
        SEEN.append(frame)
        count += 1
        kept = frame.copy()
        frame[:] = 0  # it is the policy's to spoil
        return Action(frozenset({"KeyW"}), (float(kept[:, :32].mean()) % 7, float(count)))

    return walk


def make_liar(actions: ActionSpec) -> Callable[[Frame], Any]:
    del actions
    return lambda _: 42


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    SEEN.clear()
    MADE.clear()
    return lambda *arguments: main([str(a) for a in arguments], lambda _: DrawnWorld())


@pytest.mark.parametrize("how", [["--headless"], [], ["--sync"]])
def test_a_policy_sees_every_frame_and_plays_the_next(
    play: Callable[..., int], how: list[str]
) -> None:
    who = ("--player", f"{__name__}:make_walker", "--allow-code", "--fps", 0)
    assert play(*who, *how, "--frames", 12, "--record", "walk") == 0
    _, rows = read_recording(Path("walk.jsonl"))
    assert MADE == [SPEC]
    assert not SEEN[0].any()
    assert len(rows) == 13
    world = DrawnWorld()
    frame = world.reset(0, 0)
    for row in rows[1:]:
        turn = float(frame[:, :32].mean()) % 7
        assert row.action == Action(frozenset({"KeyW"}), (turn, 0.0))
        frame = world.generate(row.action)
        assert row.hash == hash_frame(frame)
    SEEN.clear()
    assert play("--replay", "walk.jsonl", "--headless") == 0, "a replay runs no code"
    assert SEEN == []


def test_code_runs_only_when_it_may(
    play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text("raise SystemExit('ran')\n")
    assert play("--headless", "--player", "mine:make") == 2
    assert "is code that would be run: add --allow-code" in capsys.readouterr().err
    assert not Path("recordings").exists()
    Path("yours.py").write_text("def make(actions):\n    return lambda frame: ['KeyW', 'KeyD']\n")
    code = play(
        "--headless", "--player", "yours:make", "--allow-code", "--frames", 3, "--record", "w"
    )
    assert code == 0
    assert read_recording(Path("w.jsonl"))[1][2].action == Action(frozenset({"KeyW", "KeyD"}))


def test_what_is_no_policy_is_named(
    play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for who, message in (
        ("nowhere:make", "No module named 'nowhere'"),
        (f"{__name__}:nothing", "has no attribute 'nothing'"),
        (f"{__name__}:SEEN", "SEEN is no function or class"),
        (f"{__name__}:make_liar", "the policy answered 42; expected an Action or"),
    ):
        assert play("--headless", "--player", who, "--allow-code", "--frames", 2) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="answered 'KeyW'"):
        to_action("KeyW")
    assert to_action({"KeyW"}) == Action(frozenset({"KeyW"}))
    assert np.isfinite(to_action(()).mouse).all()
