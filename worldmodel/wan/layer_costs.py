"""What a step of a decoder costs, counted from its layers rather than from a run.

A decoder states its convolutions as `Layer`s; from these follow floating-point operations, what it
remembers between steps, and the memory a step needs at any size of picture.
"""

import math
from collections.abc import Iterable
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
    beside: float = 0  # channels of frames of the output's size that are kept for a sum


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
    """Shapes b g h w c of what a step leaves for the next one, in order."""
    return [
        (batch, layer.remembers, layer.scale * rows, layer.scale * columns, layer.inputs)
        for layer in layers
        if layer.remembers
    ]


def remembered_bytes(layers: Iterable[Layer], rows: int, columns: int, width: int) -> int:
    """What a stream keeps between steps for latents of rows x columns, numbers of `width` bytes."""
    return sum(width * math.prod(shape) for shape in remembered(layers, 1, rows, columns))


def working_bytes(layers: Iterable[Layer], rows: int, columns: int, width: int) -> int:
    """What a step needs at its peak, beside weights and what is remembered.

    A layer's frames, those frames with the past in front, the new past, and what waits for a sum;
    or the same without the first and with its output. Scratch memory of a backend is not in it.
    """
    most = 0.0
    for layer in layers:
        whole = layer.frames + layer.remembers
        joining = layer.inputs * 2 * whole if layer.remembers else 0
        running = layer.inputs * whole + layer.outputs * layer.frames
        held = layer.beside * layer.frames + max(joining, running)
        most = max(most, held * layer.scale**2 * rows * columns)
    return round(width * most)
