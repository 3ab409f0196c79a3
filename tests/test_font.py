"""The one font: even at any size, and never wider than its room."""

import pygame
import pytest

from worldmodel.font import fitted, shortened, width, words, wrapped

WHITE = (255, 255, 255)
TEXTS = ["17.5 fps", "measuring", "input to frame", "Keys and gamepad", "illicit"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [12, 14, 17, 20])
def test_letters_stand_as_far_apart_at_every_size(text: str, size: int) -> None:
    true = width(text, 400) * size / 400
    assert width(text, size) == pytest.approx(true, abs=1.5), "no letter is moved to a whole pixel"
    assert words(text, size, WHITE).get_width() == width(text, size)


@pytest.mark.parametrize("wide", [30, 80, 140, 400])
def test_a_text_that_must_fit_gets_smaller_before_it_is_cut(wide: int) -> None:
    text = "Close to the wall"
    picture = fitted(text, wide, 20, WHITE)
    assert picture.get_width() <= wide
    if width(text, 12) <= wide:
        assert picture.get_width() > min(width(text, 20), wide - 20) - 1, "as large as it may be"
        assert shortened(text, wide, 12) == text, "nothing is cut"


def test_lines_are_no_wider_than_asked() -> None:
    text = "saved this moment: 20261128-192600-205a0b74.safetensors in a folder"
    for wide in (60, 150, 300):
        lines = wrapped(text, wide, 14)
        assert all(width(line, 14) <= wide for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_letters_are_written_after_somebody_has_quit_pygame() -> None:
    before = words("again", 14, WHITE).get_size()
    width("not kept", 14)
    pygame.quit()
    assert width("after all", 14) > 0  # a font from before would be refused by pygame
    assert words("again", 14, WHITE).get_size() == before
