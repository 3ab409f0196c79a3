"""Training and play are one function: what a clip gives at once, the cache gives frame by frame."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY
from tests.model.random_clips import CONFIGS, FRAMES, clip_frames, make_model, random_clip
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import ClipContext, TeacherForcing, WholeClip, visible
from worldmodel.model.kv_cache import KVCache
from worldmodel.model.transformer import WorldTransformer


@pytest.mark.parametrize("config", CONFIGS)
def test_teacher_forcing_trains_exactly_the_frame_that_play_denoises(config: ModelConfig) -> None:
    """Noisy pass, clean pass, advance: every noisy copy's frame, also after the ring wrapped."""
    model, (clean, _, actions) = make_model(config), random_clip(config)
    copies, frames, n = 2, clip_frames(config), config.chunk_frames
    noisy = torch.randn(2, copies, frames, *config.latent_shape)
    sigmas = torch.rand(2, copies, frames)
    packed = model(
        torch.cat((clean, noisy.flatten(1, 2)), dim=1),
        torch.cat((torch.zeros(2, frames), sigmas.flatten(1, 2)), dim=1),
        actions.repeat(1, 1 + copies, 1),
        TeacherForcing(config, frames, copies),
    )[:, frames:].unflatten(1, (copies, frames))

    for copy in range(copies):
        cache = KVCache(config, batch=2)
        for f in range(0, frames, n):
            now = slice(f, f + n)
            velocity = model(noisy[:, copy, now], sigmas[:, copy, now], actions[:, now], cache)
            torch.testing.assert_close(velocity, packed[:, copy, now], atol=1e-5, rtol=1e-4)
            model(clean[:, now], torch.zeros(2, n), actions[:, now], cache)
            cache.advance()


def test_a_noisy_frame_depends_on_no_other_noisy_frame(tiny_model: WorldTransformer) -> None:
    """The truth table of the packed mask, by brute force."""
    clean, _, actions = random_clip(TINY, batch=1)
    frames = 4
    clean, actions = clean[:, :frames], actions[:, :frames]
    context = TeacherForcing(TINY, frames)

    def velocity(history: Tensor, noisy: Tensor) -> Tensor:
        sigmas = torch.full((1, 2 * frames), 0.5)
        packed = torch.cat((history, noisy), dim=1)
        return tiny_model(packed, sigmas, actions.repeat(1, 2, 1), context)[:, frames:]

    noisy = torch.randn(1, frames, *TINY.latent_shape)
    before = velocity(clean, noisy)
    seen = visible(TINY, frames) & ~torch.eye(frames, dtype=torch.bool)
    for g in range(frames):
        changed = noisy.clone()
        changed[:, g] += 1
        moved = (velocity(clean, changed) - before).abs().amax(dim=(0, 2, 3, 4)) > 1e-6
        assert moved.tolist() == [f == g for f in range(frames)]
        changed = clean.clone()
        changed[:, g] += 1
        moved = (velocity(changed, noisy) - before).abs().amax(dim=(0, 2, 3, 4)) > 1e-6
        # The past also arrives through the clean frames between, so: no earlier frame moves.
        assert not moved[: g + 1].any()
        assert moved[seen[:, g]].all()


def test_the_window_and_the_sinks_are_all_that_is_visible() -> None:
    assert visible(TINY, 6).int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 0, 1, 1, 1, 0],
        [1, 0, 0, 1, 1, 1],
    ]


def test_a_chunk_sees_all_of_itself_and_no_later_one() -> None:
    config = replace(TINY, context_frames=4, sink_frames=2, chunk_frames=2)
    assert visible(config, 10).int().tolist()[::2] == [
        [1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0, 0, 1, 1, 1, 1],
    ]
    assert torch.equal(visible(config, 10)[::2], visible(config, 10)[1::2])


def test_the_frame_before_a_chunk_is_the_last_clean_one() -> None:
    config = replace(TINY, context_frames=4, sink_frames=0, chunk_frames=2)
    latents = torch.arange(1.0, 7.0)[None, :, None, None, None].expand(1, -1, *config.latent_shape)
    before = ClipContext(config, 6).previous(latents)[0, :, 0, 0, 0]
    assert before.tolist() == [0, 0, 2, 2, 4, 4]


def test_in_a_whole_clip_every_frame_sees_every_other_and_knows_the_last_clean_one() -> None:
    model, (latents, sigmas, actions) = make_model(TINY), random_clip(TINY)
    known = torch.tensor([0, 2])
    context = WholeClip(TINY, FRAMES, known)
    before = context.previous(latents)
    assert torch.equal(before[0], torch.zeros_like(before[0]))
    assert torch.equal(before[1, 1], latents[1, 0])
    assert torch.equal(before[1, 2:], latents[1, 1:2].expand(FRAMES - 2, -1, -1, -1))
    plain = model(latents, sigmas, actions, context)
    for g in range(FRAMES):
        changed = latents.clone()
        changed[:, g] += 1
        moved = (model(changed, sigmas, actions, context) - plain).abs() > 1e-6
        assert moved.any(dim=(2, 3, 4)).all(), g
