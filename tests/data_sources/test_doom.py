"""The real game: these run where the extra [doom] is installed, as `[dev]` has it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data_sources.recorded_doom import record_doom
from worldmodel.action import IDLE, Action
from worldmodel.config import ConfigError, UserError
from worldmodel.data_sources.doom import Doom, DoomConfig
from worldmodel.data_sources.doom_players import make_doom_player
from worldmodel.data_sources.explorer import Explorer
from worldmodel.data_sources.record import record_episode
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import find_episodes, load_episode

pytest.importorskip("vizdoom")


@pytest.fixture(scope="module")
def game() -> Iterator[Doom]:
    with Doom(DoomConfig()) as doom:
        yield doom


def test_the_mouse_turns_by_degrees_to_the_right(game: Doom) -> None:
    game.reset(seed=1)
    for _ in range(5):
        game.step(IDLE)
    before = game.position[2]
    game.step(Action(mouse=(10.0, 0.0)))
    turned = (before - game.position[2]) % 360  # the game's angles grow to the left
    assert turned == pytest.approx(10.0, abs=0.1)


def test_forward_moves_along_the_view_and_back_moves_away(game: Doom) -> None:
    for key, sign in (("KeyW", 1), ("KeyS", -1)):
        game.reset(seed=3)
        for _ in range(5):  # the level holds its player for the first moments
            game.step(IDLE)
        x, y, angle = game.position
        for _ in range(4):
            game.step(Action(frozenset({key})))
        moved = np.array([game.position[0] - x, game.position[1] - y])
        ahead = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
        assert sign * moved @ ahead > 5


def test_the_same_seed_plays_the_same_episode(game: Doom) -> None:
    one, again = (record_episode(game, lambda *_: Explorer(5), 5, 60) for _ in range(2))
    np.testing.assert_array_equal(one.frames, again.frames)
    assert list(one.actions) == list(again.actions)


def test_the_explorer_sees_the_level_and_plays_as_people_do(game: Doom) -> None:
    """Not its nose at a wall; keys held; strafing, standing still, slow and fast turns."""
    episodes: list[Episode] = []
    cells: set[tuple[int, int]] = set()
    for seed in range(6):
        explorer = Explorer(seed)
        episodes.append(record_episode(game, lambda *_, who=explorer: who, seed, 300))
        cells |= set(explorer.visits)
    actions = [action for episode in episodes for action in episode.actions]
    turns = np.abs([action.mouse[0] for action in actions])
    share = {
        key: np.mean([key in action.buttons for action in actions])
        for key in ("KeyW", "KeyS", "KeyA", "KeyD")
    }
    assert 0.4 < share["KeyW"] < 0.9
    assert min(share.values()) > 0.015
    assert 0.05 < np.mean([not a.buttons and abs(a.mouse[0]) < 0.5 for a in actions]) < 0.4
    assert (turns > 8).mean() > 0.02
    assert ((turns > 0.5) & (turns < 4)).mean() > 0.1
    assert len(cells) > 40
    flat = [frame.std(axis=(0, 1)).mean() < 6 for e in episodes for frame in e.frames]
    assert np.mean(flat) < 0.2


def test_a_recorded_folder_holds_frames_with_the_action_that_led_to_them(tmp_path: Path) -> None:
    done = record_doom(tmp_path, frames=90, episode_frames=50, seed=7)
    episodes = [load_episode(path) for path in find_episodes(tmp_path)]
    assert done == sum(map(len, episodes)) >= 90
    assert episodes[0].actions[0] == IDLE
    assert episodes[0].frames.shape[1:] == (48, 64, 3)
    assert episodes[0].frames_per_second == 17.5


def test_an_unknown_level_is_refused_with_the_choices() -> None:
    with pytest.raises(UserError, match=r"unknown level 'nowhere'.*my_way_home"):
        Doom(DoomConfig(level="nowhere"))


def test_a_death_is_another_end_than_a_levels() -> None:
    with Doom(DoomConfig(level="defend_the_line", keys=("Mouse0",))) as game:
        game.reset(seed=1)
        assert not game.has_died
        while not game.is_over:  # nobody defends it
            game.step(IDLE)
        assert game.has_died


def test_the_gunner_shoots_at_what_comes_looks_around_and_rests() -> None:
    config = DoomConfig(level="defend_the_line", keys=("Mouse0",), weapon=True, player="gunner")
    with Doom(config) as game:
        game.reset(seed=0)
        assert len(game.monsters) == 6
        episodes = [record_episode(game, make_doom_player, s, 250) for s in range(5)]
        again = record_episode(game, make_doom_player, 2, 250)
    np.testing.assert_array_equal(again.frames, episodes[2].frames)
    assert all(episode.buttons == ("Mouse0",) for episode in episodes)
    actions = [action for episode in episodes for action in episode.actions]
    turns = np.abs([action.mouse[0] for action in actions])
    shoots = np.array(["Mouse0" in action.buttons for action in actions])
    assert 0.1 < shoots.mean() < 0.5
    assert 0.1 < np.mean(~shoots & (turns < 0.5)) < 0.6
    assert (turns > 8).mean() > 0.01
    flashes = [frame.max(axis=(0, 1)).min() for e in episodes for frame in e.frames]
    lit = np.array(flashes)[1:][shoots[:-1]].mean() - np.array(flashes)[1:][~shoots[:-1]].mean()
    assert lit > 5  # the muzzle: what is held is seen


def test_a_key_that_doom_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="no 'KeyQ' here; choose from KeyW"):
        DoomConfig(keys=("KeyQ",))
