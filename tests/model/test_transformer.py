"""Tokens of the transformer."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from tests.conftest import TINY
from tests.model.random_clips import FRAMES, make_model, random_clip
from worldmodel.model.context import ClipContext
from worldmodel.model.transformer import WorldTransformer


def test_a_patch_of_latents_is_one_token_of_all_their_channels() -> None:
    patched = replace(TINY, latent_height=4, latent_width=6, patch=2)
    rows, columns = patched.token_grid
    plain = replace(
        patched,
        patch=1,
        latent_channels=patched.token_channels,
        latent_height=rows,
        latent_width=columns,
    )
    latents, sigmas, actions = random_clip(patched)
    model = make_model(patched)
    same = WorldTransformer(plain)
    same.load_state_dict(model.state_dict())
    folded = F.pixel_unshuffle(latents.flatten(0, 1), 2).unflatten(0, latents.shape[:2])

    y = model(latents, sigmas, actions, ClipContext(patched, FRAMES))
    z = same(folded, sigmas, actions, ClipContext(plain, FRAMES))
    torch.testing.assert_close(F.pixel_unshuffle(y.flatten(0, 1), 2), z.flatten(0, 1))
