from dataclasses import replace

import torch
from torch import Tensor

from tests.conftest import TINY
from worldmodel.model.context import TeacherForcing
from worldmodel.model.transformer import WorldTransformer
from worldmodel.schedule import sigma_grid
from worldmodel.training.consistency import consistency_loss
from worldmodel.training.teacher_forcing import PackedClip, packed_velocity

FRAMES, COPIES, LEVELS = 4, 2, 8


def make_clip() -> PackedClip:
    clean = torch.randn(2, FRAMES, *TINY.latent_shape)
    actions = torch.randn(2, FRAMES, 6)
    return PackedClip(clean, clean, torch.zeros(2, FRAMES), actions, actions)


def straight(
    model: WorldTransformer, clip: PackedClip, noisy: Tensor, sigmas: Tensor, context: object
) -> Tensor:
    """The exact velocity of straight paths to the clip's latents."""
    del model, context
    return (noisy - clip.clean[:, None]) / sigmas[..., None, None, None].clamp(min=1e-12)


def test_the_loss_is_zero_where_all_three_share_an_exact_straight_field(
    tiny_model: WorldTransformer,
) -> None:
    """σ and its differences are exact: any error of dt would show here, on every interval."""
    clip, grid = make_clip(), sigma_grid(LEVELS, shift=5.0)
    noise = torch.randn(2, COPIES, FRAMES, *TINY.latent_shape)
    for level in range(LEVELS):
        index = torch.full((2, COPIES, FRAMES), level)
        loss = consistency_loss(
            straight,
            tiny_model,
            tiny_model,
            tiny_model,
            clip,
            grid,
            index,
            noise,
            TeacherForcing(TINY, FRAMES, COPIES),
        )
        assert loss.max() < 1e-9, level


def test_the_last_interval_is_anchored_in_the_data(tiny_model: WorldTransformer) -> None:
    """At σ = 0 the target is the teacher's own landing point, whatever the target network says."""
    clip, grid = make_clip(), sigma_grid(LEVELS)
    noise = torch.randn(2, COPIES, FRAMES, *TINY.latent_shape)
    index = torch.full((2, COPIES, FRAMES), LEVELS - 1)
    context = TeacherForcing(TINY, FRAMES, COPIES)

    def loss_with(target: WorldTransformer) -> Tensor:
        return consistency_loss(
            packed_velocity, tiny_model, target, tiny_model, clip, grid, index, noise, context
        )

    torch.manual_seed(5)
    other = WorldTransformer(TINY)
    torch.testing.assert_close(loss_with(tiny_model), loss_with(other))


def test_only_the_student_gets_a_gradient() -> None:
    torch.manual_seed(6)
    student, target = WorldTransformer(TINY), WorldTransformer(TINY)
    teacher = WorldTransformer(TINY)
    index = torch.randint(LEVELS, (2, COPIES, FRAMES))
    noise = torch.randn(2, COPIES, FRAMES, *TINY.latent_shape)
    consistency_loss(
        packed_velocity,
        student,
        target,
        teacher,
        make_clip(),
        sigma_grid(LEVELS),
        index,
        noise,
        TeacherForcing(TINY, FRAMES, COPIES),
    ).mean().backward()
    assert any(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in (*target.parameters(), *teacher.parameters()))


def test_the_teacher_alone_is_shown_the_history_before_it_drifted() -> None:
    torch.manual_seed(7)
    student, target, teacher = (WorldTransformer(TINY) for _ in range(3))
    clip = make_clip()
    clip = replace(clip, history=clip.history + 3.0, drift=torch.full_like(clip.history, 3.0))
    seen: dict[WorldTransformer, Tensor] = {}

    def packed(
        model: WorldTransformer, shown: PackedClip, noisy: Tensor, sigmas: Tensor, context: object
    ) -> Tensor:
        seen[model] = shown.history
        return straight(model, shown, noisy, sigmas, context)

    index = torch.zeros(2, COPIES, FRAMES, dtype=torch.long)
    noise = torch.randn(2, COPIES, FRAMES, *TINY.latent_shape)
    context = TeacherForcing(TINY, FRAMES, COPIES)
    consistency_loss(
        packed,
        student,
        target,
        teacher,
        clip,
        sigma_grid(LEVELS),
        index,
        noise,
        context,
        teacher_clip=clip.undrifted,
    )
    assert torch.equal(seen[student], clip.history)
    assert torch.equal(seen[target], clip.history)
    assert torch.allclose(seen[teacher], clip.clean, atol=1e-5)
