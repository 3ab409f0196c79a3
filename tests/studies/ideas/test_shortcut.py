"""Long steps are learned from two of half their length, and a network is told which it takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from studies.ideas.shortcut import ShortcutStage, ShortcutTraining
from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, write_episodes
from worldmodel.config import ConfigError, to_table, to_toml
from worldmodel.model.state_numbers import encode_state_numbers
from worldmodel.training.run_stage import run_stage
from worldmodel.training.stage import LoopConfig
from worldmodel.training.teacher_forcing import ClipTraining
from worldmodel.training.torch_streams import torch_stream

LOOP = LoopConfig(steps=1, learning_rate=3e-3, dtype="float32")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ShortcutTraining:
    root = tmp_path_factory.mktemp("shortcut")
    data, heldout = write_episodes(root / "data"), write_episodes(root / "unseen", 2, first=100)
    table = {"stage": "autoencoder", "data": str(data), "heldout": str(heldout), "batch": 8}
    table |= {"model": to_table(AUTOENCODER), "loop": {**to_table(LOOP), "steps": 150}}
    (root / "autoencoder.toml").write_text(to_toml(table))
    run_stage(root / "autoencoder.toml", root / "autoencoder", threads=1, rehearses=True)
    return ShortcutTraining(
        stage="shortcut",
        data=data,
        heldout=heldout,
        autoencoder=root / "autoencoder",
        actions=SPEC,
        model=replace(MODEL, frame_change=0.3),
        clips=ClipTraining(batch=8, frames=6, own_history=0.5),
        loop=LOOP,
        share=0.5,
    )


def test_a_batch_has_every_length_and_most_clips_the_finest(config: ShortcutTraining) -> None:
    assert config.halvings("cpu").tolist() == [3, 3, 3, 3, 0, 1, 2, 0]
    conditions = torch.randn(8, 6, config.model.condition_width)
    told = config.tell(config.halvings("cpu"), conditions)
    assert told.shape[-1] == config.told_model.condition_width
    assert torch.equal(config.untell(told), conditions)
    state = torch.tensor([[2.0]])
    expected = encode_state_numbers((config.number,), (config.number.name,), state)
    assert torch.equal(told[6, 0, : config.number.features], expected[0])


def test_a_long_step_goes_where_two_of_half_its_length_go(
    config: ShortcutTraining, tmp_path: Path
) -> None:
    stage, asked = ShortcutStage(config, tmp_path / "run"), []

    def velocity(model: Any, clip: Any, noisy: Tensor, sigmas: Tensor, context: Any) -> Tensor:
        """Another one at every level: what two steps and what one do differs."""
        del context
        asked.append((model, clip.conditions, noisy))
        return sigmas[..., None, None, None].expand_as(noisy)

    stage.forward = velocity
    latents = torch.zeros(8, 6, *config.model.latent_shape)
    conditions = torch.zeros(8, 6, config.model.condition_width)
    halvings = config.halvings("cpu")
    told = config.tell(halvings, conditions)
    clip = _packed(latents, told)
    sigmas = torch.full((8, 2, 6), 1.0)
    noisy = torch.randn(8, 2, 6, *config.model.latent_shape)
    found = stage._half_steps(clip, halvings, noisy, sigmas, longer=4)
    lengths = 0.5 ** halvings[-4:].float()
    expected = (1 - lengths / 4)[:, None, None, None, None, None].expand_as(found)
    torch.testing.assert_close(found, expected)
    for model, conditions, _ in asked:
        assert model is stage.ema
        assert torch.equal(conditions, config.tell(halvings[-4:] + 1, conditions_of(conditions)))
    reached = noisy[-4:] - (lengths / 2)[:, None, None, None, None, None]
    torch.testing.assert_close(asked[1][2], reached)


def test_steps_of_every_length_are_learned(config: ShortcutTraining, tmp_path: Path) -> None:
    stage = ShortcutStage(config, tmp_path / "run")
    optimizer = torch.optim.AdamW(stage.student.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss, parts = stage.loss(step, torch_stream("cpu", step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.ema.load_state_dict(stage.student.state_dict())
        losses.append((float(loss.detach()), float(parts["long_steps"])))
    for before, after in zip(losses[0], losses[-1], strict=True):
        assert after < 0.8 * before
    figures = stage.sample(tmp_path, 60)
    assert figures["next_1"] > figures["copy"]


def test_what_makes_no_steps_is_refused(config: ShortcutTraining) -> None:
    with pytest.raises(ConfigError, match=r"finest \(0\) must be from 1 to 10"):
        replace(config, finest=0)


def conditions_of(told: Tensor) -> Tensor:
    """Zeros, as the conditions above: what was told of is put in anew."""
    return torch.zeros(*told.shape[:2], MODEL.condition_width)


def _packed(latents: Tensor, told: Tensor) -> Any:
    from worldmodel.training.teacher_forcing import PackedClip

    return PackedClip(latents, latents, torch.zeros(latents.shape[:2]), told, told)
