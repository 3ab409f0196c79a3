"""Doom's monsters as numbers of the state."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from worldmodel.action import IDLE
from worldmodel.config import ConfigError
from worldmodel.data_sources.doom import Doom, DoomConfig
from worldmodel.data_sources.doom_objects import ObjectSlots


def thing(key: int, name: str, x: float) -> Any:
    return SimpleNamespace(id=key, name=name, position_x=x, position_y=-x)


def test_an_object_keeps_its_place_until_it_is_gone() -> None:
    slots = ObjectSlots({"Demon": 2, "DoomImpBall": 1})
    assert list(slots.numbers)[:4] == ["demon.1.x", "demon.1.y", "demon.2.x", "demon.2.y"]
    first = slots.see([thing(4, "Demon", 1.0), thing(7, "Demon", 2.0), thing(9, "Blood", 5.0)])
    assert first[:4].tolist() == [1, -1, 2, -2]
    assert np.isnan(first[4:]).all()
    assert slots.see([thing(7, "Demon", 3.0)])[2:4].tolist() == [3, -3]
    again = slots.see([thing(7, "Demon", 4.0), thing(8, "Demon", 6.0), thing(5, "Demon", 9.0)])
    assert again[:4].tolist() == [9, -9, 4, -4], "the elder takes the free place"
    slots.forget()
    assert slots.see([thing(8, "Demon", 6.0)])[:2].tolist() == [6, -6]


def test_a_level_tells_where_its_monsters_are() -> None:
    pytest.importorskip("vizdoom")
    config = DoomConfig(
        level="defend_the_line", keys=("Mouse0",), objects={"Demon": 3, "DoomImp": 3}
    )
    with Doom(config) as doom:
        doom.reset(5)
        first = doom.step(IDLE)
        before = doom.state
        doom.step(IDLE)
        names = doom.state_spec.names
        assert names[-2:] == ("doomimp.3.x", "doomimp.3.y")
        demons = [names.index(f"demon.{n}.{axis}") for n in (1, 2, 3) for axis in "xy"]
        steps = np.abs(doom.state[demons] - before[demons])
        assert 0 < steps.max() <= 10
        assert first.shape == (48, 64, 3)


def test_too_many_objects_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 to 24 of each"):
        DoomConfig(objects={"Demon": 99})
    with pytest.raises(ConfigError, match="the same name twice in Demon, demon"):
        DoomConfig(objects={"Demon": 1, "demon": 1})
