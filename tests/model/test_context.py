"""Training and play are one function: what a clip gives at once, the cache gives frame by frame."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.conftest import TINY, make_lively
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import ClipContext, TeacherForcing, WholeClip, visible
from worldmodel.model.kv_cache import KVCache
from worldmodel.model.transformer import WorldTransformer

# Window 3 and one sink make four slots: nine frames go twice around the ring.
FRAMES = 9
CONFIGS = [
    pytest.param(replace(TINY, sink_frames=sinks, action_tokens=m), id=f"sinks{sinks}-actions{m}")
    for sinks, m in ((0, 1), (1, 1), (2, 2))
]
# Chunks of 3 and 4: window and sinks are whole chunks, the clip goes twice around the ring.
CONFIGS += [
    pytest.param(
        replace(TINY, sink_frames=sinks, context_frames=2 * n, chunk_frames=n),
        id=f"sinks{sinks}-chunk{n}",
    )
    for sinks, n in ((0, 3), (3, 3), (4, 4))
]
CONFIGS.append(pytest.param(replace(TINY, latent_width=4, patch=2), id="patch2"))


def clip_frames(config: ModelConfig) -> int:
    return FRAMES if config.chunk_frames == 1 else 7 * config.chunk_frames


def random_clip(config: ModelConfig, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator, frames = torch.Generator().manual_seed(2), clip_frames(config)
    latents = torch.randn(batch, frames, *config.latent_shape, generator=generator)
    sigmas = torch.rand(batch, frames, generator=generator)
    actions = torch.randn(batch, frames, config.buttons + 2, generator=generator)
    return latents, sigmas, actions


def make_model(config: ModelConfig) -> WorldTransformer:
    torch.manual_seed(0)
    return make_lively(WorldTransformer(config)).requires_grad_(False)


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
    model(latents[:, past], sigmas[:, past], actions[:, past], fast.begin(frames))
    assert fast.now == slow.now
    after = slice(frames, frames + n)
    for cache in (slow, fast):
        assert torch.equal(cache.previous(latents[:, after])[:, -1], latents[:, frames - 1])
    torch.testing.assert_close(fast.k, slow.k, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fast.sink_k, slow.sink_k, atol=1e-5, rtol=1e-4)
    x, s, a = (x[:, after] for x in (latents, sigmas, actions))
    torch.testing.assert_close(model(x, s, a, fast), model(x, s, a, slow), atol=1e-5, rtol=1e-4)


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
