import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from worldmodel.action import IDLE, Action
from worldmodel.state_spec import StateNumber, StateSpec, StateTrack
from worldmodel.storage.episode import Episode, EpisodeError
from worldmodel.storage.episodes import episode_bytes, find_episodes, load_episode, save_episode

SPEC = StateSpec(
    {
        "x": StateNumber(kind="position", unit="m", low=-1.0, high=2.0),
        "heading": StateNumber(kind="heading", unit="degrees", low=0.0, high=360.0),
    }
)


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


def make_state(frames: int = 4) -> StateTrack:
    values = np.linspace(0, 1, 2 * frames, dtype=np.float32).reshape(frames, 2)
    values[1, 0] = np.nan
    return StateTrack(SPEC, values)


def test_the_state_of_an_episode_reads_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    save_episode(path, replace(make_episode(), state=make_state()))
    again = load_episode(path).state
    assert again is not None
    assert again.spec == SPEC
    np.testing.assert_array_equal(again.values, make_state().values)


def test_an_episode_without_state_is_the_file_that_it_was_before_there_was_any() -> None:
    content = episode_bytes(make_episode())
    size = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + size]) == {
        "__metadata__": {
            "format": "worldmodel episode 1",
            "frames_per_second": "17.5",
            "buttons": '["KeyW", "KeyS"]',
        },
        "mouse": {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]},
        "buttons": {"dtype": "U8", "shape": [4, 2], "data_offsets": [32, 40]},
        "frames": {"dtype": "U8", "shape": [4, 6, 8, 3], "data_offsets": [40, 616]},
    }
    assert len(content) == 8 + size + 616


def test_a_cut_takes_the_state_along_in_memory_of_its_own() -> None:
    episode = replace(make_episode(), state=make_state())
    part = episode.cut(1, 3)
    np.testing.assert_array_equal(part.frames, episode.frames[1:3])
    assert list(part.actions) == list(episode.actions[1:3])
    assert part.state is not None
    np.testing.assert_array_equal(part.state.values, make_state().values[1:3])
    assert not np.shares_memory(part.frames, episode.frames)
    assert make_episode().cut(0, 2).state is None


def test_a_state_of_other_frames_is_refused() -> None:
    with pytest.raises(EpisodeError, match="4 frames but the state of 3"):
        replace(make_episode(), state=make_state(3))


@pytest.mark.parametrize(
    ("rows", "text", "message"),
    [
        (np.zeros((3, 2), np.float32), SPEC.to_json(), "4 frames, but the state of 3"),
        (np.zeros((4, 3), np.float32), SPEC.to_json(), "rows of 2 numbers"),
        (np.zeros((4, 2), np.float64), SPEC.to_json(), "expected float32"),
        (np.full((4, 2), np.inf, np.float32), SPEC.to_json(), "beyond all bounds"),
        (np.zeros((4, 2), np.float32), None, "only the rows"),
        (None, SPEC.to_json(), "only the header"),
        (np.zeros((4, 2), np.float32), '{"x": {"kind": "colour"}}', "kind = 'colour'"),
        (np.zeros((4, 2), np.float32), "[", "should be JSON"),
    ],
)
def test_a_file_whose_state_is_none_is_refused_by_name(
    tmp_path: Path, rows: NDArray[np.float32] | None, text: str | None, message: str
) -> None:
    path = tmp_path / "e.safetensors"
    save_episode(path, make_episode())
    with safe_open(path, framework="np") as file:
        header, names = file.metadata(), list(file.keys())
        arrays = {name: file.get_tensor(name) for name in names}
    arrays |= {} if rows is None else {"state": rows}
    header |= {} if text is None else {"state": text}
    save_file(arrays, path, metadata=header)
    with pytest.raises(EpisodeError, match=rf"e\.safetensors.*{message}"):
        load_episode(path)


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


def test_a_button_has_one_column(tmp_path: Path) -> None:
    save_episode(tmp_path / "e.safetensors", replace(make_episode(), buttons=("KeyW", "KeyW")))
    with pytest.raises(EpisodeError, match="a button is named twice: 'KeyW, KeyW'"):
        load_episode(tmp_path / "e.safetensors")


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
