"""Keys of a person, actions of an environment, and the way back."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.data_sources import squares
from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.data_sources.action_mapping import ActionMapping
from worldmodel.data_sources.gym_actions import make_action_mapping


def action_mapping(kind: str, keys: str | None = None, noop: str | None = None) -> ActionMapping:
    return make_action_mapping(gymnasium.make("tests/Squares-v0", kind=kind), keys, noop)


def held(*names: str, mouse: tuple[float, float] = (0.0, 0.0)) -> Action:
    return Action(frozenset(names), mouse)


@pytest.mark.parametrize(
    ("kind", "action", "value"),
    [
        ("discrete", IDLE, 0),
        ("discrete", held("Digit2"), 2),
        ("from_one", IDLE, 1),
        ("from_one", held("Digit1"), 2),
        ("bits", IDLE, [0, 0]),
        ("bits", held("Digit1", "Digit2"), [1, 1]),
        ("parts", held("Digit2", "Digit3"), [2, 1]),
        ("axis", held(mouse=(3.0, 0.0)), [1.0]),
        ("axis", IDLE, [0.0]),
        ("axes", held(mouse=(6.0, -3.0)), [1.0, -0.5]),
        ("axes", IDLE, [0.5, 0.0]),
    ],
)
def test_every_space_has_its_keys_and_they_read_back(kind: str, action: Action, value: Any) -> None:
    made = action_mapping(kind)
    found = made.to_env(action)
    assert squares.SPACES[kind].contains(found)
    np.testing.assert_allclose(found, value)
    again = made.from_env(found)
    assert again.buttons == action.buttons
    np.testing.assert_allclose(again.mouse, action.mouse, atol=1e-6)
    assert made.spec.known(again) == again


@pytest.mark.parametrize("kind", ["discrete", "from_one", "bits", "parts", "axis", "axes"])
def test_whatever_a_policy_chooses_is_played_as_it_is_recorded(kind: str) -> None:
    made, space = action_mapping(kind), squares.SPACES[kind]
    space.seed(0)
    for _ in range(50):
        value = space.sample()
        np.testing.assert_allclose(made.to_env(made.from_env(value)), value, atol=1e-5)


def test_an_environments_own_keys_are_used() -> None:
    made = make_action_mapping(gymnasium.make("tests/KeyedSquares-v0"), None, None)
    assert made.spec.buttons == ("KeyA", "KeyD")
    assert made.to_env(held("KeyD")) == 2
    assert made.to_env(held("KeyA", "KeyD")) == 0
    mountain = make_action_mapping(gymnasium.make("MountainCar-v0"), None, None)
    assert mountain.spec.buttons == ("ArrowLeft", "ArrowRight")
    assert mountain.to_env(IDLE) == 1  # it pushes nowhere, as its own table says
    assert mountain.to_env(held("ArrowRight")) == 2


def test_keys_can_be_given_for_any_space() -> None:
    made = action_mapping("three", "KeyW=[0,1,0],KeyA+KeyW=[-1,1,0]", None)
    np.testing.assert_array_equal(made.to_env(held("KeyA", "KeyW")), [-1, 1, 0])
    np.testing.assert_array_equal(made.to_env(held("KeyA")), [0, 0, 0])
    pendulum = make_action_mapping(gymnasium.make("Pendulum-v1"), "ArrowLeft=2,ArrowRight=-2", None)
    np.testing.assert_array_equal(pendulum.to_env(held("ArrowLeft")), [2.0])
    assert not pendulum.spec.uses_mouse
    assert action_mapping("discrete", "KeyA=0,KeyD=2", "1").to_env(IDLE) == 1


@pytest.mark.parametrize(
    ("kind", "keys", "noop", "message"),
    [
        ("three", None, None, r"Squares-v0: its actions are Box.*recorded are Discrete"),
        ("endless", None, None, "recorded are Discrete"),
        ("both", None, None, "recorded are Discrete"),
        ("discrete", "Left=0", None, r"--keys 'Left=0': expected .* among KeyA"),
        ("discrete", "KeyA", None, r"--keys 'KeyA': expected"),
        ("discrete", "KeyA=7", None, r"--keys KeyA=7: 7 is none of .* Discrete\(3\)"),
        ("discrete", "KeyA=left", None, "'left' is neither a number"),
        ("bits", "KeyA=[1,2,3]", None, r"\[1, 2, 3\] is none of"),
        ("bits", 'KeyA=["a"]', None, r"is none of"),
        ("discrete", "", None, "no key means anything"),
        ("discrete", None, "9", "--noop: 9 is none of"),
    ],
)
def test_what_cannot_be_recorded_is_said(
    kind: str, keys: str | None, noop: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        action_mapping(kind, keys, noop)


def test_an_action_without_a_key_is_named() -> None:
    with pytest.raises(UserError, match="chose 2, for which there is no key"):
        action_mapping("discrete", "KeyA=1").from_env(2)
