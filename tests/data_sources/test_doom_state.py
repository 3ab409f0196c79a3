"""What the real game tells of itself, held against what is done to it and what it draws."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data_sources.recorded_doom import record_doom
from worldmodel.action import IDLE, Action
from worldmodel.data_sources.doom import Doom, DoomConfig
from worldmodel.data_sources.doom_players import make_doom_player
from worldmodel.data_sources.explorer import Explorer
from worldmodel.data_sources.record import record_episode
from worldmodel.state_spec import StateTrack
from worldmodel.storage.episodes import load_episode

pytest.importorskip("vizdoom")

LINE = DoomConfig(level="defend_the_line", keys=("Mouse0",), weapon=True, player="gunner")


@pytest.fixture(scope="module")
def game() -> Iterator[Doom]:
    with Doom(DoomConfig()) as doom:
        yield doom


def number(game: Doom, name: str) -> float:
    return float(game.state[game.state_spec.index(name)])


def test_the_state_says_where_the_player_is_and_which_way_they_look(game: Doom) -> None:
    game.reset(seed=3)
    for _ in range(8):
        game.step(Action(frozenset({"KeyW"}), (5.0, 0.0)))
        place = [number(game, name) for name in ("x", "y", "heading")]
        assert place == pytest.approx(game.position, rel=1e-6)
        assert 0 <= place[2] <= 360


def test_the_velocity_is_in_map_units_per_tic(game: Doom) -> None:
    """With no key held the player slides by it, then by what the game's friction leaves of it."""
    game.reset(seed=3)
    for _ in range(10):
        game.step(Action(frozenset({"KeyW"})))
    before = game.state[:2].copy()
    velocity = np.array([number(game, "velocity_x"), number(game, "velocity_y")])
    game.step(IDLE)
    moved = game.state[:2] - before
    assert np.abs(velocity).max() > 1
    np.testing.assert_allclose(moved, velocity * (1 + 0.90625), atol=1e-3)


@pytest.mark.parametrize("tics", [1, 2])
def test_the_clock_is_the_period_of_the_eyes_bob(tics: int) -> None:
    """With the speed it explains the eye's height, which no other period does."""
    with Doom(DoomConfig(tics_per_frame=tics)) as game:
        track = walk(game, frames=200)
    height, clock = track.column("z"), track.column("clock")
    assert height.max() - height.min() > 5  # it moves
    assert set(np.unique(np.diff(clock) % 20)) == {tics}
    frame = tics * np.arange(len(clock), dtype=np.float32)
    right = unexplained(height, clock, track, period=20)
    assert right < 0.15
    assert right < 0.6 * min(unexplained(height, frame, track, period=p) for p in (19, 21, 40))


def walk(game: Doom, frames: int) -> StateTrack:
    """Round and round, with a rest at the end."""
    game.reset(seed=4)
    rows = []
    for i in range(frames):
        keys = {"KeyW"} if i < 0.8 * frames else set()
        game.step(Action(frozenset(keys), (3.0 * game.config.tics_per_frame, 0.0)))
        rows.append(game.state)
    return StateTrack(game.state_spec, np.stack(rows)[20:])


def unexplained(
    height: NDArray[np.float32], clock: NDArray[np.float32], track: StateTrack, period: float
) -> float:
    """Share of the eye's height that a bob of this period leaves; its size is the engine's."""
    speed2 = track.column("velocity_x") ** 2 + track.column("velocity_y") ** 2
    size = np.minimum(speed2 / 4, 16) / 2
    turn = 2 * np.pi * clock / period
    basis = np.stack((np.ones(len(turn)), size * np.sin(turn), size * np.cos(turn)), axis=1)
    rest = height - basis @ np.linalg.lstsq(basis, height, rcond=None)[0]
    return float(rest.var() / height.var())


def test_recorded_episodes_have_the_state_of_their_frames(game: Doom, tmp_path: Path) -> None:
    record_doom(tmp_path, frames=90, episode_frames=90, seed=7)
    episode = load_episode(tmp_path / "my_way_home_000007.safetensors")
    track = episode.state
    assert track is not None
    # The same seed and actions bring the game to the same states, frame for frame.
    game.reset(seed=7)
    np.testing.assert_array_equal(track.values[0], game.state)
    for i, action in enumerate(episode.actions[1:], start=1):
        np.testing.assert_array_equal(game.step(action), episode.frames[i])
        np.testing.assert_array_equal(track.values[i], game.state)
    numbers = track.spec.numbers
    assert numbers["x"].low < numbers["x"].high
    assert (numbers["clock"].low, numbers["clock"].high) == (0, 20)
    # There is nothing to shoot with and nobody to shoot at: constant, and marked so.
    assert all(numbers[n].low == numbers[n].high for n in ("health", "ammo", "kills", "dead"))


def test_the_heading_follows_the_mouse_to_the_degree(game: Doom) -> None:
    episode = record_episode(game, lambda *_: Explorer(5), 5, 120)
    assert episode.state is not None
    heading = episode.state.column("heading")[7:].astype(np.float64)  # held at the spawn until then
    turned = (np.diff(heading) + 180) % 360 - 180
    mouse = np.array([action.mouse[0] for action in episode.actions])[8:]
    assert np.abs(turned + mouse).max() < 0.02


def test_a_fight_moves_health_ammunition_and_kills() -> None:
    with Doom(LINE) as game:
        track = record_episode(game, make_doom_player, 1, 400).state
        assert track is not None
        assert game.is_over
        last, frame = game.state, game.frame
        np.testing.assert_array_equal(game.step(IDLE), frame)
        np.testing.assert_array_equal(game.state, last)
    for name, sign in (("health", -1), ("kills", 1)):
        steps = np.diff(track.column(name))
        assert (sign * steps).max() > 0
        assert (sign * steps).min() >= 0
    assert np.ptp(track.column("ammo")) > 10
    # The end is told in the frame that repeats the last one.
    assert last[track.spec.index("dead")] == 1
    assert not track.column("dead").any()
    assert last[track.spec.index("health")] == 0
    same = [i for i, name in enumerate(track.spec.names) if name not in ("dead", "health")]
    np.testing.assert_array_equal(last[same], track.values[-1][same])
