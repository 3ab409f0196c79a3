"""The palette of a game: its commonest colours, none close to a commoner one."""

import numpy as np
import pytest

from worldmodel.config import ConfigError
from worldmodel.training.colours import choose_palette


def frame(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.array(colours, np.uint8).reshape(1, -1, 3)


def test_the_commonest_colours_come_first_and_close_ones_are_left_out() -> None:
    red, almost, blue = (200, 0, 0), (203, 2, 1), (0, 0, 200)
    frames = [frame(blue, red, red, almost), frame(red, blue, almost, blue, blue)]
    assert choose_palette(frames) == ("0000c8", "c80000")
    assert choose_palette(frames, apart=1.0) == ("0000c8", "c80000", "cb0201")


def test_a_tie_is_decided_by_the_colour_and_not_by_the_order() -> None:
    one, other = (9, 9, 90), (90, 9, 9)
    assert choose_palette([frame(one, other)]) == choose_palette([frame(other, one)])


def test_a_game_of_all_colours_has_no_palette() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"come near \d+ % of the pixels, 95 % are needed"):
        choose_palette([noise])
