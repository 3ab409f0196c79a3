from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from worldmodel.action import IDLE, Action
from worldmodel.episodes import Episode, EpisodeError, find_episodes, load_episode, save_episode


def make_episode(frames: int = 4) -> Episode:
    rng = np.random.default_rng(0)
    return Episode(
        frames=rng.integers(0, 256, (frames, 6, 8, 3)).astype(np.uint8),
        actions=[IDLE, Action(frozenset({"KeyW"}), (1.5, 0.0))][:frames] + [IDLE] * (frames - 2),
        frames_per_second=17.5,
        buttons=("KeyW", "KeyS"),
    )


def test_an_episode_reads_back_as_it_was_written(tmp_path: Path) -> None:
    episode = make_episode()
    save_episode(tmp_path / "e.safetensors", episode)
    again = load_episode(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(again.frames, episode.frames)
    assert list(again.actions) == list(episode.actions)
    assert (again.frames_per_second, again.buttons) == (17.5, ("KeyW", "KeyS"))


def test_frames_and_actions_must_pair_up() -> None:
    episode = make_episode()
    with pytest.raises(EpisodeError, match="4 frames but 3 actions"):
        Episode(
            frames=episode.frames,
            actions=episode.actions[:3],
            frames_per_second=1.0,
            buttons=(),
        )


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    save_file({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(EpisodeError, match=r"x\.safetensors: expected the format"):
        load_episode(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"no")
    with pytest.raises(EpisodeError, match=r"y\.safetensors: not an episode"):
        load_episode(tmp_path / "y.safetensors")
    with pytest.raises(EpisodeError, match="no such folder"):
        find_episodes(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EpisodeError, match="no episodes"):
        find_episodes(tmp_path / "empty")
