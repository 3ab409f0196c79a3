from dataclasses import replace

import pytest
import torch

from tests.conftest import make_lively
from tests.training.tiny_data import MODEL
from worldmodel.config import ConfigError
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.context import TeacherForcing
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import roll_out
from worldmodel.training.clips import LatentEpisodes
from worldmodel.training.teacher_forcing import (
    ClipTraining,
    PackedClip,
    draw_clip,
    packed_velocity,
    stillness_weight,
)
from worldmodel.training.torch_streams import host_stream

FRAMES, KNOWN = 6, 1 + MODEL.sink_frames


@pytest.fixture
def numbered() -> LatentEpisodes:
    """One episode whose frame number stands in every latent and every action."""
    number = torch.arange(80.0)
    latents = number[:, None, None, None].expand(-1, *MODEL.latent_shape).half()
    return LatentEpisodes(latents, number[:, None].expand(-1, 4), torch.tensor([0, 80]))


@pytest.fixture
def model() -> WorldTransformer:
    torch.manual_seed(0)
    return make_lively(WorldTransformer(MODEL))


def draw(model: WorldTransformer, data: LatentEpisodes, **shares: float) -> PackedClip:
    config = ClipTraining(batch=4, frames=FRAMES, **{"noisy_history": 0.0, **shares})  # type: ignore[arg-type]  # only shares
    return draw_clip(packed_velocity, model, data, config, torch.Generator().manual_seed(1))


def test_frames_actions_and_targets_of_a_clip_belong_together(
    model: WorldTransformer, numbered: LatentEpisodes
) -> None:
    for own in (0.0, 0.5, 1.0):
        clip = draw(model, numbered, own_history=own)
        numbers = clip.clean[:, :, 0, 0, 0]
        assert torch.equal(numbers, clip.actions[:, :, 0])
        assert (numbers[:, MODEL.sink_frames :].diff(dim=1) == 1).all()
        assert (numbers[:, 0] < numbers[:, 1]).all()  # the sink: this moment or an earlier one


def test_a_resampled_history_is_the_model_s_own_answer_and_the_rest_is_exact(
    model: WorldTransformer, numbered: LatentEpisodes
) -> None:
    clip = draw(model, numbered, own_history=0.5)
    own, given = clip.history[:2], clip.history[2:]
    assert torch.equal(given, clip.clean[2:])
    assert torch.equal(own[:, :KNOWN], clip.clean[:2, :KNOWN])
    assert not (own[:, KNOWN:] == clip.clean[:2, KNOWN:]).all(dim=(2, 3, 4)).any()
    assert not clip.history.requires_grad


def test_noise_on_a_history_is_told_to_the_model(
    model: WorldTransformer, numbered: LatentEpisodes
) -> None:
    clip = draw(model, numbered, noisy_history=1.0, history_sigma=0.5)
    assert (clip.history_sigmas > 0).all()
    error = (clip.history - (1 - clip.history_sigmas[..., None, None, None]) * clip.clean).std()
    assert 0.05 < float(error) < 0.5


def test_a_drifted_history_is_off_by_the_same_in_every_frame_but_the_sinks(
    model: WorldTransformer, numbered: LatentEpisodes
) -> None:
    clip = draw(model, numbered, drifted_history=1.0, drift=3.0)
    error = clip.history - clip.clean
    assert torch.equal(error[:, : MODEL.sink_frames], torch.zeros_like(error[:, :1]))
    moved = error[:, MODEL.sink_frames :]
    assert torch.allclose(moved, moved[:, :1].expand_as(moved), atol=1e-5)
    sizes = moved[:, 0].flatten(1).std(dim=1)
    assert len(set(sizes.tolist())) == 4
    assert 0 < float(sizes.min()) < float(sizes.max()) < 4
    assert torch.allclose(clip.undrifted.history, clip.clean, atol=1e-5)


def test_so_many_histories_drift_as_the_config_says(
    model: WorldTransformer, numbered: LatentEpisodes
) -> None:
    config = ClipTraining(batch=400, frames=FRAMES, noisy_history=0.0, drifted_history=0.3)
    clip = draw_clip(packed_velocity, model, numbered, config, torch.Generator().manual_seed(1))
    drifted = (clip.history != clip.clean).any(dim=(1, 2, 3, 4)).float().mean()
    assert 0.23 < float(drifted) < 0.37


def test_a_still_frame_counts_more_than_a_moving_one() -> None:
    clean = torch.zeros(1, 3, *MODEL.latent_shape)
    clean[:, 2] = 1.0
    still, moving = stillness_weight(clean, change=0.7)[0, 1:].tolist()
    assert still > 3
    assert moving < 1


def test_history_and_target_meet_in_the_packed_forward(
    model: WorldTransformer, numbered: LatentEpisodes
) -> None:
    """A change of one frame of history moves later frames' velocities, and no earlier one."""
    clip = draw(model, numbered)
    noisy, sigmas = torch.randn(4, 1, FRAMES, *MODEL.latent_shape), torch.full((4, 1, FRAMES), 0.7)
    context = TeacherForcing(MODEL, FRAMES)
    before = packed_velocity(model, clip, noisy, sigmas, context)
    changed = clip.history.clone()
    changed[:, 3] += 1
    other = replace(clip, history=changed)
    moved = (packed_velocity(model, other, noisy, sigmas, context) - before).abs() > 1e-6
    assert moved.any(dim=(0, 1, 3, 4, 5)).tolist() == [False] * 4 + [True] * 2


def test_a_played_history_is_what_play_gives_from_the_clip_s_first_frames(
    model: WorldTransformer, numbered: LatentEpisodes
) -> None:
    clip = draw(model, numbered, played_history=0.5)
    assert torch.equal(clip.history[:2], clip.clean[:2])
    sampler = SamplerConfig(sigmas=(1.0, 0.0), renoise=True)
    generator = torch.Generator().manual_seed(1)
    seeds = torch.randint(2**31, (2,), generator=host_stream(generator, "play"))
    past = clip.clean[2:, :KNOWN], clip.actions[2:, :KNOWN]
    played = roll_out(model, sampler, past, clip.actions[2:, KNOWN:], seeds=seeds.tolist())
    assert torch.equal(clip.history[2:, :KNOWN], clip.clean[2:, :KNOWN])
    torch.testing.assert_close(clip.history[2:, KNOWN:], played.clone())
    assert not clip.history.requires_grad
    with pytest.raises(ConfigError, match=r"own_history \(0\.6\) and played_history \(0\.5\)"):
        draw(model, numbered, own_history=0.6, played_history=0.5)
