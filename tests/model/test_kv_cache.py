"""What play keeps of the past: the same as a clip shows at once, in memory that never grows."""

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY
from tests.model.random_clips import CONFIGS, FRAMES, clip_frames, make_model, random_clip
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import ClipContext
from worldmodel.model.kv_cache import KVCache
from worldmodel.model.transformer import WorldTransformer


@pytest.mark.parametrize("config", CONFIGS)
def test_playing_frame_by_frame_equals_reading_the_whole_clip(config: ModelConfig) -> None:
    """Also after the ring has wrapped and the sinks have been left behind."""
    model, (latents, sigmas, actions) = make_model(config), random_clip(config)

    frames, n = clip_frames(config), config.chunk_frames
    clip = model(latents, sigmas, actions, ClipContext(config, frames))

    cache, played = KVCache(config, batch=2), []
    for f in range(0, frames, n):
        now = slice(f, f + n)
        played.append(model(latents[:, now], sigmas[:, now], actions[:, now], cache))
        cache.advance()
    torch.testing.assert_close(torch.cat(played, dim=1), clip, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_beginning_that_is_read_at_once_leaves_the_cache_as_chunk_by_chunk(
    config: ModelConfig,
) -> None:
    model, (latents, sigmas, actions) = make_model(config), random_clip(config)
    frames, n = config.sink_frames + config.context_frames, config.chunk_frames
    slow, fast = KVCache(config, batch=2), KVCache(config, batch=2)
    for f in range(0, frames, n):
        now = slice(f, f + n)
        model(latents[:, now], sigmas[:, now], actions[:, now], slow)
        slow.advance()
    past = slice(0, frames)
    clip = fast.begin(frames)
    model(latents[:, past], sigmas[:, past], actions[:, past], clip)
    assert fast.now == 0, "nothing is past before `keep`"
    fast.keep(clip)
    assert fast.now == slow.now
    after = slice(frames, frames + n)
    for cache in (slow, fast):
        assert torch.equal(cache.previous(latents[:, after])[:, -1], latents[:, frames - 1])
    torch.testing.assert_close(fast.k, slow.k, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fast.sink_k, slow.sink_k, atol=1e-5, rtol=1e-4)
    x, s, a = (x[:, after] for x in (latents, sigmas, actions))
    torch.testing.assert_close(model(x, s, a, fast), model(x, s, a, slow), atol=1e-5, rtol=1e-4)


def test_a_gradient_stays_in_its_own_frame_and_the_cache_may_move_on() -> None:
    """Neither a leak into what was drawn before, nor an error when later frames overwrite slots."""
    model = make_model(TINY).requires_grad_(True)
    cache, inputs, drawn = KVCache(TINY, batch=1), [], []
    for _ in range(6):  # once around the ring of three
        x = torch.randn(1, 1, *TINY.latent_shape, requires_grad=True)
        inputs.append(x)
        drawn.append(model(x, torch.full((1, 1), 0.5), torch.zeros(1, 1, 6), cache))
        with torch.no_grad():
            model(drawn[-1].detach(), torch.zeros(1, 1), torch.zeros(1, 1, 6), cache)
        cache.advance()
    for f, frame in enumerate(drawn):
        found = torch.autograd.grad(frame.sum(), inputs, retain_graph=True, allow_unused=True)
        assert [g is not None for g in found] == [g == f for g in range(6)]
    torch.stack(drawn).sum().backward()
    assert all(p.grad is not None for p in model.blocks.parameters())


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


def test_a_saved_cache_goes_on_as_if_nothing_had_happened(tiny_model: WorldTransformer) -> None:
    """Also after the ring has wrapped and the sinks have been moved."""
    clean, sigmas, actions = random_clip(TINY, batch=1)
    for saved_at in (2, 7):
        whole, again, after = KVCache(TINY), KVCache(TINY), []
        for f in range(FRAMES):
            now = slice(f, f + 1)
            if f == saved_at:
                saved = whole.save()
                assert {k: tuple(v.shape) for k, v in saved.items()} == whole.saved_shapes(f)
                again.load(saved, f)
            caches = (whole, again) if f >= saved_at else (whole,)
            drawn = [tiny_model(clean[:, now], sigmas[:, now], actions[:, now], c) for c in caches]
            after.append(drawn)
            for cache in caches:
                cache.advance()
        assert all(torch.equal(*drawn) for drawn in after if len(drawn) == 2)
