"""Frames in the colours of a palette: the nearest of them, whatever computes."""

from typing import Any

import pytest
import torch

from worldmodel.config import ConfigError
from worldmodel.model.autoencoder import Autoencoder, decode_latents, to_frames
from worldmodel.model.configs import AutoencoderConfig
from worldmodel.model.palette import STEP, Palette

SHAPE: dict[str, Any] = {
    "widths": (8, 8),
    "blocks": 1,
    "latent_channels": 4,
    "frame_height": 8,
    "frame_width": 16,
}
COLOURS = ("000000", "2b1708", "ff8040", "3060ff")


def test_every_pixel_becomes_the_nearest_colour() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (2, 3, 8, 16, 3), dtype=torch.uint8, generator=generator)
    shown = Palette(COLOURS)(frames)
    assert (shown.dtype, shown.shape) == (torch.uint8, frames.shape)
    colours = torch.tensor([list(bytes.fromhex(c)) for c in COLOURS]).double()
    # A cell of the table has one nearest colour: that of its middle.
    middle = (frames // STEP * STEP).double() + (STEP - 1) / 2
    found = (shown.double() - middle).square().sum(dim=-1)
    least = (colours - middle[..., None, :]).square().sum(dim=-1).amin(dim=-1)
    assert torch.equal(found, least)


def test_colours_of_the_palette_stay_as_they_are() -> None:
    palette = Palette(COLOURS)
    assert torch.equal(palette(palette.colours), palette.colours)


def test_a_decoder_shows_the_palette_and_its_weights_know_nothing_of_it() -> None:
    config = AutoencoderConfig(**SHAPE, palette=COLOURS)
    torch.manual_seed(0)
    autoencoder = Autoencoder(config).eval()
    latents = torch.randn(1, 3, *config.latent_shape) * 3
    frames = decode_latents(autoencoder, latents)[0]
    plain = to_frames(autoencoder.decode(latents[0]))
    assert torch.equal(frames, Palette(COLOURS)(plain))
    assert not torch.equal(frames, plain)
    assert not [name for name in autoencoder.state_dict() if "palette" in name]


@pytest.mark.parametrize(
    ("palette", "words"),
    [
        (("2b1708", "brown"), "'brown' is no colour; expected six hexadecimal digits"),
        (("#2b1708",), "is no colour"),
        (tuple(f"{i:06x}" for i in range(257)), "257 colours; at most 256"),
    ],
)
def test_what_is_no_palette_is_refused(palette: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AutoencoderConfig(**SHAPE, palette=palette)
