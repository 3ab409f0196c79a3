from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, make_lively
from worldmodel.model.action_encoder import unconditional
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.context import ClipContext
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import Rollout, next_frames, roll_out
from worldmodel.schedule import guided, sigma_grid

TWO_STEPS = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)
ONE_STEP = SamplerConfig(sigmas=(1.0, 0.0), renoise=True)


def random_actions(frames: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, frames, 6, generator=torch.Generator().manual_seed(3))


def random_past(frames: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    latents = torch.randn(batch, frames, *TINY.latent_shape, generator=generator)
    return latents, torch.randn(batch, frames, 6, generator=generator)


def play(model: WorldTransformer, seed: int, actions: Tensor) -> Tensor:
    rollout = Rollout(model, TWO_STEPS, [seed])
    rollout.prime(*random_past(2))
    return torch.cat([rollout.step(action) for action in actions.split(1, dim=1)], dim=1)


def test_the_same_seed_and_actions_give_the_same_frames(tiny_model: WorldTransformer) -> None:
    actions = random_actions(6)
    assert torch.equal(play(tiny_model, 0, actions), play(tiny_model, 0, actions))
    assert not torch.equal(play(tiny_model, 0, actions), play(tiny_model, 1, actions))


def test_an_action_changes_its_frame_and_no_earlier_one(tiny_model: WorldTransformer) -> None:
    actions = random_actions(6)
    changed = actions.clone()
    changed[:, 3] += 1
    before, after = play(tiny_model, 0, actions), play(tiny_model, 0, changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert all(not torch.equal(before[:, f], after[:, f]) for f in range(3, 6))


def test_two_rollouts_of_one_model_do_not_disturb_each_other(
    tiny_model: WorldTransformer,
) -> None:
    actions = random_actions(5)
    alone = play(tiny_model, 0, actions)
    one, other = Rollout(tiny_model, TWO_STEPS, [0]), Rollout(tiny_model, TWO_STEPS, [9])
    one.prime(*random_past(2))
    other.prime(*random_past(2))
    played = []
    for action in actions.split(1, dim=1):
        played.append(one.step(action))
        other.step(-action)
    assert torch.equal(torch.cat(played, dim=1), alone)


def test_a_session_does_not_depend_on_who_shares_its_batch(tiny_model: WorldTransformer) -> None:
    past, acts = random_past(2, batch=3)
    actions = random_actions(6, batch=3)
    together = roll_out(tiny_model, TWO_STEPS, (past, acts), actions)
    alone = roll_out(tiny_model, TWO_STEPS, (past[:1], acts[:1]), actions[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-4)


def test_a_played_frame_is_remembered_as_if_it_had_been_given(
    tiny_model: WorldTransformer,
) -> None:
    """Denoising leaves nothing in the cache but what the clean pass writes."""
    actions = random_actions(4)
    played = Rollout(tiny_model, TWO_STEPS, [0])
    played.prime(*random_past(2))
    latent = played.step(actions[:, :1])
    given = Rollout(tiny_model, TWO_STEPS, [0])
    past, acts = random_past(2)
    given.prime(torch.cat((past, latent), dim=1), torch.cat((acts, actions[:, :1]), dim=1))
    given.generators = played.generators
    torch.testing.assert_close(given.cache.k, played.cache.k, atol=1e-6, rtol=1e-5)
    assert given.cache.now == played.cache.now


def test_next_frames_are_what_play_draws_after_the_true_history(
    tiny_model: WorldTransformer,
) -> None:
    """Held on the teacher's sampler, whose only noise is the first: the last frame of a clip."""
    frames = 4
    latents, actions = random_past(frames)
    sampler = SamplerConfig(sigmas=tuple(sigma_grid(3).tolist()), renoise=False)
    drawn = next_frames(tiny_model, sampler, latents, actions)

    rollout = Rollout(tiny_model, sampler, [0])
    rollout.prime(latents[:, :-1], actions[:, :-1])
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))[:, -1:]
    rollout._noise = lambda: noise  # type: ignore[method-assign]  # the same draw as the clip's
    torch.testing.assert_close(
        rollout.denoise(actions[:, -1:]), drawn[:, -1:], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("n", [3, 4])
def test_chunks_are_drawn_in_play_as_after_a_true_history(n: int) -> None:
    """With a full window, sinks left behind: cached, packed and sampled are one."""
    config = replace(TINY, chunk_frames=n, context_frames=2 * n, sink_frames=n)
    torch.manual_seed(0)
    model = make_lively(WorldTransformer(config)).eval().requires_grad_(False)
    frames = 6 * n
    latents, actions = random_past(frames)
    sampler = SamplerConfig(sigmas=tuple(sigma_grid(3).tolist()), renoise=False)
    drawn = next_frames(model, sampler, latents, actions)
    for chunks in (1, 3, 5):  # the window not yet full, full, and moved on
        rollout = Rollout(model, sampler, [0])
        here = slice(chunks * n, (chunks + 1) * n)
        rollout.prime(latents[:, : here.start], actions[:, : here.start])
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))[:, here]
        rollout._noise = lambda noise=noise: noise  # type: ignore[method-assign,misc]  # as above
        found = rollout.denoise(actions[:, here])
        torch.testing.assert_close(found, drawn[:, here], atol=1e-5, rtol=1e-4)


def test_a_rollout_in_chunks_draws_as_many_frames_as_there_are_actions() -> None:
    config = replace(TINY, chunk_frames=3, sink_frames=3, context_frames=6)
    torch.manual_seed(0)
    model = make_lively(WorldTransformer(config)).eval().requires_grad_(False)
    past, acts = random_past(8)  # two more than whole chunks
    whole = roll_out(model, TWO_STEPS, (past[:, 2:], acts[:, 2:]), random_actions(9))
    seven = roll_out(model, TWO_STEPS, (past, acts), random_actions(9)[:, :7])
    assert seven.shape[1] == 7
    assert torch.equal(seven[:, :6], whole[:, :6])


def test_only_the_first_frame_takes_the_longer_list(tiny_model: WorldTransformer) -> None:
    longer = replace(ONE_STEP, first_sigmas=(1.0, 0.8, 0.4, 0.0))
    passes, rollout = [], Rollout(tiny_model, longer, [0])
    tiny_model.register_forward_pre_hook(lambda _, inputs: passes.append(float(inputs[1])))
    rollout.prime(*random_past(2))
    for action in random_actions(3).split(1, dim=1):
        rollout.step(action)
    levels = [round(level, 1) for level in passes]
    assert levels == [0, 0, 1.0, 0.8, 0.4, 0, 1.0, 0, 1.0, 0]


def test_without_a_clean_pass_the_last_step_is_what_is_remembered(
    tiny_model: WorldTransformer,
) -> None:
    kept = replace(TWO_STEPS, cache_from_last_step=True)
    rollout, actions = Rollout(tiny_model, kept, [0]), random_actions(2)
    rollout.prime(*random_past(2))
    latent = rollout.denoise(actions[:, :1])
    before = rollout.cache.k.clone()
    rollout.remember()
    assert torch.equal(rollout.cache.k[:, :, :, 5:], before[:, :, :, 5:])  # the sink may move
    assert torch.equal(rollout.cache.previous(latent), latent)  # as it was shown, not as noisy
    clean = Rollout(tiny_model, TWO_STEPS, [0])
    clean.prime(*random_past(2))
    assert torch.equal(clean.step(actions[:, :1]), latent)
    assert not torch.equal(clean.step(actions[:, 1:]), rollout.step(actions[:, 1:]))


def test_guidance_goes_beyond_what_the_action_changes(tiny_model: WorldTransformer) -> None:
    x, sigmas = torch.randn(1, 2, *TINY.latent_shape), torch.full((1, 2), 0.7)
    actions, context = random_actions(2), ClipContext(TINY, 2)
    told = tiny_model(x, sigmas, actions, context)
    without = tiny_model(x, sigmas, unconditional(actions), context)
    assert float((told - without).abs().max()) > 1e-3
    given: list[Tensor] = []

    def velocity(conditions: Tensor) -> Tensor:
        given.append(conditions)
        return tiny_model(x, sigmas, conditions, context)

    found = guided(velocity, actions, unconditional(actions), 3.0)
    torch.testing.assert_close(found, without + 3 * (told - without))
    assert given[-1] is actions  # what a cache keeps
    given.clear()
    assert torch.equal(guided(velocity, actions, unconditional(actions), 1.0), told)
    assert len(given) == 1


def test_standing_still_on_the_grid_of_latents_is_a_fixed_point(
    tiny_model: WorldTransformer,
) -> None:
    """A model that errs a little in every frame walks away without the grid, and not with it."""
    torch.nn.init.zeros_(tiny_model.unembed.weight)
    torch.nn.init.constant_(tiny_model.unembed.bias, 0.1)  # times frame_change: 0.05 a frame
    past, actions = random_past(2), torch.zeros(1, 20, 6)
    on_grid = SamplerConfig(sigmas=ONE_STEP.sigmas, renoise=True, latent_step=0.25)
    walked = roll_out(tiny_model, ONE_STEP, past, actions)
    stayed = roll_out(tiny_model, on_grid, past, actions)
    assert float((walked[:, -1] - walked[:, 0]).abs().min()) > 0.9
    assert torch.equal(stayed[:, -1], stayed[:, 0])
    assert float((stayed[:, 0] - past[0][:, -1]).abs().max()) <= 0.125 + 0.05 + 1e-6


def test_a_pull_to_the_view_keeps_errors_from_adding_up(tiny_model: WorldTransformer) -> None:
    """A model that errs by as much in every frame walks away, and comes to rest with the pull."""
    torch.nn.init.zeros_(tiny_model.unembed.weight)
    torch.nn.init.constant_(tiny_model.unembed.bias, 0.1)  # times frame_change: 0.05 a frame
    past, actions = random_past(2), torch.zeros(1, 80, 6)
    views = torch.randn(1, 80, *TINY.latent_shape, generator=torch.Generator().manual_seed(6))
    views[:] = views[:, :1]
    pulling = replace(ONE_STEP, view_pull=0.25)
    walked = roll_out(tiny_model, ONE_STEP, past, actions) - views
    pulled = roll_out(tiny_model, pulling, past, actions, views=views) - views
    each = walked[:, 1] - walked[:, 0]
    torch.testing.assert_close(walked[:, -1], walked[:, 0] + 79 * each, atol=1e-4, rtol=1e-4)
    # d = 3/4 d + 0.05: it rests at four times what it errs in a frame.
    torch.testing.assert_close(pulled[:, -1], 4 * each, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        roll_out(tiny_model, pulling, past, actions) - views, walked
    )  # nobody said what is seen


def test_noise_on_the_history_is_drawn_and_told(tiny_model: WorldTransformer) -> None:
    noisy = SamplerConfig(sigmas=ONE_STEP.sigmas, renoise=True, context_sigma=0.2)
    past, actions = random_past(2), random_actions(5)
    clean = roll_out(tiny_model, ONE_STEP, past, actions)
    assert not torch.allclose(roll_out(tiny_model, noisy, past, actions), clean)
