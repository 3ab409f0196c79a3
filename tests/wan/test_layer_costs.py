from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.model.counting import count
from worldmodel.wan.layer_costs import Layer, flops, remembered_bytes, working_bytes
from worldmodel.wan.streaming_decoder import Stepwise, StreamingDecoder
from worldmodel.wan.taehv import Taehv
from worldmodel.wan.taehv_config import TAEW2_1
from worldmodel.wan.vae import WanVAE
from worldmodel.wan.vae_config import WAN21_VAE
from worldmodel.wan.vae_layers import channels_last

NARROW = replace(WAN21_VAE, width=16)
CASES: dict[str, tuple[Callable[[], Stepwise], list[Layer]]] = {
    "vae": (lambda: WanVAE(NARROW), NARROW.decoder_layers),
    "taehv": (lambda: Taehv(TAEW2_1), TAEW2_1.decoder_layers),
}
SIZE = (6, 10)  # rows, columns of a latent


def begun(decoder: Stepwise) -> tuple[StreamingDecoder, torch.Tensor]:
    channels_last(decoder)
    stream, latent = decoder.eval().stream(), torch.randn(1, 16, 1, *SIZE)
    stream.decode(latent)
    return stream, latent


@pytest.mark.parametrize("name", CASES)
def test_operations_by_formula_are_those_counted(name: str) -> None:
    make, layers = CASES[name]
    stream, latent = begun(make().bfloat16())
    # Not every processor's fused attention is counted.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        stream.decode(latent)
    assert counter.get_total_flops() == flops(layers, *SIZE)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_by_formula_is_that_measured(name: str, dtype: torch.dtype) -> None:
    make, layers = CASES[name]
    stream, latent = begun(make().to(dtype))
    size = dtype.itemsize
    state = sum(tensor.numel() * size for tensor in stream.state().values())
    assert state == remembered_bytes(layers, *SIZE, size)
    # Two steps, so that what the first remembers is counted while the second replaces it.
    cost = count(lambda: (stream.decode(latent).sum(), stream.decode(latent).sum()))
    assert cost.peak_bytes == pytest.approx(state + working_bytes(layers, *SIZE, size), rel=0.03)


@pytest.mark.parametrize("name", CASES)
def test_memory_does_not_grow(name: str) -> None:
    make, _ = CASES[name]
    stream, latent = begun(make())

    def play(frames: int) -> int:
        return count(lambda: [stream.decode(latent).sum() for _ in range(frames)]).peak_bytes

    assert play(12) == pytest.approx(play(2), rel=0.001)


def test_a_layer_costs_what_one_counts_by_hand() -> None:
    layer = Layer(2, 3, (3, 1, 1), scale=2, frames=4, remembers=2)
    assert flops([layer], 5, 7) == 2 * (2 * 3 * 3) * 4 * (10 * 14)
    assert remembered_bytes([layer], 5, 7, width=2) == 2 * 2 * 2 * (10 * 14)
    assert working_bytes([layer], 5, 7, width=2) == 2 * (2 * 6 + 2 * 6) * (10 * 14)
