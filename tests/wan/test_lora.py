from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.wan.reference import load
from worldmodel.config import ConfigError
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.kv_cache import WholeClipContext
from worldmodel.wan.lora import LoraConfig, LoraTransformer, adapted, load_lora, merged, save_lora
from worldmodel.wan.model_config import WindowConfig
from worldmodel.wan.transformer import WanTransformer

LORA = LoraConfig(rank=3, alpha=6.0, also=("self_attn.prope_o", "head"))
WINDOW = WindowConfig(rows=4, columns=6)


def velocity(model: WanTransformer, text: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 3, 4, 4, 6, generator=generator)
    context = WholeClipContext(model.config, WINDOW, 3, text, causal=False)
    found: Tensor = model(latents, torch.full((1, 3), 0.7), no_cameras(1, 3), context)
    return found


def taught() -> tuple[LoraTransformer, WanTransformer, Tensor]:
    """A model whose small matrices say something."""
    tensors, _, base = load("minwm")
    torch.manual_seed(1)
    model = adapted(base, LORA)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in model.trained:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model, base, tensors["text"]


@torch.no_grad()
def test_at_first_nothing_is_changed() -> None:
    tensors, _, base = load("minwm")
    model = adapted(base, LORA)
    assert torch.equal(velocity(model, tensors["text"]), velocity(base, tensors["text"]))
    spread = model.blocks[0].get_parameter("self_attn.q.lora_a").std()
    assert 0.5 < float(spread * base.config.width**0.5) < 2


def test_only_what_was_named_is_trained() -> None:
    model, _, text = taught()
    velocity(model, text).square().mean().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == model.trained
    kinds = {name.rpartition(".")[2] for name in moved}
    assert {"lora_a", "lora_b", "weight", "bias", "modulation"} == kinds
    assert "blocks.1.self_attn.prope_o.weight" in moved
    assert "head.modulation" in moved
    assert not any("norm" in name for name in moved)
    narrow = adapted(load("minwm")[2], replace(LORA, targets=("self_attn.q",), also=()))
    assert {name.split(".", 2)[2] for name in narrow.trained} == {
        "self_attn.q.lora_a",
        "self_attn.q.lora_b",
    }


@torch.no_grad()
def test_merged_weights_answer_as_the_two_parts_do(tmp_path: Path) -> None:
    model, base, text = taught()
    plain = WanTransformer(base.config)
    plain.load_state_dict(merged(model.state_dict(), LORA))
    assert not torch.allclose(velocity(model, text), velocity(base, text), atol=1e-3)
    torch.testing.assert_close(velocity(plain, text), velocity(model, text), rtol=1e-5, atol=1e-5)
    save_lora(tmp_path / "lora.safetensors", model.state_dict(), LORA)
    tensors, lora = load_lora(tmp_path / "lora.safetensors")
    assert lora == LORA
    assert set(tensors) == model.trained
    again = merged({**base.state_dict(), **tensors}, lora)
    assert all(torch.equal(again[name], tensor) for name, tensor in plain.state_dict().items())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"targets": ("self_attn.w",)}, "no module of the transformer"),
        ({"also": ("camera",)}, "no module of the transformer"),
        ({"targets": ("norm_q",)}, "not a linear layer"),
    ],
)
def test_names_that_fit_nothing_are_told(change: dict[str, tuple[str, ...]], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        adapted(load("minwm")[2], replace(LORA, **change))  # type: ignore[arg-type]  # of the test
    with pytest.raises(ConfigError, match="rank"):
        LoraConfig(rank=0, alpha=1.0)


def test_other_weights_are_no_lora(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, {"step": 3})
    with pytest.raises(CheckpointError, match="no LoRA"):
        load_lora(tmp_path / "x.safetensors")
