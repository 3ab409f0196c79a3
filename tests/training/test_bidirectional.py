from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import make_lively
from tests.training.tiny_data import MODEL
from worldmodel.config import ConfigError
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.schedule import sigma_grid
from worldmodel.training.bidirectional import WholeClips, draw_whole, unknown, whole_velocity

FRAMES = 6


@pytest.fixture
def model() -> WorldTransformer:
    torch.manual_seed(0)
    return make_lively(WorldTransformer(MODEL)).eval().requires_grad_(requires_grad=False)


def random_clip(batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(batch, FRAMES, *MODEL.latent_shape, generator=generator)
    return latents, torch.randn(batch, FRAMES, MODEL.buttons + 2, generator=generator)


def test_what_is_known_says_where_and_what_comes_later_counts_too(model: WorldTransformer) -> None:
    latents, actions = random_clip()
    known = torch.tensor([0, 2])
    sigmas = 0.6 * unknown(known, FRAMES)
    assert sigmas.tolist()[1][:3] == [0, 0, pytest.approx(0.6)]
    plain = whole_velocity(model, latents, sigmas, actions, known)
    later = latents.clone()
    later[:, -1] += 1
    moved = (whole_velocity(model, later, sigmas, actions, known) - plain).abs().amax((2, 3, 4))
    assert (moved[:, :-1] > 1e-6).all()


def test_frames_that_are_known_stay_what_they_are(model: WorldTransformer) -> None:
    latents, actions = random_clip()
    sampler = SamplerConfig(sigmas=tuple(sigma_grid(3).tolist()), renoise=False)
    drawn = draw_whole(model, sampler, latents[:, :2], actions)
    assert drawn.shape[1] == FRAMES - 2
    other = draw_whole(model, sampler, latents[:, :2] + 1, actions)
    assert not torch.allclose(drawn, other)
    turned = draw_whole(model, replace(sampler, guidance=3.0), latents[:, :2], actions)
    assert not torch.allclose(drawn, turned)


def test_clips_must_have_frames_to_draw() -> None:
    with pytest.raises(ConfigError, match="known \\(6\\) must be at least 1 and below frames"):
        WholeClips(batch=1, frames=6, known=6)
