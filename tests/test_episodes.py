from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
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


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("frames", np.zeros((4, 6, 8, 3), np.float32), "frames are float32"),
        ("frames", np.zeros((0, 6, 8, 3), np.uint8), "frames are uint8"),
        ("buttons", np.zeros((4, 5), np.uint8), "need buttons"),
        ("mouse", np.full((4, 2), np.nan, np.float32), "no numbers"),
    ],
)
def test_arrays_that_are_no_episode_are_refused(
    tmp_path: Path, key: str, value: NDArray[np.float32], message: str
) -> None:
    path = tmp_path / "e.safetensors"
    save_episode(path, make_episode())
    with safe_open(path, framework="np") as file:
        header, names = file.metadata(), list(file.keys())
        arrays = {name: file.get_tensor(name) for name in names}
    save_file({**arrays, key: value}, path, metadata=header)
    with pytest.raises(EpisodeError, match=message):
        load_episode(path)


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
