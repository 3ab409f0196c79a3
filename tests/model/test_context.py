"""Training and play are one function: what a clip gives at once, the cache gives frame by frame."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, make_lively
from worldmodel.config import ModelConfig
from worldmodel.model.context import Clip, KVCache, TeacherForcing, visible
from worldmodel.model.transformer import WorldTransformer

# Window 3 and one sink make four slots: nine frames go twice around the ring.
FRAMES = 9
CONFIGS = [
    pytest.param(replace(TINY, sink_frames=sinks, action_tokens=m), id=f"sinks{sinks}-actions{m}")
    for sinks, m in ((0, 1), (1, 1), (2, 2))
]


def random_clip(config: ModelConfig, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(batch, FRAMES, *config.latent_shape, generator=generator)
    sigmas = torch.rand(batch, FRAMES, generator=generator)
    actions = torch.randn(batch, FRAMES, config.buttons + 2, generator=generator)
    return latents, sigmas, actions


def make_model(config: ModelConfig) -> WorldTransformer:
    torch.manual_seed(0)
    return make_lively(WorldTransformer(config)).requires_grad_(False)


@pytest.mark.parametrize("config", CONFIGS)
def test_playing_frame_by_frame_equals_reading_the_whole_clip(config: ModelConfig) -> None:
    """Also after the ring has wrapped and the sinks have been left behind."""
    model, (latents, sigmas, actions) = make_model(config), random_clip(config)

    clip = model(latents, sigmas, actions, Clip(config, FRAMES))

    cache, played = KVCache(config, batch=2), []
    for f in range(FRAMES):
        now = slice(f, f + 1)
        played.append(model(latents[:, now], sigmas[:, now], actions[:, now], cache))
        cache.advance()
    torch.testing.assert_close(torch.cat(played, dim=1), clip, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_teacher_forcing_trains_exactly_the_frame_that_play_denoises(config: ModelConfig) -> None:
    """Noisy pass, clean pass, advance: every noisy copy's frame, also after the ring wrapped."""
    model, (clean, _, actions) = make_model(config), random_clip(config)
    copies = 2
    noisy = torch.randn(2, copies, FRAMES, *config.latent_shape)
    sigmas = torch.rand(2, copies, FRAMES)
    packed = model(
        torch.cat((clean, noisy.flatten(1, 2)), dim=1),
        torch.cat((torch.zeros(2, FRAMES), sigmas.flatten(1, 2)), dim=1),
        actions.repeat(1, 1 + copies, 1),
        TeacherForcing(config, FRAMES, copies),
    )[:, FRAMES:].unflatten(1, (copies, FRAMES))

    for copy in range(copies):
        cache = KVCache(config, batch=2)
        for f in range(FRAMES):
            now = slice(f, f + 1)
            velocity = model(noisy[:, copy, now], sigmas[:, copy, now], actions[:, now], cache)
            torch.testing.assert_close(velocity, packed[:, copy, now], atol=1e-5, rtol=1e-4)
            model(clean[:, now], torch.zeros(2, 1), actions[:, now], cache)
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


def test_the_cache_never_grows_and_keeps_its_memory(tiny_model: WorldTransformer) -> None:
    cache = KVCache(TINY)
    address, size = cache.k.data_ptr(), cache.k.numel()
    for _ in range(50):
        tiny_model(torch.randn(1, 1, 3, 2, 2), torch.zeros(1, 1), torch.zeros(1, 1, 6), cache)
        cache.advance()
    assert (cache.k.data_ptr(), cache.k.numel()) == (address, size)


def test_an_hour_of_frames_later_the_cache_answers_as_at_first(
    tiny_model: WorldTransformer,
) -> None:
    """Only differences of time matter, and they stay exact at frame 100 000."""
    clean, sigmas, actions = random_clip(TINY, batch=1)

    def play(start: int) -> Tensor:
        cache = KVCache(TINY)
        cache.now = start
        cache.advance()
        cache.sink_k.zero_()
        played = []
        for f in range(FRAMES):
            now = slice(f, f + 1)
            played.append(tiny_model(clean[:, now], sigmas[:, now], actions[:, now], cache))
            cache.advance()
        return torch.cat(played[4:], dim=1)

    torch.testing.assert_close(play(99_999), play(11), atol=1e-4, rtol=1e-3)
