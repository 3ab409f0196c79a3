from dataclasses import replace

import numpy as np
import pytest

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.config import ConfigError

SPEC = ActionSpec(
    buttons=("KeyW", "Mouse0"),
    names=("forward", "fire"),
    mouse_degrees=8.0,
    max_mouse_degrees=20.0,
)


def test_an_action_vector_holds_buttons_in_order_then_scaled_mouse() -> None:
    vectors = SPEC.encode([IDLE, Action(frozenset({"Mouse0"}), (4.0, 0.0))])
    np.testing.assert_array_equal(vectors, [[0, 0, 0, 0], [0, 1, 0.5, 0]])


def test_a_world_ignores_what_it_was_not_trained_on() -> None:
    wild = Action(frozenset({"KeyW", "KeyQ"}), (-300.0, 50.0))
    assert SPEC.known(wild) == Action(frozenset({"KeyW"}), (-20.0, 0.0))
    assert wild.mouse == (-300.0, 50.0)


def test_a_quick_turn_within_frames_that_come_together_counts_whole() -> None:
    several = replace(SPEC, frames=12)
    assert several.known(Action(mouse=(150.0, 0.0))).mouse == (150.0, 0.0)
    assert several.known(Action(mouse=(300.0, 0.0))).mouse == (240.0, 0.0)


def test_names_pair_with_buttons() -> None:
    with pytest.raises(ConfigError, match="pair up"):
        ActionSpec(buttons=("KeyW",), names=(), mouse_degrees=8.0, max_mouse_degrees=20.0)
