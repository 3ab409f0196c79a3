"""Worlds as Gymnasium environments, on a small world of random weights."""

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import worldmodel.gym_env
from tests.game.drawn_world import DrawnWorld
from tests.worlds.make_world import make_world
from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.config import ConfigError, UserError
from worldmodel.gym_env.action_space import WorldControls
from worldmodel.gym_env.world_env import WorldEnv

TORCH: dict[str, Any] = {"engine": "torch", "dtype": "float32", "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_world(tmp_path_factory.mktemp("worlds") / "bar"))


@pytest.fixture
def env(folder: str) -> Iterator[Any]:
    made = gymnasium.make(worldmodel.gym_env.ID, world=folder, render_mode="rgb_array", **TORCH)
    yield made
    made.close()


def play(env: Any, seed: int, actions: list[Any]) -> list[np.ndarray[Any, Any]]:
    frames = [env.reset(seed=seed)[0]]
    return frames + [env.step(action)[0] for action in actions]


def test_gymnasium_finds_nothing_to_complain_about(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # it opens a window too
    made = gymnasium.make(worldmodel.gym_env.ID, world=folder, **TORCH, render_mode="rgb_array")
    for actions in ("keys", "mouse"):
        made = gymnasium.make(worldmodel.gym_env.ID, world=folder, actions=actions, **TORCH)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(made.unwrapped, skip_render_check=actions == "mouse")
        made.close()


def test_the_same_seed_and_actions_give_the_same_frames(env: Any) -> None:
    env.action_space.seed(3)
    actions = [env.action_space.sample() for _ in range(12)]
    first, again, other = play(env, 5, actions), play(env, 5, actions), play(env, 6, actions)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[1:], other[1:])
    assert first[0].shape == (8, 16, 3)


def test_actions_reach_the_world(env: Any) -> None:
    left, none = np.array([1, 0, 0, 0], np.int8), np.zeros(4, np.int8)
    one, other = play(env, 5, [left] * 3), play(env, 5, [none] * 3)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(other, play(env, 5, [0] * 3))  # as `play` does nothing


def test_an_episode_is_cut_at_its_length_and_rewards_nothing(folder: str) -> None:
    env = WorldEnv(folder, max_frames=3, **TORCH)
    env.reset(seed=0)
    ends = [env.step(0)[1:4] for _ in range(3)]
    assert ends == [(0.0, False, False), (0.0, False, False), (0.0, False, True)]


def test_a_start_can_be_chosen(env: Any) -> None:
    assert env.reset(seed=1, options={"start": 1})[1] == {"start": 1, "caption": "place 1"}
    with pytest.raises(UserError, match="start = 7: choose from 0 to 1"):
        env.reset(options={"start": 7})
    with pytest.raises(UserError, match="unknown key 'begin'"):
        env.reset(options={"begin": 0})


def test_frames_are_the_callers_to_change(env: Any) -> None:
    frame, _ = env.reset(seed=0)
    kept = env.render()
    frame[:] = 0
    np.testing.assert_array_equal(env.render(), kept)


def test_a_person_plays_it_with_gymnasiums_own_window(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gymnasium.utils.play`, real events on SDL's dummy screen."""
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib, which the window does not need
        from gymnasium.utils.play import play as play_in_window
    seen: list[list[int]] = []

    def watch(obs: Any, after: Any, action: Any, *_: Any) -> None:
        del obs, after
        seen.append(np.broadcast_to(np.asarray(action), 4).tolist())
        if len(seen) == 2:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_a))
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_RIGHT))
        if len(seen) == 6:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    play_in_window(env, callback=watch, fps=1000)
    assert seen[0] == [0, 0, 0, 0]
    assert seen[-1] == [1, 0, 0, 1]


def test_in_human_mode_frames_are_shown_at_the_worlds_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = WorldEnv(DrawnWorld(), render_mode="human")
    env.reset(seed=0)
    began = pygame.time.get_ticks()
    for _ in range(6):
        env.step(0)
    took = pygame.time.get_ticks() - began
    surface = pygame.display.get_surface()
    assert surface is not None
    picture = pygame.surfarray.array3d(surface)
    env.close()
    assert took >= 6 * 1000 / 30 - 40
    assert picture.std() > 10


def test_keys_and_bits_agree() -> None:
    spec = ActionSpec(
        buttons=("KeyW", "Mouse0"),
        names=("forward", "fire"),
        mouse_degrees=8.0,
        max_mouse_degrees=5.0,
        look_up_down=True,
    )
    controls = WorldControls(spec, "keys", 6.0)
    assert controls.space == gymnasium.spaces.MultiBinary(6)
    assert controls.action(np.array([1, 1, 0, 1, 0, 1])) == Action(
        frozenset({"KeyW", "Mouse0"}), (5.0, 5.0)
    )
    table = controls.keys_to_action()
    right = 1073741903
    assert table[tuple(sorted((ord("w"), right)))].tolist() == [1, 0, 0, 1, 0, 0]
    assert all(controls.space.contains(value) for value in table.values())
    mouse = WorldControls(spec, "mouse", 6.0)
    value = {"buttons": np.array([0, 1]), "mouse": np.array([-0.4, 0.2])}
    assert mouse.action(value) == Action(frozenset({"Mouse0"}), (-2.0, 1.0))


def test_a_world_without_a_mouse_has_no_turning_keys() -> None:
    spec = ActionSpec(
        buttons=("KeyA",),
        names=("left",),
        mouse_degrees=1.0,
        max_mouse_degrees=1.0,
        look_left_right=False,
    )
    controls = WorldControls(spec, "keys", 6.0)
    assert controls.space == gymnasium.spaces.MultiBinary(1)
    assert controls.action(np.array([0])) == IDLE


def test_mistakes_are_named(folder: str) -> None:
    with pytest.raises(ConfigError, match="max_frames = 0"):
        WorldEnv(folder, max_frames=0)
    with pytest.raises(ConfigError, match="actions = 'pad': choose from keys, mouse"):
        WorldEnv(DrawnWorld(), actions="pad")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="render_mode = 'ansi'"):
        WorldEnv(DrawnWorld(), render_mode="ansi")
    with pytest.raises(ConfigError, match="loaded already"):
        WorldEnv(DrawnWorld(), steps=2)
    with pytest.raises(UserError, match="unknown world"):
        gymnasium.make(worldmodel.gym_env.ID, world="nowhere")


def test_many_sessions_are_each_the_single_one(folder: str, env: Any) -> None:
    envs = gymnasium.make_vec(worldmodel.gym_env.ID, num_envs=3, world=folder, **TORCH)
    envs.action_space.seed(0)
    actions = [envs.action_space.sample() for _ in range(10)]
    frames, info = envs.reset(seed=40)
    together = [frames, *(envs.step(action)[0] for action in actions)]
    for i in range(3):
        alone = play(env, 40 + i, [action[i] for action in actions])
        difference = np.abs(np.stack(together)[:, i].astype(int) - np.stack(alone).astype(int))
        assert difference.max() <= 1  # the rounding of another batch size
        assert env.reset(seed=40 + i)[1]["start"] == info["start"][i]
    assert not np.array_equal(together[-1][0], together[-1][1])


def test_all_sessions_begin_again_after_the_last_frame(folder: str) -> None:
    envs = gymnasium.make_vec(
        worldmodel.gym_env.ID,
        num_envs=2,
        world=folder,
        max_frames=4,
        render_mode="rgb_array",
        **TORCH,
    )
    assert envs.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.NEXT_STEP
    envs.reset(seed=0)
    nothing = np.zeros(envs.action_space.shape or (), np.int8)
    cuts = [envs.step(nothing)[3].tolist() for _ in range(4)]
    assert cuts == [[False, False]] * 3 + [[True, True]]
    frames, rewards, terminated, truncated, info = envs.step(nothing)
    assert "start" in info
    assert not rewards.any()
    assert not terminated.any()
    assert not truncated.any()
    np.testing.assert_array_equal(np.stack(envs.render() or ()), frames)
    assert envs.step(nothing)[4] == {}
    with pytest.raises(UserError, match="reset_mask is not possible"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(UserError, match="3 seeds for 2 sessions"):
        envs.reset(seed=[1, 2, 3])  # type: ignore[arg-type]


def test_closing_leaves_no_thread_behind(folder: str) -> None:
    before = threading.active_count()
    env = WorldEnv(folder, **TORCH)
    env.reset(seed=0)
    env.close()
    env.close()
    assert threading.active_count() == before
