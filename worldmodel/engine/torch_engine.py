"""Torch: the reference, eager, on any device; and the same made fast by fixed shapes.

`TorchEngine` runs the model as training does. `CompiledEngine` runs `FrameGraph` on tensors that
never move: on a CUDA GPU as a captured graph, launched at once instead of kernel by kernel, and
with `fuse` through `torch.compile` on any device.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.engine import EngineError, Playing
from worldmodel.engine.chunks import ChunkedPlaying
from worldmodel.engine.graphs import (
    DecodeGraph,
    FrameGraph,
    FrameInputs,
    FrameOutputs,
    beyond_graphs,
    empty_inputs,
)
from worldmodel.engine.rows import RowDecoder, RowGraph, RowPool
from worldmodel.engine.static_rollout import BoundProgram, ProgramPool, StaticRollout
from worldmodel.model.autoencoder import Autoencoder, channels_last
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.floor_plan import Sight
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import Rollout
from worldmodel.storage.checkpoint import broken_weight
from worldmodel.world import Frame

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WARM_UP = 3  # runs before a capture, as CUDA graphs ask for


class TorchModels:
    """Copies of the models in the dtype and on the device of play."""

    version = str(torch.__version__)

    def __init__(
        self,
        model: WorldTransformer,
        autoencoder: Autoencoder,
        sampler: SamplerConfig,
        dtype: str,
        device: torch.device,
    ) -> None:
        self.sampler, self.dtype, self.device = sampler, dtype, device
        self.threads = torch.get_num_threads()
        self.model = copy.deepcopy(model).to(device=device, dtype=DTYPES[dtype])
        self.autoencoder = copy.deepcopy(autoencoder).to(device).cast(DTYPES[dtype])
        channels_last(self.autoencoder)

    @torch.inference_mode()
    def look(self, views: Tensor) -> Sight:
        """What floor plan or scene show of views b n, in fp32."""
        return self.autoencoder.look(views.to(self.device))

    @torch.inference_mode()
    def encode_view(self, sight: Sight) -> Tensor:
        """Latents b 1 c h w of the picture that is seen."""
        return self.autoencoder.encode_view(sight.pixels)[:, None].float()

    def broken_weight(self) -> str | None:
        """The first weight that holds values that are not numbers."""
        return broken_weight(self.model) or broken_weight(self.autoencoder)


class TorchEngine(TorchModels):
    """The reference: what training runs."""

    name = "torch"

    def begin(self, seeds: Sequence[int]) -> Playing:
        """A rollout of the transformer."""
        rollout = Rollout(self.model, self.sampler, seeds)
        return rollout if self.model.config.chunk_frames == 1 else ChunkedPlaying(rollout)

    @torch.inference_mode()
    def decode(self, latents: Tensor, sight: Sight | None = None) -> Frame:
        """Latents b 1 c h w and what is seen -> frames uint8 b h w 3."""
        pixels = None if sight is None else sight.pixels
        decoded = self.autoencoder.decode(latents[:, 0].to(DTYPES[self.dtype]), pixels)
        return self.autoencoder.show(decoded).contiguous().cpu().numpy()


class CompiledEngine(TorchModels):
    """The same weights on fixed shapes: CUDA graphs where there are any, fused if asked."""

    name = "torch-compiled"
    lanes = 1  # a GPU, or torch's own threads

    def __init__(
        self,
        model: WorldTransformer,
        autoencoder: Autoencoder,
        sampler: SamplerConfig,
        dtype: str,
        device: torch.device,
        *,
        fuse: bool,
    ) -> None:
        if reason := beyond_graphs(model.config, sampler):
            raise EngineError(f"the compiled engine does not know {reason}; use --engine torch")
        super().__init__(model, autoencoder, sampler, dtype, device)
        frame, decode = FrameGraph(self.model, sampler), DecodeGraph(self.autoencoder)
        self._frame = _fused(frame) if fuse else frame
        self._rows = _fused(RowGraph(frame)) if fuse else RowGraph(frame)
        self._decode = _fused(decode) if fuse else decode
        self._pool = ProgramPool(self._program)
        self._decoders: dict[int, tuple[list[Tensor], Tensor, Callable[[], None]]] = {}

    def begin(self, seeds: Sequence[int]) -> StaticRollout:
        """A rollout on a compiled program; the first for a number of sessions compiles it."""
        return self._pool.begin(self.model.config, self.sampler, seeds)

    def rows(self, count: int) -> RowPool:
        """Room for sessions as rows of one batch."""
        kept = DTYPES[self.dtype]
        return RowPool(self, self.model.config, self.sampler, kept, self.device, count)

    def row_run(self, inputs: FrameInputs, outputs: FrameOutputs) -> Callable[[], None]:
        """A run over all rows of tensors that have the batch first."""

        def once() -> None:
            for kept, made in zip(outputs, self._rows(*inputs), strict=True):
                kept.copy_(made)

        return _captured(once, self.device)

    def row_decoder(self, count: int) -> RowDecoder | None:
        """For frames without a floor plan: with one, time goes into pixels, not into weights."""
        if self.autoencoder.config.view:
            return None
        latents = torch.zeros(count, 1, *self.model.config.latent_shape, device=self.device)
        (kept,), frames, run = self._decoder([latents])
        return RowDecoder(kept, frames, run)

    def decode(self, latents: Tensor, sight: Sight | None = None) -> Frame:
        """Latents b 1 c h w and what is seen -> frames uint8 b h w 3, through pinned memory."""
        given = [latents] if sight is None else [latents, sight.pixels]
        if len(latents) not in self._decoders:
            self._decoders[len(latents)] = self._decoder(given)
        kept, frames, run = self._decoders[len(latents)]
        with torch.inference_mode():
            for target, source in zip(kept, given, strict=True):
                target.copy_(source)
            run()
        return frames.cpu().numpy().copy()

    def _program(self, batch: int) -> BoundProgram:
        inputs = empty_inputs(
            self.model.config, self.sampler, batch, DTYPES[self.dtype], self.device
        )
        with torch.inference_mode():
            outputs = FrameOutputs(*(torch.empty_like(x) for x in self._frame(*inputs)))

        def once() -> None:
            for kept, made in zip(outputs, self._frame(*inputs), strict=True):
                kept.copy_(made)

        return BoundProgram(inputs, outputs, _captured(once, self.device))

    def _decoder(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Tensor, Callable[[], None]]:
        """Its own inputs and frames, and a run that returns when the frames are there."""
        given = [torch.empty_like(x, device=self.device) for x in inputs]
        with torch.inference_mode():
            frames = torch.empty_like(self._decode(*given), device="cpu")
        if self.device.type == "cuda":
            frames = frames.pin_memory()

        def once() -> None:
            frames.copy_(self._decode(*given), non_blocking=True)

        decode = _captured(once, self.device)

        def run() -> None:
            decode()
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()

        return given, frames, run


def _fused(graph: nn.Module) -> Any:
    return torch.compile(graph, dynamic=False)


def _captured(once: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The same work as one launch, on a device that can; elsewhere the work itself."""
    if device.type != "cuda":
        return torch.inference_mode()(once)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            once()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        once()
    return graph.replay
