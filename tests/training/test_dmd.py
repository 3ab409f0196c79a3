"""Distribution matching: the gradient is the paper's, the rollout is play's, nothing leaks back."""

from dataclasses import replace
from random import Random

import pytest
import torch
from torch import Tensor

from tests.conftest import make_lively
from tests.training.tiny_data import MODEL, SPEC
from worldmodel.action import IDLE
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import Rollout
from worldmodel.training.matching import PlayedClips, Truth, dmd_loss, truth_loss
from worldmodel.training.self_play import Exit, SelfPlay, let_go, self_play
from worldmodel.training.stage import Critic

TWO = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)
PAST = MODEL.sink_frames + MODEL.context_frames


def make_model(config: ModelConfig = MODEL) -> WorldTransformer:
    torch.manual_seed(0)
    return make_lively(WorldTransformer(config))


def random_past(frames: int = PAST, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    latents = torch.randn(batch, frames, *MODEL.latent_shape, generator=generator)
    return latents, torch.randn(batch, frames, MODEL.buttons + 2, generator=generator)


def random_actions(frames: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(batch, frames, MODEL.buttons + 2, generator=generator)


def play(
    model: WorldTransformer,
    sampler: SamplerConfig,
    leave: Exit,
    frames: int = 8,
    graded: range = range(99),
) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return self_play(
        model, sampler, random_past(), random_actions(frames), leave, graded, generator
    )


def test_the_gradient_of_the_loss_is_the_normalised_difference_of_the_two_scores() -> None:
    """∂L/∂x = g / numel, g = (f_critic − f_real) / mean |x − f_real|; zero for what is known."""
    shape = (2, 5, *MODEL.latent_shape)
    x = torch.randn(shape, requires_grad=True)
    fake, real, known = torch.randn(shape), torch.randn(shape), torch.tensor([0, 2])
    loss, _ = dmd_loss(PlayedClips(x, torch.zeros(2, 5, 4), known), fake, real)
    (found,) = torch.autograd.grad(loss, x)
    size = MODEL.latent_channels * MODEL.latent_height * MODEL.latent_width
    for clip, first in ((0, 0), (1, 2)):
        drawn = slice(first, None)
        scale = (x[clip, drawn] - real[clip, drawn]).abs().mean()
        expected = (fake - real)[clip, drawn] / scale / (size * (5 + 3))
        torch.testing.assert_close(found[clip, drawn], expected)
    assert not found[1, :2].any()


def test_a_clip_that_the_teacher_would_draw_just_so_breaks_nothing() -> None:
    x = torch.randn(1, 3, *MODEL.latent_shape, requires_grad=True)
    played = PlayedClips(x, torch.zeros(1, 3, 4), torch.tensor([0]))
    loss, _ = dmd_loss(played, x.detach(), x.detach())  # 0 / 0
    (found,) = torch.autograd.grad(loss, x)
    assert not found.any()


def test_the_truth_pulls_drawn_frames_by_their_weight_and_known_ones_not_at_all() -> None:
    x = torch.randn(2, 4, *MODEL.latent_shape, requires_grad=True)
    true = torch.randn_like(x)
    weight = torch.tensor([[9.0, 9.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    played = PlayedClips(x, torch.zeros(2, 4, 4), torch.tensor([2, 0]), Truth(true, weight))
    assert played.truth is not None
    (found,) = torch.autograd.grad(truth_loss(played, played.truth), x)
    drawn = 6 * x[0, 0].numel()
    expected = torch.zeros_like(x)
    expected[0, 2], expected[0, 3] = x[0, 2] - true[0, 2], 0.5 * (x[0, 3] - true[0, 3])
    assert torch.allclose(found, expected / drawn, atol=1e-7)


def test_training_plays_exactly_as_play_does() -> None:
    """The same frames as `Rollout` draws, if both draw the same noise and no step is left out."""
    model = make_model().requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(6)
    trained = play(model, TWO, Exit(1, 1))
    rollout = Rollout(model, TWO, [0, 0])
    shape = (2, 1, *MODEL.latent_shape)
    rollout._noise = lambda: torch.randn(shape, generator=generator)  # type: ignore[method-assign]  # training's
    rollout.prime(*random_past())
    played = [rollout.step(action) for action in random_actions(8).split(1, dim=1)]
    torch.testing.assert_close(trained, torch.cat(played, dim=1), atol=1e-5, rtol=1e-4)


def test_the_clean_pass_of_training_is_as_clean_as_that_of_play() -> None:
    """Both remember at σ = 0 exactly, and what they remember is what was drawn."""
    model, seen = make_model(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[1], inputs[0])))
    frames = play(model, TWO, Exit(0, 0), frames=3)
    drawn = seen[1:]  # without the priming: step, clean pass, step, clean pass, step
    assert [float(sigma[0, 0]) for sigma, _ in drawn] == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert torch.equal(drawn[1][1], frames[:, :1])


def test_a_rollout_s_gradient_goes_through_each_frame_s_last_step_alone() -> None:
    """No leak through the cache into earlier frames, none through earlier steps."""
    model, passes = make_model(), []

    def watch(_: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            output.retain_grad()
        passes.append((float(inputs[1][0, 0]), output))

    model.register_forward_hook(watch)
    frames = play(model, TWO, Exit(1, 1), frames=6)
    frames[:, 4].sum().backward()
    with_gradient = [n for n, (_, out) in enumerate(passes) if out.requires_grad]
    assert {passes[n][0] for n in with_gradient} == {0.5}
    assert len(with_gradient) == 6
    gradients = {n: passes[n][1].grad for n in with_gradient}
    reached = [n for n, grad in gradients.items() if grad is not None and grad.any()]
    assert reached == [with_gradient[4]]
    assert all(p.grad is not None and p.grad.any() for p in model.blocks.parameters())


def test_frames_before_the_scored_clip_carry_no_gradient() -> None:
    model = make_model()
    early = play(model, TWO, Exit(0, 0), frames=4, graded=range(2, 4))
    loose = play(model, TWO, Exit(0, 0), frames=4)
    torch.testing.assert_close(early, loose)
    gradients = []
    for drawn in (early[:, :2], early[:, 2:]):
        model.zero_grad()
        drawn.sum().backward(retain_graph=True)
        gradients.append(model.unembed.weight.grad)
    assert gradients[0] is None or not gradients[0].any()
    assert gradients[1] is not None
    assert gradients[1].any()


def test_players_who_let_go_do_what_an_idle_player_does_and_the_others_what_they_did() -> None:
    actions = random_actions(6, batch=4)
    quiet = let_go(actions, past=2, share=0.5)
    idle = torch.from_numpy(SPEC.encode([IDLE] * 4))
    assert all(torch.equal(clip, idle) for clip in quiet[:2, 2:])
    assert torch.equal(quiet[:2, :2], actions[:2, :2])
    assert torch.equal(quiet[2:], actions[2:])
    assert torch.equal(let_go(actions, past=2, share=0.0), actions)


def test_one_exit_serves_a_whole_rollout_and_the_first_frame_has_its_own_list() -> None:
    longer = replace(TWO, first_sigmas=(1.0, 0.75, 0.5, 0.25, 0.0))
    exits = [Exit.draw(longer, Random(seed)) for seed in range(60)]
    assert {leave.rest for leave in exits} == {0, 1}
    assert {leave.first for leave in exits} == {0, 1, 2, 3}
    assert all(leave.first == leave.rest for leave in (Exit.draw(TWO, Random(s)) for s in range(9)))
    model, levels = make_model(), []
    model.register_forward_pre_hook(lambda _, inputs: levels.append(float(inputs[1][0, 0])))
    play(model, longer, Exit(2, 0), frames=3)
    assert levels[1:] == [1.0, 0.75, 0.5, 0.0, 1.0, 0.0, 1.0]


def test_without_a_clean_pass_the_cache_is_as_play_s_last_step_leaves_it() -> None:
    """Also where the exit came before that step: its level is passed once more, not σ = 0."""
    kept, model = replace(TWO, cache_from_last_step=True), make_model()
    for leave, expected in ((0, [1.0, 0.5, 1.0]), (1, [1.0, 0.5, 1.0, 0.5])):
        levels: list[float] = []
        hook = model.register_forward_pre_hook(
            lambda _, inputs, levels=levels: levels.append(float(inputs[1][0, 0]))
        )
        play(model, kept, Exit(leave, leave), frames=2)
        hook.remove()
        assert levels[1:] == expected


@pytest.mark.parametrize("n", [1, 3])
def test_chunks_are_rolled_out_and_graded_whole(n: int) -> None:
    config = replace(MODEL, chunk_frames=n, context_frames=6, sink_frames=0 if n == 1 else 3)
    model = make_model(config)
    past = random_past(config.context_frames + config.sink_frames)
    generator = torch.Generator().manual_seed(0)
    frames = self_play(model, TWO, past, random_actions(6), Exit(1, 1), range(99), generator)
    assert frames.shape == (2, 6, *MODEL.latent_shape)
    assert frames.requires_grad


def test_the_exit_may_come_at_any_chunk_of_a_rollout_that_is_begun_anew() -> None:
    """Two rollouts of one model do not disturb each other's exits or noise."""
    model = make_model().requires_grad_(requires_grad=False)
    one, other = (
        SelfPlay(model, TWO, 2, Exit(e, e), torch.Generator().manual_seed(e)) for e in (0, 1)
    )
    for rollout in (one, other):
        rollout.prime(*random_past())
    first, action = one.denoise(random_actions(1)), random_actions(1)
    other.denoise(action)
    again = SelfPlay(model, TWO, 2, Exit(0, 0), torch.Generator().manual_seed(0))
    again.prime(*random_past())
    assert torch.equal(again.denoise(action), first)


def test_the_critic_has_several_turns_before_each_of_the_student() -> None:
    critic = Critic(torch.nn.Linear(1, 1), updates=3, learning_rate=1.0)
    assert [critic.has_turn(step) for step in range(8)] == [True, True, True, False] * 2
