"""Independent random streams for training, as torch's generators (seeds: `random_streams`).

    torch_stream(device, seed, stage, step, batch)     all that a stage draws for one batch ...
    host_stream(generator, "clips")                    ... but what the host has to know of it
    choices(seed, stage, step, "rollout")              what all batches of a step have in common

A step's batches are numbered over all processes, so it makes no difference which one computes a
batch. What the host draws follows from keys alone and is the same for every device.

On a CPU torch uses 32 bits of a seed, on a GPU 64: two given streams are the same once in four
billion.
"""

from random import Random

import torch

from worldmodel.model.context import Device
from worldmodel.random_streams import Key, choices, seed_of


def torch_stream(device: Device, *key: Key) -> torch.Generator:
    """A stream of tensors on a device."""
    return torch.Generator(device).manual_seed(seed_of(*key))


def host_stream(beside: torch.Generator, purpose: str) -> torch.Generator:
    """A stream of tensors on the host for one purpose, beside the one that a stage was given.

    It follows from that one's key, whatever its device and however much it has drawn.
    """
    return torch_stream("cpu", beside.initial_seed(), purpose)


def host_choices(beside: torch.Generator, purpose: str) -> Random:
    """A stream of choices on the host, where single numbers are drawn."""
    return choices(beside.initial_seed(), purpose)


def seed_default(*key: Key) -> None:
    """Seed the generators that torch draws initial weights and dropout from."""
    torch.manual_seed(seed_of(*key))
