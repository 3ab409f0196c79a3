"""Doom with its status bar, and lives that begin anew in one episode."""

from collections.abc import Iterator

import numpy as np
import pytest

from worldmodel.action import IDLE, Action
from worldmodel.data_sources.doom import DEAD_FRAMES, Doom, DoomConfig
from worldmodel.data_sources.doom_state import SPEC

pytest.importorskip("vizdoom")

LINE = {"level": "defend_the_line", "keys": ("Mouse0",), "weapon": True}
SHOOT = Action(frozenset({"Mouse0"}), (12.0, 0.0))
LONGEST = 900  # frames that a player who only turns lives at most


@pytest.fixture(scope="module")
def lives() -> Iterator[Doom]:
    with Doom(DoomConfig(**LINE, hud=True, restart=True)) as doom:  # type: ignore[arg-type]
        yield doom


def number(doom: Doom, name: str) -> float:
    return float(doom.state[SPEC.index(name)])


def test_the_status_bar_is_drawn_over_the_bottom(lives: Doom) -> None:
    shown = lives.reset(3)
    with Doom(DoomConfig(**LINE)) as plain:  # type: ignore[arg-type]
        without = plain.reset(3)
    changed = np.abs(shown.astype(int) - without).mean(axis=(1, 2))
    assert changed[-6:].mean() > 4 * changed[:16].mean()


def test_a_death_is_shown_and_then_life_begins_anew(lives: Doom) -> None:
    lives.reset(5)
    ammunition = number(lives, "ammo")
    count = 0
    while not number(lives, "dead"):
        lives.step(SHOOT)
        count += 1
        assert count < LONGEST
    assert not lives.is_over
    assert number(lives, "health") == 0
    last = lives.frame
    for _ in range(DEAD_FRAMES - 1):
        assert np.array_equal(lives.step(IDLE), last)
        assert number(lives, "dead") == 1
    lives.step(IDLE)
    names = ("dead", "health", "kills", "ammo")
    assert [number(lives, name) for name in names] == [0, 100, 0, ammunition]
    assert not np.array_equal(lives.frame, last)


def test_without_restart_a_death_ends_the_episode() -> None:
    with Doom(DoomConfig(**LINE)) as doom:  # type: ignore[arg-type]
        doom.reset(5)
        for _ in range(LONGEST):
            doom.step(SHOOT)
            if doom.is_over:
                break
        assert doom.is_over
        assert doom.has_died
