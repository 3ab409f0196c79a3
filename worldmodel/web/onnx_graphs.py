"""A world's networks as ONNX: the frame step, the decoder, and in some what looks at a floor plan.

    step:    noise, last_condition, action (view, numbers), finished, before, k, v, mask, cos, sin
             -> latent (not yet rounded), own_k, own_v, condition
    decode:  latent, (view, of a scene) -> frame, RGBA

The step is `engine.graphs.FrameGraph`: the finished frame's clean pass and all denoising steps of
the new one. A world with a floor plan has five graphs. Two of them need nothing but the view, so
that they can run beside the others:

    look:    view -> numbers, depth (of rays)
    draw:    view, numbers, depth -> from_plan, picture
    decode:  latent -> coarse
    show:    coarse, from_plan, picture -> frame, RGBA

One with a `view_pull` has a graph that is needed in every so many-th frame:

    seen:    view (of a scene) or picture (of a floor plan) -> seen, latents

A world whose numbers are drawn has one more, which comes before the others:

    events:  states, actions, latents (of the last frames), action, chance, (moved)
             -> next (states), (facts, which the step's action begins with)

Letters as in `engine.graphs` and `model.events`.
"""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.config import UserError
from worldmodel.engine.graphs import FrameGraph, FrameInputs, empty_inputs, example_views
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.events import Events, Recent
from worldmodel.model.floor_plan import FloorPlan
from worldmodel.model.palette import Palette
from worldmodel.model.state_numbers import encode_state
from worldmodel.model.transformer import WorldTransformer
from worldmodel.web.floor_plan_graphs import DrawGraph, MergeGraph, RayGraph, rays_for_transformer

if TYPE_CHECKING:
    import onnx

OPSET = 18
STEP, DECODE, LOOK, DRAW, SHOW = "step", "decode", "look", "draw", "show"
EVENTS, SEEN = "events", "seen"


class ExportError(UserError):
    """A world cannot be made into a page."""


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """An ONNX model and the tensors that it was traced with, by name."""

    model: "onnx.ModelProto"
    example: dict[str, Tensor]
    work: int  # multiply-adds of a run


class StepGraph(nn.Module):
    """The next frame's latents, the finished frame's keys and values, the new condition."""

    def __init__(
        self, model: WorldTransformer, autoencoder: Autoencoder, sampler: SamplerConfig
    ) -> None:
        super().__init__()
        self.frame = FrameGraph(model, sampler)
        self.autoencoder = autoencoder

    def forward(
        self, noise: Tensor, last_condition: Tensor, action: Tensor, *rest: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Condition b 1 z of the finished frame, facts and action b 1 (d+k+2), rest as above."""
        condition = action
        if (plan := self.autoencoder.plan) is not None:
            (view, numbers), rest = rest[:2], rest[2:]
            rays = rays_for_transformer(plan, view, numbers)
            condition = torch.cat((rays.flatten(1)[:, None], action), dim=-1)
        out = self.frame(noise, torch.cat((last_condition, condition), dim=1), *rest)
        return out.latent, out.k, out.v, condition


class PictureGraph(nn.Module):
    """Latents 1 1 c h w to pictures uint8 1 h w 4, RGBA; or to what `ShowGraph` needs."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.decoder, self.scene = autoencoder.decoder, autoencoder.scene
        self.palette = autoencoder.palette
        self.has_plan = autoencoder.plan is not None

    def forward(self, latent: Tensor, view: Tensor | None = None) -> Tensor:
        """The decoder, or its part that knows nothing of the floor plan; a scene's view is 1 n."""
        if self.has_plan:
            return self.decoder.layers(latent[:, 0])
        if self.scene is None or view is None:
            return _rgba(self.decoder(latent[:, 0]), self.palette)
        seen = self.scene.drawing(self.scene.look(view).pixels)
        return _rgba(self.decoder(latent[:, 0], seen), self.palette)


class ShowGraph(nn.Module):
    """Where the decoder's layers and the drawing of a plan meet: to pictures uint8 1 h w 4."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.merge, self.palette = MergeGraph(autoencoder), autoencoder.palette

    def forward(self, coarse: Tensor, from_plan: Tensor, picture: Tensor) -> Tensor:
        """What `PictureGraph` and `DrawGraph` gave, b d h w and b 3 h w -> uint8 1 h w 4."""
        return _rgba(self.merge(coarse, from_plan, picture), self.palette)


class SeenGraph(nn.Module):
    """`Autoencoder.encode_view` of a scene's view 1 n, or of the picture that a plan has drawn."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, seen: Tensor) -> Tensor:
        """View 1 n, or picture 1 3 h w in about [-1, 1] -> latents 1 1 c h w."""
        if self.autoencoder.scene is not None:
            return self.autoencoder.encode_view(self.autoencoder.scene.look(seen).pixels)[:, None]
        return self.autoencoder.encode(seen.clamp(-1, 1))[:, None]


class EventsGraph(nn.Module):
    """What happens in the next frame, and what the transformer is given of it."""

    def __init__(self, events: Events, model: ModelConfig) -> None:
        super().__init__()
        self.events, self.model = events, model

    def forward(
        self,
        states: Tensor,
        actions: Tensor,
        latents: Tensor,
        action: Tensor,
        chance: Tensor,
        moved: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """`Recent`, action b (k+2), chances b i, states b v that motion moved: b v, b d."""
        moved = states[:, -1] if moved is None else moved
        after = self.events(Recent(states, actions, latents), moved, action, chance)
        if not self.model.is_conditioned_on_state:
            return (after,)
        return after, encode_state(self.model, self.events.spec.names, after)


def _rgba(decoded: Tensor, palette: Palette | None) -> Tensor:
    """Pixels b 3 h w in about [-1, 1] to uint8 b h w 4: `Autoencoder.show`, and opaque."""
    colours = torch.clamp((decoded + 1) * 127.5 + 0.5, 0, 255)
    colours = rearrange(colours, "b c h w -> b h w c")
    if palette is not None:
        colours = palette(colours).to(colours.dtype)
    opaque = torch.full_like(colours[..., :1], 255.0)
    return torch.cat((colours, opaque), dim=-1).to(torch.uint8)


def step_graph(
    model: WorldTransformer, autoencoder: Autoencoder, sampler: SamplerConfig
) -> OnnxGraph:
    """The frame step; latents are rounded outside, where the rounding can be compared."""
    sampler = replace(sampler, latent_step=0.0)
    inputs = _example(empty_inputs(model.config, sampler, 1, torch.float32))
    last, new = inputs.actions.split(1, dim=1)
    by_plan = 0 if model.config.objects else model.config.rays * model.config.ray_features
    action = new[..., by_plan:]
    given = {"noise": inputs.noise, "last_condition": last, "action": action}
    if autoencoder.plan is not None:
        given |= {name: x for name, x in _example_rays(autoencoder.plan).items() if name != "depth"}
    given.update(
        {name: x for name, x in inputs._asdict().items() if name not in (*given, "actions")}
    )
    names = ("latent", "own_k", "own_v", "condition")
    return _export(StepGraph(model, autoencoder, sampler), given, names)


def picture_graphs(autoencoder: Autoencoder) -> dict[str, OnnxGraph]:
    """The ONNX graphs from latents, and in a world with a floor plan from a view, to pictures."""
    latent = {"latent": torch.zeros(1, 1, *autoencoder.latent_shape)}
    graph = PictureGraph(autoencoder)
    if autoencoder.plan is None:
        scene = autoencoder.config.scene
        seen = {} if scene is None else {"view": example_views(scene, 1)}
        return {DECODE: _export(graph, latent | seen, ("frame",))}
    look, draw, show = RayGraph(autoencoder.plan), DrawGraph(autoencoder), ShowGraph(autoencoder)
    given = _example_rays(autoencoder.plan)
    with torch.no_grad():
        from_plan, picture = draw(*given.values())
        shown = {"coarse": graph(latent["latent"]), "from_plan": from_plan, "picture": picture}
    return {
        LOOK: _export(look, {"view": given["view"]}, ("numbers", "depth")),
        DRAW: _export(draw, given, ("from_plan", "picture")),
        DECODE: _export(graph, latent, ("coarse",)),
        SHOW: _export(show, shown, ("frame",)),
    }


def seen_graph(autoencoder: Autoencoder) -> OnnxGraph:
    """The graph from what is seen to the latents that it is remembered by."""
    config = autoencoder.config
    given = {"picture": torch.zeros(1, 3, config.frame_height, config.frame_width)}
    if config.scene is not None:
        given = {"view": example_views(config.scene, 1)}
    return _export(SeenGraph(autoencoder), given, ("seen",))


def events_graph(events: Events, model: ModelConfig) -> OnnxGraph:
    """The graph that draws a world's numbers; its facts go to the transformer."""
    config, spec = events.config, events.spec
    states = events.low.expand(1, config.frames, spec.width).clone()
    action = torch.zeros(1, config.buttons + 2)
    given = {
        "states": states,
        "actions": action[:, None].expand(1, config.frames, -1).clone(),
        "latents": torch.zeros(1, config.seen, *config.latent_shape),
        "action": action,
        "chance": torch.full((1, events.chances), 0.5),
    }
    if config.moved:
        given["moved"] = states[:, -1].clone()
    names = ("next", "facts") if model.is_conditioned_on_state else ("next",)
    return _export(EventsGraph(events, model), given, names)


@torch.no_grad()
def _example_rays(plan: FloorPlan) -> dict[str, Tensor]:
    """A view and what its rays meet."""
    view = example_views(plan.config, 1)
    numbers, depth = RayGraph(plan)(view)
    return {"view": view, "numbers": numbers, "depth": depth}


def _example(inputs: FrameInputs) -> FrameInputs:
    """The same shapes with numbers of the size of play; nothing is hidden."""
    generator = torch.Generator().manual_seed(0)
    drawn = {n: torch.randn(x.shape, generator=generator) for n, x in inputs._asdict().items()}
    return FrameInputs(**{**drawn, "mask": torch.zeros_like(inputs.mask)})


def _export(module: nn.Module, given: dict[str, Tensor], outputs: Sequence[str]) -> OnnxGraph:
    """Trace a module in fp32; its inputs keep the names that they are given under."""
    import onnx

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(*given.values())
    work = counter.get_total_flops() // 2
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.onnx")
        # Shapes are fixed on purpose; the newer exporter would need one more package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(given.values()),
            path,
            input_names=list(given),
            output_names=list(outputs),
            opset_version=OPSET,
            do_constant_folding=False,  # what a session folds itself need not be sent
            dynamo=False,
        )
        model = onnx.load(path)
    if missing := given.keys() - {entry.name for entry in model.graph.input}:
        raise ExportError(f"the graph that was exported lost its inputs {', '.join(missing)}")
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
    return OnnxGraph(model, given, work)
