import torch
from torch import Tensor

from tests.conftest import TINY
from worldmodel.config import SamplerConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import Rollout, next_frames, roll_out
from worldmodel.schedule import sigma_grid

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


def test_noise_on_the_history_is_drawn_and_told(tiny_model: WorldTransformer) -> None:
    noisy = SamplerConfig(sigmas=ONE_STEP.sigmas, renoise=True, context_sigma=0.2)
    past, actions = random_past(2), random_actions(5)
    clean = roll_out(tiny_model, ONE_STEP, past, actions)
    assert not torch.allclose(roll_out(tiny_model, noisy, past, actions), clean)
