from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.wan.reference import load
from worldmodel.config import load_config
from worldmodel.model.counting import ON_CPUS
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.kv_cache import RollingCache
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.transformer_cost import chunk_flops, memory, parameters, pass_bytes, pass_flops

SIZES = Path(__file__).parents[2] / "configs" / "wan"
FULL = WindowConfig(rows=60, columns=104)


def test_parameters_are_those_of_the_full_models() -> None:
    numbers = {"wan-1.3b": 1_418_996_800, "wan-1.3b-action2v": 1_489_821_760}
    for name, expected in {**numbers, "wan-14b": 14_288_491_584}.items():
        assert parameters(load_config(WanConfig, SIZES / f"{name}.toml")) == expected


@pytest.mark.parametrize("name", ["causal_forcing", "minwm"])
def test_memory_by_formula_is_memory_measured(name: str) -> None:
    tensors, _, model = load(name)
    for window in (
        WindowConfig(rows=4, columns=6, window_frames=3, sink_frames=1),
        WindowConfig(rows=8, columns=4, chunk_frames=2, window_frames=6, sink_frames=2),
    ):
        for dtype in (torch.float32, torch.bfloat16):
            model.to(dtype)
            kept = memory(model.config, window, dtype.itemsize, batch=2)
            assert RollingCache(model.config, window, 2, dtype).bytes == kept.cache
            assert sum(p.nbytes for p in model.parameters()) == kept.weights
            text = model.read_text(tensors["text"].repeat(2, 1, 1))
            assert sum(k.nbytes + v.nbytes for k, v in text) == kept.text


@pytest.mark.parametrize("name", ["causal_forcing", "minwm"])
def test_operations_by_formula_are_operations_counted(name: str) -> None:
    tensors, _, model = load(name)
    window = WindowConfig(rows=4, columns=6, chunk_frames=2, window_frames=4)
    cache = RollingCache(model.config, window)
    cache.text = model.read_text(tensors["text"])
    latents = torch.randn(1, 2, 4, 4, 6)
    for seen in (2, 4, 4):
        counter = FlopCounterMode(display=False, custom_mapping=ON_CPUS)
        with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION), counter:
            model(latents, torch.ones(1, 2), no_cameras(1, 2), cache)
        assert counter.get_total_flops() == pass_flops(model.config, window, seen)
        cache.advance()


def test_full_sizes_cost_what_the_reference_report_counted() -> None:
    """4.5, 8.5 and 13.5 TFLOP at 1, 10, 21 frames; 274.2 MiB of cache a frame in bfloat16."""
    config = load_config(WanConfig, SIZES / "wan-1.3b.toml")
    counted = [pass_flops(config, FULL, seen) / 1e12 for seen in (1, 10, 21)]
    assert counted == pytest.approx([4.49776, 8.53481, 13.46898], rel=1e-5)
    assert memory(config, FULL, 2).cache / 21 / 2**20 == pytest.approx(274.2, abs=0.1)
    assert chunk_flops(config, FULL, 6, steps=2) == 3 * pass_flops(config, FULL, 6)
    more = replace(FULL, window_frames=9)
    assert memory(config, more, 2).cache < memory(config, FULL, 2).cache
    assert pass_bytes(config, FULL, 6, 2) > memory(config, FULL, 2).weights
