from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.wan.reference import load
from worldmodel.config import load_config
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.float8 import FLOAT8, SCALE, Float8Linear, packed, to_float8, use_float8
from worldmodel.wan.kv_cache import RollingCache
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.transformer_cost import memory, weight_bytes
from worldmodel.wan.weight_files import load_strict, read_tensors

SIZES = Path(__file__).parents[2] / "configs" / "wan"
WINDOW = WindowConfig(rows=4, columns=6, window_frames=3)


def small(model: WanTransformer, path: Path, dtype: torch.dtype) -> WanTransformer:
    """The same model through a file of float8 weights."""
    save_tensors(path, model.state_dict(), {}, pack=packed(dtype))
    with torch.device("meta"):
        other = WanTransformer(model.config).to(dtype)
    use_float8(other)
    load_strict(other, read_tensors(path), str(path))
    for name, parameter in list(other.named_parameters()):
        if name.endswith(SCALE):
            parameter.data = parameter.data.to(dtype)  # as play has it
    return other


@torch.no_grad()
def velocities(model: WanTransformer, text: Tensor, seed: int = 0) -> Tensor:
    """Of three chunks, each of which sees those before it."""
    cache = RollingCache(model.config, WINDOW, 1, model.dtype)
    cache.text = model.read_text(text)
    generator, found = torch.Generator().manual_seed(seed), []
    for _ in range(3):
        latents = torch.randn(1, 1, model.config.latent_channels, 4, 6, generator=generator)
        found.append(model(latents, torch.full((1, 1), 0.8), no_cameras(1, 1), cache))
        cache.advance()
    return torch.cat(found)


@pytest.mark.parametrize("name", ["causal_forcing", "minwm"])
def test_velocities_are_near_those_of_bfloat16_weights(name: str, tmp_path: Path) -> None:
    """Weights are off by 2.7 % (rms); bfloat16 ones by 0.2 %, their velocities by 1 %."""
    tensors, _, model = load(name)
    model = model.bfloat16()
    expected = velocities(model, tensors["text"])
    other = small(model, tmp_path / "small.safetensors", torch.bfloat16)
    error = (velocities(other, tensors["text"]) - expected).norm() / expected.norm()
    assert 0.02 < error < 0.08  # 4.3 and 5.7 %: these weights are livelier than trained ones


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_packed_is_multiplied_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    """As if the matrices had been those numbers all along."""
    tensors, _, model = load("minwm")
    model = model.to(dtype)
    other = small(model, tmp_path / "small.safetensors", dtype)
    layers = dict(other.named_modules())
    for name, layer in model.named_modules():
        if isinstance(found := layers[name], Float8Linear):
            assert isinstance(layer, nn.Linear)
            wide = found.weight.float() * found.scale.float()[:, None]
            assert ((layer.weight - wide).abs() <= layer.weight.abs() / 16 + 1e-6).all()
            layer.weight.data = wide.to(dtype)
            assert torch.equal(layer.weight.float(), wide)
    text = tensors["text"]
    # A product's last bit in fp32 depends on where its numbers lie in memory.
    near = 1e-5 if dtype is torch.float32 else 0.0
    torch.testing.assert_close(
        velocities(other, text), velocities(model, text), rtol=near, atol=near
    )


def test_only_the_matrices_of_layers_are_packed(tmp_path: Path) -> None:
    _, _, model = load("minwm")
    save_tensors(
        tmp_path / "small.safetensors", model.state_dict(), {}, pack=packed(torch.bfloat16)
    )
    written = load_file(tmp_path / "small.safetensors")
    large = {name for name, tensor in written.items() if tensor.dtype is FLOAT8}
    scales = {name for name in written if name.endswith(SCALE)}
    assert written.keys() == model.state_dict().keys() | scales
    assert {name.replace(".weight", SCALE) for name in large} == scales
    assert len(large) == 11 * model.config.layers
    assert "blocks.0.self_attn.prope_o.weight" in large
    assert all(written[name].dtype is torch.float32 for name in scales)
    rest = written.keys() - large - scales
    assert {written[name].dtype for name in rest} == {torch.bfloat16}


def test_rows_of_every_size_keep_their_accuracy() -> None:
    rows = torch.randn(6, 40)
    rows[0], rows[1, 0], rows[2] = 0.0, 448.0, rows[2].sign() * 448.0
    rows *= torch.tensor([1.0, 1.0, 1.0, 1e-20, 1e20, 2.0**-130])[:, None]
    kept, scale = to_float8(rows)
    assert (torch.frexp(scale).mantissa == 0.5).all()  # powers of two
    back = kept.float() * scale[:, None]
    assert torch.isfinite(back).all()
    assert torch.equal(back[[0, 2]], rows[[0, 2]])
    largest = rows.abs().amax(dim=1, keepdim=True)
    near = (back - rows).abs() <= rows.abs() / 16 + largest / 2**17
    assert near[:5].all()
    assert kept.float().abs().max() <= 448


@pytest.mark.parametrize("name", ["wan-1.3b", "wan-1.3b-action2v", "wan-14b"])
def test_bytes_of_the_full_models_are_those_of_the_formula(name: str) -> None:
    config = load_config(WanConfig, SIZES / f"{name}.toml")
    with torch.device("meta"):
        model = WanTransformer(config).bfloat16()
    use_float8(model)
    found = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert found == weight_bytes(config, 2, float8=True)
    assert found == memory(config, WINDOW, 2, float8=True).weights
    assert found < 0.53 * weight_bytes(config, 2)
