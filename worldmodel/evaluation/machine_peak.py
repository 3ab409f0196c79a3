"""What this machine can do at best: matrix products and memory copies, measured here and now.

Rates are the best of several repetitions, because the question is what the hardware allows; what a
world reaches of them is a median.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from worldmodel.engine.torch_engine import DTYPES
from worldmodel.model.configs import ModelConfig
from worldmodel.training.budget import clock

SQUARE = {"cpu": 2048, "cuda": 8192, "mps": 4096}  # rows and columns of the machine's best product
REPEATS = 8
COPIED = 1 << 26  # bytes


@dataclass(frozen=True, slots=True)
class Machine:
    """GFLOP/s by dtype, of a large square product and of the model's own; GB/s of a copy."""

    square: dict[str, float]
    model_shapes: dict[str, float]
    copy_gb_per_s: float


def measure_machine(model: ModelConfig, device: torch.device, frames: int = 1) -> Machine:
    """A few seconds of work in torch; `frames` that the engine puts through a layer at once."""
    own = products(model, frames)
    return Machine(
        square={name: product_rate([(SQUARE[device.type],) * 3], name, device) for name in DTYPES},
        model_shapes={name: product_rate(own, name, device) for name in DTYPES},
        copy_gb_per_s=_copy_rate(device),
    )


def products(model: ModelConfig, frames: int = 1) -> list[tuple[int, int, int]]:
    """Rows, inner and columns of the products of one block over some frames' tokens."""
    tokens, width = frames * model.tokens_per_frame, model.width
    hidden = model.feed_forward_ratio * width
    return [(tokens, width, width)] * 4 + [(tokens, width, hidden), (tokens, hidden, width)]


def product_rate(shapes: list[tuple[int, int, int]], dtype: str, device: torch.device) -> float:
    """Operations per second of all products, each with operands of its own: no cache helps."""
    operands = [
        (
            torch.randn(rows, inner, device=device).to(DTYPES[dtype]),
            torch.randn(columns, inner, device=device).to(DTYPES[dtype]),
        )
        for rows, inner, columns in shapes
    ]
    work = sum(2 * rows * inner * columns for rows, inner, columns in shapes)
    turns = max(1, round(2e8 / work))

    def run() -> None:
        for _ in range(turns):
            for a, b in operands:
                torch.nn.functional.linear(a, b)

    return round(turns * work / _best_seconds(run, device) / 1e9, 1)


def _copy_rate(device: torch.device) -> float:
    """Bytes read and bytes written, together."""
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return round(2 * COPIED / _best_seconds(lambda: target.copy_(source), device) / 1e9, 1)


def _best_seconds(run: Callable[[], object], device: torch.device) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        best = min(best, clock(device) - began)
    return best
