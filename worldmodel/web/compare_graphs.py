"""The exported graphs against torch: the same play on both, frame by frame.

    played = play_torch(world, start=0, seed=0, actions)
    found = play_graphs(world, graphs, start=0, seed=0, actions)
    difference = compare(played, found)

The reference is the torch engine in fp32, whose cache grows and rotates in another way than the
graphs' does, so that all of the page's arithmetic but its JavaScript is compared, not the trace
alone.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.action import Action
from worldmodel.engine import Playing
from worldmodel.engine.graphs import FrameInputs, FrameOutputs, empty_inputs
from worldmodel.engine.static_rollout import StaticRollout
from worldmodel.model.plan import Sight
from worldmodel.web.onnx_graphs import DECODE, DRAW, LOOK, SHOW, STEP
from worldmodel.web.weights import FILE
from worldmodel.world import Frame
from worldmodel.worlds.native import NativeWorld


@dataclass(frozen=True, slots=True)
class GraphPlay:
    """What came out of some frames of play."""

    latents: NDArray[np.float32]  # f c h w
    frames: NDArray[np.uint8]  # f h w 3
    states: NDArray[np.float32] | None  # f v


@dataclass(frozen=True, slots=True)
class GraphDifference:
    """How far two plays are apart."""

    frames: int
    equal_latents: int  # frames whose latents are the same to the last bit
    latents: float  # largest difference of two latents
    pixels: int  # largest difference of two pixels


@dataclass(slots=True)
class Graphs:
    """All graphs in ONNX Runtime, as a `Program` that `StaticRollout` runs."""

    sessions: Mapping[str, onnxruntime.InferenceSession]
    inputs: FrameInputs
    outputs: FrameOutputs
    seen: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # view, numbers, depth

    def look(self, view: Tensor) -> None:
        """Look at the plan from a view 1 4: what is computed next is seen from there."""
        self.seen = {"view": view.numpy()}
        self.seen |= self._run(LOOK, self.seen)

    def run(self) -> None:
        """One frame: `inputs` to `outputs`."""
        given = {name: x.numpy() for name, x in self.inputs._asdict().items() if name != "actions"}
        last, new = self.inputs.actions.split(1, dim=1)
        step = self.sessions[STEP]
        action = next(x for x in step.get_inputs() if x.name == "action").shape[-1]
        given |= {"last_condition": last.numpy(), "action": new[..., -action:].numpy()}
        given |= {name: x for name, x in self.seen.items() if name != "depth"}
        *written, condition = step.run(None, given)
        for target, source in zip(self.outputs, written, strict=True):
            target.copy_(torch.from_numpy(source))
        new.copy_(torch.from_numpy(condition))  # so that the next frame is told what this one was

    def picture(self, latent: Tensor) -> NDArray[np.uint8]:
        """Latent 1 1 c h w -> frame h w 3."""
        found = self._run(DECODE, {"latent": latent.numpy()})
        if self.seen:
            found = self._run(SHOW, {**found, **self._run(DRAW, self.seen)})
        return np.asarray(found["frame"][0, ..., :3])

    def _run(
        self, name: str, given: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        session = self.sessions[name]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(given)), strict=True))


def load_graphs(world: NativeWorld, graphs: Mapping[str, bytes], weights: bytes) -> Graphs:
    """Sessions of one thread on the graphs as they are exported, and on the unpacked weights."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    with tempfile.TemporaryDirectory() as folder:  # graphs look for their weights beside them
        Path(folder, FILE).write_bytes(weights)
        sessions = {
            name: _session(Path(folder, f"{name}.onnx"), graph, options)
            for name, graph in graphs.items()
        }
    config = world.transformer.config
    inputs = empty_inputs(config, world.sampler, 1, torch.float32)
    shape = (config.layers, 1, config.heads, config.tokens_per_frame, config.head_width)
    outputs = FrameOutputs(
        torch.zeros_like(inputs.finished), torch.zeros(shape), torch.zeros(shape)
    )
    return Graphs(sessions, inputs, outputs)


def _session(
    path: Path, content: bytes, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    path.write_bytes(content)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def play_torch(world: NativeWorld, start: int, seed: int, actions: Sequence[Action]) -> GraphPlay:
    """On the world's own engine, which must be torch in fp32."""

    def picture(latent: Tensor, sight: Sight | None) -> Frame:
        return np.asarray(world.engine.decode(latent, sight)[0])

    return _play(world, world.engine.begin([seed]), start, actions, lambda _: None, picture)


@torch.inference_mode()
def play_graphs(
    world: NativeWorld, graphs: Graphs, start: int, seed: int, actions: Sequence[Action]
) -> GraphPlay:
    """On the graphs; the player is moved by the world's own motion."""

    def look_from(state: Tensor | None) -> None:
        if world.motion is not None and state is not None:
            graphs.look(world.motion.views(state))

    playing = StaticRollout(graphs, world.transformer.config, world.sampler, [seed])
    return _play(
        world, playing, start, actions, look_from, lambda latent, _: graphs.picture(latent)
    )


def _play(
    world: NativeWorld,
    playing: Playing,
    start: int,
    actions: Sequence[Action],
    look_from: Callable[[Tensor | None], None],
    picture: Callable[[Tensor, Sight | None], Frame],
) -> GraphPlay:
    past, where = world.past(start), world.whereabouts()
    look_from(past.state)
    playing.prime(past.latents, past.conditions)
    where.begin(past.state)
    latents, frames, states = [], [], []
    for action in actions:
        vector = torch.from_numpy(world.actions.encode([action]))[None]
        condition, sight = where.step(vector)
        look_from(where.state)
        latent = playing.denoise(condition)
        latents.append(latent[0, 0].numpy())
        frames.append(picture(latent, sight))
        if where.state is not None:
            states.append(where.state[0].numpy().copy())
        playing.remember()
    return GraphPlay(np.stack(latents), np.stack(frames), np.stack(states) if states else None)


def compare(one: GraphPlay, other: GraphPlay) -> GraphDifference:
    """Two plays of the same actions."""
    apart = np.abs(one.latents - other.latents)
    pixels = np.abs(one.frames.astype(np.int16) - other.frames)
    equal = (apart == 0).all(axis=(1, 2, 3))
    return GraphDifference(len(apart), int(equal.sum()), float(apart.max()), int(pixels.max()))
