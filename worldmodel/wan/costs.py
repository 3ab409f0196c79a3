"""What a step of a decoder costs, counted from its layers rather than from a run.

A decoder states its convolutions as `Layer`s; from these follow floating-point operations, what it
remembers between steps, and the memory a step needs at any size of picture.

Letters: b batch, c channels, t frames, h w rows, columns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution in a step after the first."""

    inputs: int
    outputs: int
    kernel: tuple[int, int, int]  # over frames, rows, columns
    scale: int  # its output's rows per row of the latent
    frames: int  # its output's frames per latent frame
    remembers: int = 0  # frames of its input that the next step needs
    attends: bool = False  # whether its input comes from one-headed attention within each frame


def flops(layers: Iterable[Layer], rows: int, columns: int) -> int:
    """Floating-point operations of a step for latents of rows x columns (a multiply-add is two)."""
    total = 0
    for layer in layers:
        positions = layer.scale**2 * rows * columns
        time, height, width = layer.kernel
        each = layer.inputs * layer.outputs * time * height * width
        if layer.attends:
            each += 2 * positions * layer.inputs  # scores and weighted values
        total += 2 * each * layer.frames * positions
    return total


def remembered(layers: Iterable[Layer], batch: int, rows: int, columns: int) -> list[Shape]:
    """Shapes b t h w c of what a step leaves for the next one, in order."""
    return [
        (batch, layer.remembers, layer.scale * rows, layer.scale * columns, layer.inputs)
        for layer in layers
        if layer.remembers
    ]


def parameters(layers: Sequence[Layer]) -> int:
    """Weights of the convolutions, biases and norms left out."""
    return sum(
        layer.inputs * layer.outputs * layer.kernel[0] * layer.kernel[1] * layer.kernel[2]
        for layer in layers
    )
