"""OpenVINO on a CPU: the three graphs of a frame, compiled once per world and machine.

The compiled graphs read the KV cache where `KVCache` keeps it; nothing is copied on the way in.
They are checked against torch in fp32 at every start; a graph that disagrees is not used. What
OpenVINO compiles is kept in the user's cache folder, so the next start takes a moment.
"""

import hashlib
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldmodel.config import ModelConfig, SamplerConfig, UserError
from worldmodel.engine.graphs import (
    CleanGraph,
    DecodeGraph,
    DenoiseGraph,
    draws_of_noise,
    example_inputs,
    seen,
)
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.context import KVCache
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import round_to_grid
from worldmodel.schedule import add_noise
from worldmodel.world import Frame

if TYPE_CHECKING:
    import openvino

GRAPHS = 1  # counts up with every change of `graphs.py` that changes what a graph computes
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.06}  # RMS error of a graph, over the RMS of its answer
PRECISION = {"float32": "f32", "bfloat16": "bf16"}


class EngineError(UserError):
    """An engine cannot be built here; another one can."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Compiled, ready to infer."""

    denoise: "openvino.InferRequest"
    clean: "openvino.InferRequest"
    decode: "openvino.InferRequest"


def compile_graphs(
    model: WorldTransformer,
    autoencoder: Autoencoder,
    sampler: SamplerConfig,
    dtype: str,
    threads: int,
    key: str,
    batch: int,
) -> Graphs:
    """Trace, compile and check; `model` and `autoencoder` in fp32, `key` names their weights."""
    # The rounding of latents stays outside: a graph is compared with torch before it.
    sampler = replace(sampler, latent_step=0.0)
    modules: dict[str, nn.Module] = {
        "denoise": DenoiseGraph(model, sampler),
        "clean": CleanGraph(model, sampler),
        "decode": DecodeGraph(autoencoder),
    }
    facts = (
        f"{key} {batch} {model.config} {autoencoder.config} {sampler} {GRAPHS} {torch.__version__}"
    )
    requests = {}
    inputs = dict(zip(modules, example_inputs(model.config, sampler, batch), strict=True))
    try:
        for name, module in modules.items():
            requests[name] = _compile(name, module.eval(), inputs[name], dtype, threads, facts)
    except ImportError as error:
        raise EngineError("OpenVINO is not installed: pip install openvino") from error
    except (RuntimeError, OSError) as error:
        raise EngineError(f"OpenVINO cannot compile the graphs: {error}") from error
    return Graphs(**requests)


def _compile(
    name: str, module: nn.Module, example: Sequence[Tensor], dtype: str, threads: int, facts: str
) -> "openvino.InferRequest":
    import openvino as ov

    folder = cache_folder()
    stamp = hashlib.sha256(f"{facts} {name} {ov.__version__}".encode()).hexdigest()
    path = folder / f"{stamp[:32]}.xml"
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": PRECISION[dtype],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "CACHE_DIR": str(folder / "compiled"),
    }
    was_there = path.exists()
    if not was_there:
        _trace(module, example, path)
    try:
        request = ov.Core().compile_model(str(path), "CPU", settings).create_infer_request()
        error = _error(module, request, example)
    except RuntimeError:
        if not was_there:
            raise
        error = float("inf")
    if was_there and not error < TOLERANCE[dtype]:  # broken, or made by something else: once more
        path.unlink()
        return _compile(name, module, example, dtype, threads, facts)
    if not error < TOLERANCE[dtype]:
        raise EngineError(
            f"OpenVINO's {name} graph differs from torch by {error:.3f} of its size in {dtype} "
            f"(allowed {TOLERANCE[dtype]}); use --engine torch"
        )
    return request


def cache_folder() -> Path:
    """Where compiled graphs are kept: the user's cache, one folder for all worlds."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "worldmodel" / "openvino"


@torch.no_grad()
def _trace(module: nn.Module, example: Sequence[Tensor], path: Path) -> None:
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # `ov.convert_model` does the same and reports to its maker that it was used.
    frontend = FrontEndManager().load_by_framework("pytorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is old, and shapes are fixed on purpose
        decoder = TorchScriptPythonDecoder(module, example_input=tuple(example), shared_memory=True)
    graph = frontend.convert(frontend.load(decoder))
    graph.reshape(
        {port.any_name: list(x.shape) for port, x in zip(graph.inputs, example, strict=True)}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Weights first under another name: a file that exists is whole.
    partial = path.with_name(f"{path.stem}-{os.getpid()}.xml")
    ov.save_model(graph, str(partial), compress_to_fp16=False)
    partial.with_suffix(".bin").replace(path.with_suffix(".bin"))
    partial.replace(path)


@torch.no_grad()
def _error(module: nn.Module, request: "openvino.InferRequest", example: Sequence[Tensor]) -> float:
    """The worst output's RMS distance from torch in fp32, over its RMS."""
    expected = module(*example)
    expected = (expected,) if isinstance(expected, Tensor) else expected
    found = request.infer([x.numpy() for x in example])
    errors = []
    for port, wanted in zip(found.values(), expected, strict=True):
        answer, wanted = torch.from_numpy(np.array(port)).float(), wanted.float()
        errors.append((answer - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
    return float(torch.stack(errors).max())


class OpenVinoEngine:
    """Graphs of the three passes, on this machine's cores."""

    name = "openvino"

    def __init__(
        self,
        model: WorldTransformer,
        autoencoder: Autoencoder,
        sampler: SamplerConfig,
        dtype: str,
        threads: int,
        key: str,
    ) -> None:
        _refuse_unsupported(model.config, sampler)
        self.config, self.sampler, self.dtype = model.config, sampler, dtype
        self._compile = partial(
            compile_graphs, model, autoencoder, sampler, dtype, threads, f"{key} {threads}"
        )
        self._graphs = {1: self._compile(1)}  # by the number of sessions
        self.version = version("openvino")

    def begin(self, seeds: Sequence[int]) -> "OpenVinoRollout":
        """A rollout on the compiled graphs; the first for a number of sessions compiles them."""
        return OpenVinoRollout(self._for(len(seeds)), self.config, self.sampler, seeds)

    def decode(self, latents: Tensor) -> Frame:
        """Latents b 1 c h w -> frames uint8 b h w 3."""
        found = self._for(len(latents)).decode.infer([latents.numpy()], share_inputs=True)
        return np.array(next(iter(found.values())))

    def _for(self, sessions: int) -> Graphs:
        if sessions not in self._graphs:
            self._graphs[sessions] = self._compile(sessions)
        return self._graphs[sessions]


def _refuse_unsupported(config: ModelConfig, sampler: SamplerConfig) -> None:
    """What torch alone plays so far."""
    asked = {
        f"chunk_frames = {config.chunk_frames}": config.chunk_frames > 1,
        "first_sigmas": bool(sampler.first_sigmas),
        "cache_from_last_step": sampler.cache_from_last_step,
    }
    if names := [name for name, wanted in asked.items() if wanted]:
        raise EngineError(
            f"the openvino engine does not know {', '.join(names)}, which this world asks for; "
            "use --engine torch"
        )


class OpenVinoRollout:
    """Played worlds on compiled graphs: what `Rollout` is on torch."""

    def __init__(
        self, graphs: Graphs, config: ModelConfig, sampler: SamplerConfig, seeds: Sequence[int]
    ) -> None:
        self.graphs, self.config, self.sampler = graphs, config, sampler
        self.cache = KVCache(config, len(seeds))
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.bias = torch.zeros(self.cache.k.shape[3])
        self.last = torch.zeros(len(seeds), 1, *config.latent_shape)
        self._current: tuple[Tensor, Tensor] | None = None

    def prime(self, latents: Tensor, actions: Tensor) -> None:
        """Show the worlds their past: clean latents b f c h w and the actions b f (k+2) in it."""
        for f in range(latents.shape[1]):
            self._current = latents[:, f : f + 1].contiguous(), actions[:, f : f + 1].contiguous()
            self.remember()

    def denoise(self, action: Tensor) -> Tensor:
        """The next frame: action b 1 (k+2) -> clean latent b 1 c h w."""
        noise = torch.stack([self._noise() for _ in range(draws_of_noise(self.sampler))])
        found = self.graphs.denoise.infer([noise.numpy(), *self._past(action)], share_inputs=True)
        latent = round_to_grid(torch.from_numpy(np.array(next(iter(found.values())))), self.sampler)
        self._current = latent, action
        return latent

    def remember(self) -> None:
        """The clean pass: the frame's keys and values into its slot, and on."""
        assert self._current is not None
        latent, action = self._current
        if sigma := self.sampler.context_sigma:
            latent = add_noise(latent, self._noise(), torch.full((len(latent), 1), sigma))
        found = self.graphs.clean.infer([latent.numpy(), *self._past(action)], share_inputs=True)
        p, slot = self.config.tokens_per_frame, self.cache.slot
        here = slice(slot * p, (slot + 1) * p)
        for cached, own in zip((self.cache.k, self.cache.v), found.values(), strict=True):
            cached[..., here, :] = torch.from_numpy(np.asarray(own))
        self.cache.advance()
        self.last, self._current = latent, None

    def _past(self, action: Tensor) -> list[NDArray[np.float32]]:
        seen(self.cache, self.config, self.bias)
        cos, sin = self.cache.turns
        past = (action, self.last, self.cache.k, self.cache.v, self.bias, cos, sin)
        return [x.numpy() for x in past]

    def _noise(self) -> Tensor:
        shape = (1, 1, *self.config.latent_shape)
        return torch.cat([torch.randn(shape, generator=g) for g in self.generators])
