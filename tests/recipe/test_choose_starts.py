"""Places to begin a world."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.tiny_data import SPEC
from worldmodel.action import IDLE
from worldmodel.config import ConfigError
from worldmodel.recipe.choose_starts import choose_starts, group
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import save_episode


def write(folder: Path, shades: list[int], moving: int | None = None) -> Path:
    """An episode of 30 frames for each shade, striped; one of them flickers."""
    frames = np.zeros((30 * len(shades), 12, 16, 3), np.uint8)
    for number, shade in enumerate(shades):
        frames[30 * number : 30 * (number + 1), :, ::2] = shade
    if moving is not None:
        frames[30 * moving : 30 * (moving + 1) : 2] //= 2
    episode = Episode(
        frames=frames, actions=[IDLE] * len(frames), frames_per_second=10.0, buttons=SPEC.buttons
    )
    save_episode(folder / "episode.safetensors", episode)
    return folder


def test_starts_begin_at_the_beginning_and_then_look_different(tmp_path: Path) -> None:
    folder = write(tmp_path, [100, 100, 100, 220, 220, 220, 150, 150])
    starts = choose_starts(folder, count=4, frames=6)
    places = [int(place.partition("@")[2]) for place in starts]
    assert places[0] == 0
    assert list(starts.values()) == ["Place 1", "Place 2", "Place 3", "Place 4"][: len(starts)]
    shades = {[100, 100, 100, 220, 220, 220, 150, 150][(place + 5) // 30] for place in places[1:]}
    assert len(shades) >= 2


def test_no_start_is_in_the_middle_of_commotion(tmp_path: Path) -> None:
    folder = write(tmp_path, [100, 200, 100, 200, 255, 200], moving=4)
    places = [int(place.partition("@")[2]) for place in choose_starts(folder, 2, 6)]
    assert not any(4 * 30 <= place + 5 < 5 * 30 for place in places)


def test_a_group_is_stood_for_by_its_most_ordinary_row() -> None:
    rows = np.array([[0.0], [1.0], [2.0], [50.0], [51.0], [55.0]], np.float32)
    assert sorted(group(rows, 2)) == [1, 4]
    assert len(group(rows, 20)) <= 6
    assert group(rows[:0], 3) == []


def test_episodes_that_are_too_short_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no episode is as long as a start of 50"):
        choose_starts(write(tmp_path, [90]), 3, 50)
