"""The exported graphs against torch: the same play on both, frame by frame.

    played = play_torch(world, start=0, seed=0, actions)
    found = play_graphs(world, graphs, start=0, seed=0, actions)
    difference = compare(played, found)
    draws = compare_draws(world, graphs)      # of a world whose numbers are drawn

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
from worldmodel.engine import Playing, remember_seen
from worldmodel.engine.graphs import FrameInputs, FrameOutputs, empty_inputs
from worldmodel.engine.static_rollout import StaticRollout
from worldmodel.model.events import Events, Recent
from worldmodel.model.floor_plan import Sight
from worldmodel.model.scene import scene_views
from worldmodel.random_streams import arrays
from worldmodel.web.onnx_graphs import DECODE, DRAW, EVENTS, LOOK, SEEN, SHOW, STEP
from worldmodel.web.weights import FILE
from worldmodel.world import Frame
from worldmodel.worlds.happenings import Happenings
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.place_tracker import PlaceTracker

BETWEEN = 1e-3  # share of pixels that may lie between two colours of a palette, and take either
DRAWS = 300  # of a world's numbers, which are compared beside the frames


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
    equal_states: int  # frames whose numbers are the same; all of them in a world without


@dataclass(slots=True)
class Graphs:
    """All graphs in ONNX Runtime, as a `Program` that `StaticRollout` runs."""

    sessions: Mapping[str, onnxruntime.InferenceSession]
    inputs: FrameInputs
    outputs: FrameOutputs
    seen: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # view, numbers, depth
    view: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # of a scene
    facts: Tensor | None = None  # b d, what the step is given of the state's numbers
    drawn: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # by a floor plan

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
        steered = new[..., -action:]
        if self.facts is not None:
            steered = torch.cat((self.facts[None], steered[..., self.facts.shape[-1] :]), dim=-1)
        given |= {"last_condition": last.numpy(), "action": steered.numpy()}
        given |= {name: x for name, x in self.seen.items() if name != "depth"}
        *written, condition = step.run(None, given)
        for target, source in zip(self.outputs, written, strict=True):
            target.copy_(torch.from_numpy(source))
        new.copy_(torch.from_numpy(condition))  # so that the next frame is given what this one was

    def draw(self, recent: Recent, moved: Tensor, action: Tensor, chance: Tensor) -> Tensor:
        """The next states 1 v, as `Events.forward` has them; the step is given of them."""
        given = {
            "states": recent.states, "actions": recent.actions, "latents": recent.latents,
            "moved": moved, "action": action, "chance": chance,
        }  # fmt: skip
        taken = {entry.name for entry in self.sessions[EVENTS].get_inputs()}
        found = self._run(EVENTS, {name: x.numpy() for name, x in given.items() if name in taken})
        self.facts = torch.from_numpy(found["facts"]) if "facts" in found else None
        return torch.from_numpy(found["next"])

    def picture(self, latent: Tensor) -> NDArray[np.uint8]:
        """Latent 1 1 c h w -> frame h w 3."""
        found = self._run(DECODE, {"latent": latent.numpy(), **self.view})
        if self.seen:
            self.drawn = self._run(DRAW, self.seen)
            found = self._run(SHOW, {**found, **self.drawn})
        return np.asarray(found["frame"][0, ..., :3])

    def encode_view(self) -> Tensor:
        """What is seen, as latents 1 1 c h w: of a scene, or of the plan's last picture."""
        given = self.view or {"picture": self.drawn["picture"]}
        return torch.from_numpy(self._run(SEEN, given)["seen"])

    def _run(
        self, name: str, given: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        session = self.sessions[name]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(given)), strict=True))


class EventsOnGraphs(Events):
    """A world's events whose numbers are drawn by a graph; weights of its own are not used."""

    def __init__(self, events: Events, graphs: Graphs) -> None:
        super().__init__(events.config, events.spec)
        self.graphs = graphs

    def forward(self, recent: Recent, moved: Tensor, actions: Tensor, chance: Tensor) -> Tensor:
        """The states 1 v that follow, drawn with the given chances."""
        return self.graphs.draw(recent, moved, actions, chance)


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
    shape = (config.time_layers, 1, config.heads, config.tokens_per_frame, config.head_width)
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

    where = world.whereabouts()
    playing = world.engine.begin([seed])

    def remember(sight: Sight | None) -> None:
        remember_seen(world.engine, playing, sight)

    return _play(world, playing, where, (start, seed), actions, lambda _: None, picture, remember)


@torch.inference_mode()
def play_graphs(
    world: NativeWorld, graphs: Graphs, start: int, seed: int, actions: Sequence[Action]
) -> GraphPlay:
    """On the graphs; the player is moved by the world's own motion, numbers by the graphs."""
    scene, spec = world.file.autoencoder.scene, world.file.state

    def look_from(state: Tensor | None) -> None:
        if state is None or spec is None:
            return
        if scene is not None:
            graphs.view = {"view": scene_views(scene, spec.names, state).numpy()}
        elif world.motion is not None:
            graphs.look(world.motion.views(state))

    def picture(latent: Tensor, _: Sight | None) -> Frame:
        return graphs.picture(latent)

    def remember(_: Sight | None) -> None:
        playing.remember(graphs.encode_view() if playing.pulls else None)

    where = world.whereabouts()
    if world.events is not None:
        where.happenings = Happenings(EventsOnGraphs(world.events, graphs))
    playing = StaticRollout(graphs, world.transformer.config, world.sampler, [seed])
    return _play(world, playing, where, (start, seed), actions, look_from, picture, remember)


@torch.inference_mode()
def compare_draws(world: NativeWorld, graphs: Graphs) -> tuple[int, int]:
    """Draws of what happens, at all starts with all keys: how many, how many equal."""
    assert world.events is not None, "a world whose numbers are drawn"
    rng = arrays("draws of a page")
    draws = equal = 0
    for start in range(len(world.starts)):
        recent = world.past(start).recent
        assert recent is not None
        for _ in range(DRAWS // len(world.starts)):
            action = torch.from_numpy(rng.random((1, recent.actions.shape[-1]), np.float32)).round()
            chance = torch.from_numpy(rng.random((1, world.events.chances), np.float32))
            given = recent, recent.states[:, -1], action, chance
            expected = world.events(*given)
            draws += 1
            equal += _same(expected.numpy(), graphs.draw(*given).numpy())
            recent = recent.after(expected, action)
    return draws, equal


def _play(
    world: NativeWorld,
    playing: Playing,
    where: PlaceTracker,
    begin: tuple[int, int],
    actions: Sequence[Action],
    look_from: Callable[[Tensor | None], None],
    picture: Callable[[Tensor, Sight | None], Frame],
    remember: Callable[[Sight | None], None],
) -> GraphPlay:
    start, seed = begin
    past = world.past(start)
    look_from(past.state)
    playing.prime(past.latents, past.conditions)
    where.begin(past.state, past.recent, [seed])
    latents, frames, states = [], [], []
    for action in actions:
        vector = torch.from_numpy(world.actions.encode([action]))[None]
        condition, sight = where.step(vector)
        look_from(where.state)
        latent = playing.denoise(condition)
        where.saw(latent)
        latents.append(latent[0, 0].numpy())
        frames.append(picture(latent, sight))
        if where.state is not None:
            states.append(where.state[0].numpy().copy())
        remember(sight)
    return GraphPlay(np.stack(latents), np.stack(frames), np.stack(states) if states else None)


def compare(one: GraphPlay, other: GraphPlay, palette: Sequence[str] = ()) -> GraphDifference:
    """Two plays of the same actions; in a world with a palette, all but `BETWEEN` of the pixels."""
    apart = np.abs(one.latents - other.latents)
    pixels = np.abs(one.frames.astype(np.int16) - other.frames).max(axis=-1)
    counted = 1 - BETWEEN if palette else 1.0
    pixel = int(np.quantile(pixels, counted, method="higher"))
    equal = (apart == 0).all(axis=(1, 2, 3))
    states = len(apart)
    if one.states is not None and other.states is not None:
        states = sum(_same(*both) for both in zip(one.states, other.states, strict=True))
    return GraphDifference(len(apart), int(equal.sum()), float(apart.max()), pixel, states)


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two states are equal to the last bit; what neither knows is equal."""
    return np.array_equal(one, other, equal_nan=True)
