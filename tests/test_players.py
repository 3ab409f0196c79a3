import os
from pathlib import Path

import numpy as np
import pytest

from tests.game.drawn_world import SPEC
from worldmodel.action import IDLE, Action, Prompt
from worldmodel.players import (
    RECENT,
    RandomPlayer,
    ScriptedPlayer,
    ScriptError,
    load_script,
    load_timeline,
    said_during,
)


def test_the_random_player_repeats_itself_for_a_seed_and_in_any_order() -> None:
    one, two = RandomPlayer(SPEC, seed=5), RandomPlayer(SPEC, seed=5)
    forwards = [one.act(i) for i in range(1, 200)]
    assert [two.act(i) for i in range(199, 0, -1)][::-1] == forwards
    assert [RandomPlayer(SPEC, seed=6).act(i) for i in range(1, 200)] != forwards


def test_the_random_player_moves_like_a_person() -> None:
    player = RandomPlayer(SPEC, seed=0)
    actions = [player.act(i) for i in range(1, 3000)]
    held = np.array([[button in a.buttons for button in SPEC.buttons] for a in actions])
    turns = np.array([a.mouse[0] for a in actions])
    changes = np.count_nonzero(np.diff(held.astype(int), axis=0).any(axis=1))
    assert len(actions) / changes > 5, "keys are held"
    assert held.any(axis=0).all(), "every button is used"
    assert np.abs(np.diff(turns)).max() < 0.5 * SPEC.max_mouse_degrees, "turns have inertia"
    assert np.abs(turns).max() <= SPEC.max_mouse_degrees
    assert any(a.buttons == set() and abs(a.mouse[0]) < 0.1 for a in actions), "rests at times"


def test_a_script_is_played_line_by_line_and_then_nothing_happens(tmp_path: Path) -> None:
    path = tmp_path / "walk.txt"
    path.write_text(
        "# a walk\n2 KeyW\n1 KeyW+KeyA mouse=4,-1.5\n\n1 idle # rest\n1 mouse=2,0\n",
        encoding="utf-8",
    )
    player = ScriptedPlayer(load_script(path))
    forward = Action(frozenset({"KeyW"}))
    both = Action(frozenset({"KeyW", "KeyA"}), (4.0, -1.5))
    turn = Action(frozenset(), (2.0, 0.0))
    assert [player.act(i) for i in range(1, 7)] == [forward, forward, both, IDLE, turn, IDLE]


@pytest.mark.parametrize(
    "line",
    [
        "KeyW",
        "3 KeyW mouse=4",
        "x idle",
        "3 mouse=nan,0",
        "3 mouse=0,-inf",
        "0 KeyW",
        "-3 KeyW",
        "1000001 idle",
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "walk.txt"
    path.write_text(f"2 KeyW\n{line}\n", encoding="utf-8")
    with pytest.raises(ScriptError, match=r"walk.txt: line 2: .* should be like '30 KeyW'"):
        load_script(path)


def test_a_missing_or_binary_script_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    binary = tmp_path / "x.bin"
    binary.write_bytes(b"\xff\x81\xfe\x00")
    for path in (tmp_path / "no", binary):
        with pytest.raises(ScriptError, match="not a player"):
            load_script(path)


def test_a_timeline_says_each_thing_in_the_frame_of_its_time(tmp_path: Path) -> None:
    path = tmp_path / "said.txt"
    path.write_text("# what\n0 fog\n0.25 ! snow\n\n1.0   sun and rain\n", encoding="utf-8")
    timeline = load_timeline(path)
    said = {i: said_during(timeline, i, frames_per_second=16.0) for i in range(1, 40)}
    assert {i: prompt for i, prompt in said.items() if prompt} == {
        1: Prompt("fog"),
        5: Prompt("snow", renew=True),
        17: Prompt("sun and rain"),
    }


@pytest.mark.parametrize("line", ["soon fog", "-1 fog", "3", "3 !", "inf fog", "1e308 fog"])
def test_a_timeline_that_cannot_be_read_names_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "said.txt"
    path.write_text(f"0 fog\n{line}\n", encoding="utf-8")
    with pytest.raises(ScriptError, match=r"line 2.*seconds and words"):
        load_timeline(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_timeline_that_is_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "said.txt")
    with pytest.raises(ScriptError, match="not a file"):
        load_timeline(tmp_path / "said.txt")


def test_a_random_player_forgets_and_does_the_same_again() -> None:
    """Hours of play may not fill the memory; going back far is rare and may take a moment."""
    player, other = RandomPlayer(SPEC, 3), RandomPlayer(SPEC, 3)
    first = [player.act(index) for index in range(1, RECENT + 200)]
    assert [player.act(index) for index in (1, 77, RECENT + 150)] == [
        first[0], first[76], first[RECENT + 149],
    ]  # fmt: skip
    assert other.act(RECENT + 150) == first[RECENT + 149]
