"""OpenVINO on a CPU: the graphs of a frame, compiled once per world and machine.

The compiled graphs read and write the tensors of a `StaticRollout` in place, the KV cache in the
dtype of play; nothing is copied on the way. They are checked against torch in fp32 at every
start; a graph that disagrees is not used. What OpenVINO compiles is kept in the user's cache
folder, so the next start takes a moment; without a place to keep it, it is compiled every time.
"""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.engine import EngineError
from worldmodel.engine.graphs import (
    DecodeGraph,
    FrameGraph,
    FrameInputs,
    FrameOutputs,
    LookGraph,
    ViewGraph,
    beyond_graphs,
    empty_inputs,
    example_inputs,
    example_views,
)
from worldmodel.engine.rows import RowDecoder, RowGraph, RowPool, alone, empty_outputs, empty_rows
from worldmodel.engine.signal_stack import kept_signal_stack
from worldmodel.engine.static_rollout import BoundProgram, ProgramPool, StaticRollout
from worldmodel.engine.torch_engine import DTYPES
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.floor_plan import Sight
from worldmodel.model.transformer import WorldTransformer
from worldmodel.storage.tensor_bits import as_array
from worldmodel.storage.user_dirs import cache_folder
from worldmodel.world import Frame

if TYPE_CHECKING:
    import openvino

GRAPHS = 4  # counts up with every change of `graphs.py` that changes what a graph computes
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.06}  # RMS error of a graph, over the RMS of its answer
PRECISION = {"float32": "f32", "bfloat16": "bf16"}
KEPT_BYTES = 1_000_000_000  # of graphs; those that were not used for the longest time go first

Graphs = dict[str, tuple[nn.Module, Sequence[Tensor]]]  # by name: a module and examples for it


class BoundGraph:
    """A compiled graph and the torch tensors that it reads and writes where they are."""

    def __init__(
        self,
        compiled: "openvino.CompiledModel",
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ) -> None:
        self.request = compiled.create_infer_request()
        self._keep = (inputs, outputs)
        for i, tensor in enumerate(inputs):
            self.request.set_input_tensor(i, _shared(tensor))
        for i, tensor in enumerate(outputs):
            self.request.set_output_tensor(i, _shared(tensor))

    def run(self) -> None:
        """Compute the outputs from the inputs."""
        self.request.infer()


@dataclass(frozen=True, slots=True)
class DecodeProgram(RowDecoder):
    """A decoder with what is seen, in a world with a floor plan or a scene."""

    look: BoundGraph | None
    views: Tensor  # b n, what `look` reads
    sight: Sight  # what it writes, and the decoder reads
    encode: BoundGraph | None  # where the sampler has a `view_pull`
    seen: Tensor  # b 1 c h w, what `encode` makes of the sight


class OpenVinoEngine:
    """Compiled graphs of a world, on some of this machine's cores."""

    name = "openvino"

    def __init__(
        self,
        model: WorldTransformer,
        autoencoder: Autoencoder,
        sampler: SamplerConfig,
        dtype: str,
        threads: int,
        key: str,
        batch_threads: int = 0,
    ) -> None:
        """`threads` for one session; `batch_threads` for more than one, 0 being as many."""
        if reason := beyond_graphs(model.config, sampler):
            raise EngineError(f"the openvino engine does not know {reason}; use --engine torch")
        self.config, self.sampler, self.dtype, self.threads = model.config, sampler, dtype, threads
        self._batch_threads = batch_threads or threads
        self.lanes = self._batch_threads // threads
        self._models = model, autoencoder
        self._key = key
        self._compiled: dict[tuple[str, int], openvino.CompiledModel] = {}
        self._decoders: dict[int, DecodeProgram] = {}
        self._pool = ProgramPool(self._frame_program)
        self._compile_for(1)
        self.version = version("openvino")

    def begin(self, seeds: Sequence[int]) -> StaticRollout:
        """A rollout on the compiled graphs; the first for a number of sessions compiles them."""
        return self._pool.begin(self.config, self.sampler, seeds)

    def look(self, views: Tensor) -> Sight:
        """What floor plan or scene show of views b n; the decoder reads it where it is."""
        decoder = self._decoder(len(views))
        assert decoder.look is not None, "this world has neither floor plan nor scene to look at"
        decoder.views.copy_(views)
        decoder.look.run()
        return decoder.sight

    def decode(self, latents: Tensor, sight: Sight | None = None) -> Frame:
        """Latents b 1 c h w and what is seen -> frames uint8 b h w 3."""
        decoder = self._decoder(len(latents))
        if sight is not None and sight.pixels is not decoder.sight.pixels:
            decoder.sight.pixels.copy_(sight.pixels)
        decoder.latents.copy_(latents)
        decoder.run()
        return decoder.frames.numpy().copy()

    def encode_view(self, sight: Sight) -> Tensor:
        """Latents b 1 c h w of the picture that is seen, in a world with a `view_pull`."""
        decoder = self._decoder(sight.pixels.shape[1])
        assert decoder.encode is not None, "a world with a view_pull has a graph for it"
        if sight.pixels is not decoder.sight.pixels:
            decoder.sight.pixels.copy_(sight.pixels)
        decoder.encode.run()
        return decoder.seen.clone()

    def rows(self, count: int) -> RowPool:
        """Room for sessions as rows of one batch; compiles for 1, 2, 4 … of them."""
        return RowPool(self, self.config, self.sampler, DTYPES[self.dtype], "cpu", count)

    def row_run(self, inputs: FrameInputs, outputs: FrameOutputs) -> Callable[[], None]:
        """A run over all rows of tensors that have the batch first; one row as if alone."""
        batch, sampler = len(inputs.actions), self._unrounded
        if batch == 1:
            self._compile_for(1)
            return BoundGraph(self._compiled["frame", 1], *alone(inputs, outputs)).run
        if ("rows", batch) not in self._compiled:
            empty = empty_rows(self.config, sampler, batch, DTYPES[self.dtype])
            graph = RowGraph(FrameGraph(self._models[0], sampler)).eval()
            self._compile({"rows": (graph, example_inputs(empty))}, batch, self.lanes)
        return BoundGraph(self._compiled["rows", batch], inputs, outputs).run

    def row_decoder(self, count: int) -> RowDecoder | None:
        """For frames without a floor plan: with one, time goes into pixels, not into weights."""
        autoencoder = self._models[1]
        if autoencoder.config.view:
            return None
        name = "frames" if count > 1 else "decode"
        if (name, count) not in self._compiled:
            latents = torch.zeros(count, 1, *self.config.latent_shape)
            self._compile({name: (DecodeGraph(autoencoder).eval(), [latents])}, count, self.lanes)
        return self._decode_program(name, count)

    def _decoder(self, batch: int) -> DecodeProgram:
        if batch not in self._decoders:
            self._compile_for(batch)
            self._decoders[batch] = self._decode_program("decode", batch)
        return self._decoders[batch]

    def broken_weight(self) -> str | None:
        """None: nobody can look into compiled graphs."""
        return None

    def _frame_program(self, batch: int) -> BoundProgram:
        self._compile_for(batch)
        inputs = empty_inputs(self.config, self.sampler, batch, DTYPES[self.dtype])
        outputs = empty_outputs(inputs, self.config)
        graph = BoundGraph(self._compiled["frame", batch], inputs, outputs)
        return BoundProgram(inputs, outputs, graph.run)

    def _decode_program(self, name: str, batch: int) -> DecodeProgram:
        shape = self._models[1].config
        latents = torch.zeros(batch, 1, *self.config.latent_shape)
        frames = torch.zeros(batch, shape.frame_height, shape.frame_width, 3, dtype=torch.uint8)
        views, sight, look = torch.empty(0), Sight(torch.empty(0), torch.empty(0)), None
        read, seen, encode = [latents], torch.zeros_like(latents), None
        if view := shape.view:
            views = example_views(view, batch)
            rays = torch.zeros(
                batch, shape.frame_width, shape.plan.ray_features if shape.plan else 0
            )
            size = shape.frame_height, shape.frame_width
            sight = Sight(rays, torch.zeros(view.pixel_features, batch, *size))
            shown = sight if shape.plan else [sight.pixels]
            look = BoundGraph(self._compiled["look", batch], [views], shown)
            read.append(sight.pixels)
            if self.sampler.view_pull:
                encode = BoundGraph(self._compiled["view", batch], [sight.pixels], [seen])
        graph = BoundGraph(self._compiled[name, batch], read, [frames])
        return DecodeProgram(latents, frames, graph.run, look, views, sight, encode, seen)

    @property
    def _unrounded(self) -> SamplerConfig:
        """The rounding of latents stays outside: a graph is compared with torch before it."""
        return replace(self.sampler, latent_step=0.0)

    def _compile_for(self, batch: int) -> None:
        """Trace, compile and check all graphs; an `EngineError` if that cannot be done here."""
        if ("frame", batch) in self._compiled:
            return
        model, autoencoder = self._models
        sampler = self._unrounded
        inputs = example_inputs(empty_inputs(self.config, sampler, batch, DTYPES[self.dtype]))
        graphs: Graphs = {"frame": (FrameGraph(model, sampler).eval(), inputs)}
        read = [inputs.before]
        if view := autoencoder.config.view:
            views = example_views(view, batch)
            graphs["look"] = (LookGraph(autoencoder).eval(), [views])
            with torch.no_grad():
                read.append(autoencoder.look(views).pixels.contiguous())
            if sampler.view_pull:
                graphs["view"] = (ViewGraph(autoencoder).eval(), read[1:])
        graphs["decode"] = (DecodeGraph(autoencoder).eval(), read)
        self._compile(graphs, batch)

    def _compile(self, graphs: Graphs, batch: int, lanes: int = 1) -> None:
        """To run on all of a batch's cores, or in lanes on a part of them each."""
        model, autoencoder = self._models
        threads = self.threads if batch == 1 else self._batch_threads
        facts = (
            f"{self._key} {batch} {model.config} {autoencoder.config} {self._unrounded} {GRAPHS} "
            f"{self.dtype} {torch.__version__}"
        )
        try:
            for name, (module, example) in graphs.items():
                dtype = "float32" if name == "look" else self.dtype  # half a unit is a pixel
                self._compiled[name, batch] = compile_graph(
                    name, module, example, dtype, threads, facts, lanes
                )
        except ImportError as error:
            raise EngineError("OpenVINO is not installed: pip install openvino") from error
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot compile the graphs: {error}") from error


def compile_graph(
    name: str,
    module: nn.Module,
    example: Sequence[Tensor],
    dtype: str,
    threads: int,
    facts: str,
    lanes: int = 1,
) -> "openvino.CompiledModel":
    """A compiled model that was checked against torch; `facts` name all that it depends on."""
    import openvino as ov

    stamp = hashlib.sha256(f"{facts} {name} {ov.__version__}".encode()).hexdigest()
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": PRECISION[dtype],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    if lanes > 1:  # requests of so many threads are computed at once
        settings |= {"NUM_STREAMS": str(lanes), "ENABLE_CPU_PINNING": False}
    folder = _graphs_folder()
    path = folder / f"{stamp[:32]}.xml" if folder else None
    if folder and path and path.exists():
        try:
            kept = settings | {"CACHE_DIR": str(folder / "compiled")}
            compiled = _compile(str(path), kept)
            if _error(module, compiled, example) < TOLERANCE[dtype]:
                path.touch()
                return compiled
        except RuntimeError:
            pass
        path.unlink(missing_ok=True)  # broken, or made by something else: once more
    graph = _trace(module, example)
    if folder and path:
        _prune(folder)
        _save(graph, path)
        settings["CACHE_DIR"] = str(folder / "compiled")
        compiled = _compile(str(path), settings)
    else:
        compiled = _compile(graph, settings)
    error = _error(module, compiled, example)
    if not error < TOLERANCE[dtype]:
        raise EngineError(
            f"OpenVINO's {name} graph differs from torch by {error:.3f} of its size in {dtype} "
            f"(allowed {TOLERANCE[dtype]}); use --engine torch"
        )
    return compiled


def _compile(graph: "openvino.Model | str", settings: dict[str, Any]) -> "openvino.CompiledModel":
    import openvino as ov

    with kept_signal_stack():
        return ov.Core().compile_model(graph, "CPU", settings)


def _graphs_folder() -> Path | None:
    """Where compiled graphs are kept, made if need be; None where nothing can be kept."""
    cache = cache_folder()
    if cache is None:
        return None
    folder = cache / "openvino"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


@torch.no_grad()
def _trace(module: nn.Module, example: Sequence[Tensor]) -> "openvino.Model":
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # `ov.convert_model` does the same and reports to its maker that it was used.
    frontend = FrontEndManager().load_by_framework("pytorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is old, and shapes are fixed on purpose
        decoder = TorchScriptPythonDecoder(module, example_input=tuple(example), shared_memory=True)
    graph = frontend.convert(frontend.load(decoder))
    graph.reshape({i: list(x.shape) for i, x in enumerate(example)})
    return graph


def _save(graph: "openvino.Model", path: Path) -> None:
    import openvino as ov

    # Weights first under another name: a file that exists is whole.
    partial = path.with_name(f"{path.stem}-{os.getpid()}.xml")
    ov.save_model(graph, str(partial), compress_to_fp16=False)
    partial.with_suffix(".bin").replace(path.with_suffix(".bin"))
    partial.replace(path)


def _prune(folder: Path) -> None:
    """Keep the folder within bounds; another process may be using it, so nothing is certain."""
    with contextlib.suppress(OSError):
        files = [(p.stat().st_mtime, p.stat().st_size, p) for p in folder.rglob("*") if p.is_file()]
        room = KEPT_BYTES
        for _, size, path in sorted(files, reverse=True):
            room -= size
            if room < 0 and path.suffix != ".json":
                path.unlink(missing_ok=True)


@torch.no_grad()
def _error(
    module: nn.Module, compiled: "openvino.CompiledModel", example: Sequence[Tensor]
) -> float:
    """The worst output's RMS distance from torch in fp32, over its RMS."""
    expected = module(*example)
    expected = (expected,) if isinstance(expected, Tensor) else tuple(expected)
    found = [torch.zeros(x.shape, dtype=x.dtype) for x in expected]
    BoundGraph(compiled, example, found).run()
    errors = []
    for answer, wanted in zip(found, expected, strict=True):
        answer, wanted = answer.float(), wanted.float()
        errors.append((answer - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
    return float(torch.stack(errors).max())


def _shared(tensor: Tensor) -> "openvino.Tensor":
    """The same memory as OpenVINO sees it."""
    import openvino as ov

    if not tensor.is_contiguous():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is not contiguous")
    if tensor.dtype == torch.bfloat16:  # numpy knows no such type
        bits = as_array(tensor).view(dtype=np.uint16)
        return ov.Tensor(bits, list(tensor.shape), ov.Type.bf16)
    return ov.Tensor(tensor.numpy(), shared_memory=True)
