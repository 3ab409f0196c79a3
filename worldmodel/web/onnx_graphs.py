"""A world's two networks as ONNX: the frame step and the decoder.

    step:    noise, last_condition, action (and view), finished, before, k, v, mask, cos, sin
             -> latent (not yet rounded), own_k, own_v, condition
    decode:  latent (and view) -> frame, RGBA

The step is `engine.graphs.FrameGraph`: the finished frame's clean pass and all denoising steps of
the new one. In a world with a plan both graphs take the view that a frame is seen from and look at
the plan themselves, so that no picture's worth of features travels between them.

Letters as in `engine.graphs`.
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
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.transformer import WorldTransformer

if TYPE_CHECKING:
    import onnx

OPSET = 18


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
        """Condition b 1 z of the finished frame, action b 1 (k+2), view b 4 if there is a plan."""
        condition = action
        if self.autoencoder.plan is not None:
            condition = self.autoencoder.conditions(action, rest[0][:, None])
            rest = rest[1:]
        out = self.frame(noise, torch.cat((last_condition, condition), dim=1), *rest)
        return out.latent, out.k, out.v, condition


class PictureGraph(nn.Module):
    """Latents b 1 c h w, and the view b 4 if there is a plan, to pictures uint8 b h w 4, RGBA."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latent: Tensor, view: Tensor | None = None) -> Tensor:
        """As `to_frames`, with an opaque fourth channel."""
        pixels = None if view is None else self.autoencoder.look(view).pixels
        decoded = self.autoencoder.decode(latent[:, 0], pixels)
        colours = torch.clamp((decoded + 1) * 127.5 + 0.5, 0, 255)
        colours = rearrange(colours, "b c h w -> b h w c")
        opaque = torch.full_like(colours[..., :1], 255.0)
        return torch.cat((colours, opaque), dim=-1).to(torch.uint8)


def step_graph(
    model: WorldTransformer, autoencoder: Autoencoder, sampler: SamplerConfig
) -> OnnxGraph:
    """The frame step; latents are rounded outside, where the rounding can be compared."""
    sampler = replace(sampler, latent_step=0.0)
    inputs = _example(empty_inputs(model.config, sampler, 1, torch.float32))
    last, new = inputs.actions.split(1, dim=1)
    action = new[..., -(model.config.buttons + 2) :]
    given = {"noise": inputs.noise, "last_condition": last, "action": action}
    if autoencoder.config.plan is not None:
        given["view"] = example_views(autoencoder.config.plan, 1)
    given.update(
        {name: x for name, x in inputs._asdict().items() if name not in (*given, "actions")}
    )
    names = ("latent", "own_k", "own_v", "condition")
    return _export(StepGraph(model, autoencoder, sampler), given, names)


def picture_graph(autoencoder: Autoencoder) -> OnnxGraph:
    """The ONNX graph from latents to pictures."""
    given = {"latent": torch.zeros(1, 1, *autoencoder.latent_shape)}
    if autoencoder.config.plan is not None:
        given["view"] = example_views(autoencoder.config.plan, 1)
    return _export(PictureGraph(autoencoder), given, ("frame",))


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
            dynamo=False,
        )
        model = onnx.load(path)
    if missing := given.keys() - {entry.name for entry in model.graph.input}:
        raise ExportError(f"the graph that was exported lost its inputs {', '.join(missing)}")
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
    return OnnxGraph(model, given, work)
