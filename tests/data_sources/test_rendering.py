"""Pictures of environments that draw in their own ways: converted plainly, or refused at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data_sources.squares import Squares
from worldmodel.__main__ import main
from worldmodel.action import IDLE
from worldmodel.config import UserError
from worldmodel.data_sources.rendering import Looks
from worldmodel.storage.episode import Episode, EpisodeError
from worldmodel.storage.episodes import find_episodes, load_episode, save_episode

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)
TRIPLE = np.repeat(GREY[..., None], 3, axis=2)
LOOKS: dict[str, tuple[Any, Any]] = {
    "usual": (COLOUR, COLOUR),
    "grey": (GREY, TRIPLE),
    "one_channel": (GREY[..., None], TRIPLE),
    "one_channel_first": (GREY[None], TRIPLE),
    "alpha": (np.concatenate([COLOUR, COLOUR[..., :1]], axis=2), COLOUR),
    "channels_first": (COLOUR.transpose(2, 0, 1), COLOUR),
    "float_to_1": ((COLOUR / 255).astype(np.float32), COLOUR),
    "float_to_255": (COLOUR.astype(np.float64), COLOUR),
    "wide_integers": (COLOUR.astype(np.int64), COLOUR),
    "bits": (GREY > 100, np.where(TRIPLE > 100, 255, 0)),
}
UNKNOWN: dict[str, Any] = {
    "nothing": None,
    "text": "a picture",
    "list_of_frames": [COLOUR],
    "two_channels": np.zeros((6, 8, 2), np.uint8),
    "volume": np.zeros((2, 6, 8, 3), np.uint8),
    "empty": np.zeros((0, 8, 3), np.uint8),
    "negative": COLOUR.astype(np.float32) - 1,
    "no_numbers": np.full((6, 8, 3), np.nan),
    "too_large": COLOUR.astype(np.int32) * 2,
    "complex": COLOUR.astype(np.complex64),
}


class Draws(Squares):
    """Draws in one of the ways above."""

    def __init__(self, look: str = "usual", render_mode: str | None = None) -> None:
        super().__init__(length=10, render_mode=render_mode)
        self.look = look

    def render(self) -> NDArray[np.uint8]:
        drawn: NDArray[np.uint8] = LOOKS[self.look][0] if self.look in LOOKS else UNKNOWN[self.look]
        return drawn


@pytest.mark.parametrize("look", LOOKS)
def test_what_can_be_converted_plainly_is(look: str) -> None:
    drawn, expected = LOOKS[look]
    picture = Looks("a game").picture(drawn)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize("look", UNKNOWN)
def test_what_cannot_is_refused_and_said(look: str) -> None:
    with pytest.raises(UserError, match=r"a game: render\(\) gave .*expected h w 3"):
        Looks("a game").picture(UNKNOWN[look])


def test_a_black_picture_decides_no_scale_and_a_scale_that_changes_is_refused() -> None:
    looks = Looks("a game")
    assert not looks.picture(np.zeros((6, 8, 3))).any()
    np.testing.assert_array_equal(looks.picture(COLOUR / 255), COLOUR)
    with pytest.raises(UserError, match="up to 1 at first and up to 255 later"):
        looks.picture(COLOUR.astype(np.float64))


@pytest.mark.parametrize("look", ["one_channel", "channels_first", "float_to_1"])
def test_what_is_recorded_can_be_read_and_trained_on(look: str, tmp_path: Path) -> None:
    command = [
        "record",
        "--env",
        "tests.data_sources.test_rendering:Draws",
        "--env-arg",
        f"look={look}",
    ]
    assert main([*command, "--size", "16x8", "--frames", "10", "--out", str(tmp_path)]) == 0
    (path,) = find_episodes(tmp_path)
    assert load_episode(path).frames.shape[1:] == (8, 16, 3)


@pytest.mark.parametrize("look", ["two_channels", "list_of_frames"])
def test_what_cannot_be_read_is_not_recorded(
    look: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "record",
        "--env",
        "tests.data_sources.test_rendering:Draws",
        "--env-arg",
        f"look={look}",
    ]
    out = tmp_path / "out"
    assert main([*command, "--size", "16x8", "--frames", "10", "--out", str(out)]) == 2
    assert "render() gave" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_no_file_is_written_that_could_not_be_read(tmp_path: Path) -> None:
    grey: Any = np.zeros((2, 8, 16), np.uint8)
    episode = Episode(frames=grey, actions=[IDLE] * 2, frames_per_second=10.0, buttons=())
    with pytest.raises(EpisodeError, match=r"frames are uint8 \(2, 8, 16\); expected uint8 f h w"):
        save_episode(tmp_path / "grey.safetensors", episode)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", ["50x50", "48x50", "63x48"])
def test_a_size_that_nothing_can_be_trained_on_is_refused_before_recording(
    size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["record", "--env", "tests.data_sources.test_rendering:Draws", "--size", size]
    assert main([*command, "--frames", "10", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert f"--size {size}: nothing could be trained on it" in told
    assert "for instance 48x48" in told or "for instance 64x48" in told
    assert not list(tmp_path.iterdir())
