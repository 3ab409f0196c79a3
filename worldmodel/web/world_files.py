"""What a page needs of a world: `world.json`, graphs, weights, and small arrays in `data.bin`.

    files = world_files(world, graphs)     # name -> content

`world.json` says the shapes, the actions, the rules of motion, the starts, and where each array
lies in `data.bin` (gzip of all arrays, one after the other, little-endian).
"""

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from worldmodel.action import IDLE
from worldmodel.model.configs import ModelConfig
from worldmodel.model.events import Events
from worldmodel.model.ground import LEAST, ON_EDGE
from worldmodel.model.motion import HAIR, SLIDES, Motion
from worldmodel.model.rotary import TIME_BASE, pair_split, space_angles
from worldmodel.model.scene import NOWHERE
from worldmodel.web.compare_graphs import GraphPlay
from worldmodel.web.onnx_graphs import ExportError
from worldmodel.worlds.native import NativeWorld

FORMAT = 5
DRAW = 16  # torch draws normal numbers by sixteen; fewer come from another formula


class Arrays:
    """Arrays that become one file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._offset = 0

    def add(self, array: NDArray[Any]) -> dict[str, Any]:
        """Where an array lies, for `world.json`: dtype, shape, offset in bytes."""
        content = np.ascontiguousarray(array).tobytes()
        entry = {"dtype": str(array.dtype), "shape": list(array.shape), "offset": self._offset}
        padding = -len(content) % 8  # typed arrays begin at multiples of their size
        self._parts += [content, bytes(padding)]
        self._offset += len(content) + padding
        return entry

    @property
    def content(self) -> bytes:
        """The whole file, gzipped: the same bytes for the same arrays."""
        return gzip.compress(b"".join(self._parts), 9, mtime=0)


def describe_world(
    world: NativeWorld, expected: GraphPlay, tolerance: float
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """`world.json` without the table of files, and the files that it names beside the graphs.

    The caller adds `graphs`, `weights`, `work` (multiply-adds a frame), `assisted` (those that
    another worker can do) and `files`. `expected` are the first
    frames of the first start, seed 0, nothing pressed: the page compares its own with them before
    it trusts a graphics processor.
    """
    file, config, sampler = world.file, world.transformer.config, world.sampler
    if int(np.prod(config.latent_shape)) % DRAW:
        raise ExportError(
            f"{world.name}: latents of {list(config.latent_shape)} numbers; the page draws noise "
            f"as torch does only for multiples of {DRAW}"
        )
    arrays = Arrays()
    starts, pictures = _describe_starts(world, arrays)
    rows, columns = world.frame_size
    described = {
        "format": FORMAT,
        "name": world.name,
        "title": file.title,
        "licence": file.licence,
        "sha256": dict(file.sha256),
        "frames_per_second": world.frames_per_second,
        "rows": rows,
        "columns": columns,
        "actions": asdict(file.actions),
        "model": _describe_model(config, arrays),
        "sampler": {
            "draws": sampler.steps if sampler.renoise else 1,
            "context_sigma": sampler.context_sigma,
            "latent_step": sampler.latent_step,
            "view_pull": sampler.view_pull,
            "view_pull_every": sampler.view_pull_every,
        },
        "motion": None if world.motion is None else describe_motion(world.motion, arrays),
        "state": _describe_state(world),
        "events": None if world.events is None else _describe_events(world.events, config),
        "scene": _describe_scene(world),
        "starts": starts,
        "check": {"latents": arrays.add(expected.latents), "tolerance": tolerance},
    }
    return described, {"data.bin": arrays.content, **pictures}


def _describe_starts(
    world: NativeWorld, arrays: Arrays
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The starts, and their pictures as files."""
    starts, pictures = [], {}
    for number, caption in enumerate(world.starts):
        past = world.past(number)
        start: dict[str, Any] = {
            "caption": caption,
            "picture": f"start-{number + 1}.png",
            "latents": arrays.add(past.latents[0].numpy()),
            "conditions": arrays.add(past.conditions[0].numpy()),
        }
        if past.state is not None:
            start["state"] = arrays.add(past.state[0].float().numpy())
        if past.recent is not None:
            recent = past.recent
            parts = {"states": recent.states, "actions": recent.actions, "latents": recent.latents}
            start["recent"] = {name: arrays.add(part[0].numpy()) for name, part in parts.items()}
        picture = cv2.cvtColor(world.reset(number, seed=0), cv2.COLOR_RGB2BGR)
        pictures[start["picture"]] = cv2.imencode(".png", picture)[1].tobytes()
        starts.append(start)
    return starts, pictures


def _describe_state(world: NativeWorld) -> list[dict[str, Any]]:
    """What the numbers of a state mean, and which of them nobody knows after the start."""
    spec, motion = world.file.state, world.motion
    if spec is None:
        return []
    lost = motion.unpredicted if motion is not None and world.events is None else []
    return [
        {"name": name, **asdict(number), "is_lost": index in lost}
        for index, (name, number) in enumerate(spec.numbers.items())
    ]


def _describe_events(events: Events, config: ModelConfig) -> dict[str, Any]:
    """How many numbers are drawn a frame, how many motion moves, what the step is given of them."""
    return {
        "drawn": events.chances,
        "moved": len(events.config.moved),
        "facts": config.seen_features if config.objects else config.state_features,
    }


def _describe_scene(world: NativeWorld) -> dict[str, Any] | None:
    """Which numbers of the state a scene is seen by, and where an object is that is not there."""
    scene, spec = world.file.autoencoder.scene, world.file.state
    if scene is None or spec is None:
        return None
    columns = [spec.index(name) for name in scene.numbers]
    return {"columns": columns, "viewer": len(scene.objects.viewer), "nowhere": NOWHERE}


def _describe_model(config: ModelConfig, arrays: Arrays) -> dict[str, Any]:
    """The shape of the transformer, and the angles of its rotary embedding."""
    time, _, _ = pair_split(config.head_width)
    frequencies = TIME_BASE ** -(torch.arange(time, dtype=torch.float64) / time)
    return {
        "layers": config.time_layers,  # whose keys the page keeps
        "heads": config.heads,
        "head_width": config.head_width,
        "tokens": config.tokens_per_frame,
        "context_frames": config.context_frames,
        "sink_frames": config.sink_frames,
        "latent_shape": list(config.latent_shape),
        "condition_width": config.condition_width,
        "time_frequencies": frequencies.tolist(),
        "space_angles": arrays.add(space_angles(config).numpy()),
    }


def check_actions(frames: int) -> list[Any]:
    """What `describe_world` expects of its `expected`."""
    return [IDLE] * frames


def describe_motion(motion: Motion, arrays: Arrays) -> dict[str, Any]:
    """The rules of `Motion` and its ground, as the page follows them."""
    if motion.push.dtype != torch.float32:
        raise ExportError(f"motion is in {motion.push.dtype}, the page moves players in float32")
    config, roles, ground = motion.config, motion.roles, motion.ground
    rise = [layer for layer in motion.rise if isinstance(layer, nn.Linear)]
    layers = [*((layer, "silu") for layer in rise), (motion.lift, "")]
    return {
        **{name: value for name, value in asdict(config).items() if name != "buttons"},
        "roles": asdict(roles),
        "slides": SLIDES,
        "hair": HAIR,
        "on_edge": ON_EDGE,
        "least": LEAST,
        "push": motion.push.tolist(),
        "keep": motion.keep.item(),
        "travel": motion.travel.item(),
        "speed": motion.speed.item(),
        "eye": motion.eye.tolist(),
        "layers": [
            {
                "weight": arrays.add(layer.weight.detach().numpy()),
                "bias": arrays.add(layer.bias.detach().numpy()),
                "activation": activation,
            }
            for layer, activation in layers
        ],
        "free": {
            **arrays.add(np.packbits(ground.free.numpy())),
            "cells": list(ground.free.shape),
        },
    }


def to_json(described: Mapping[str, Any]) -> bytes:
    """As it is sent; numbers keep every digit."""
    return json.dumps(described, separators=(",", ":"), allow_nan=False).encode()
