"""Which engines could play a world here, as the settings allow; `engine.choose` picks one."""

from collections.abc import Callable

import torch

from worldmodel.config import UserError
from worldmodel.engine import Engine
from worldmodel.engine.openvino import OpenVinoEngine
from worldmodel.engine.torch_engine import CompiledEngine, TorchEngine
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.worlds.devices import choose_dtype
from worldmodel.worlds.run_settings import RunSettings


def engine_candidates(
    transformer: WorldTransformer,
    autoencoder: Autoencoder,
    sampler: SamplerConfig,
    settings: RunSettings,
    device: torch.device,
    key: str,
) -> dict[str, Callable[[], Engine]]:
    """What could play here, by name, as the settings allow."""
    models = (transformer, autoencoder, sampler)
    dtype = choose_dtype(settings.dtype, device)
    threads = torch.get_num_threads()

    def on_torch() -> Engine:
        torch.set_num_threads(threads)
        return TorchEngine(*models, dtype, device)

    def on_compiled() -> Engine:
        torch.set_num_threads(threads)
        return CompiledEngine(*models, dtype, device, fuse=settings.compile)

    def on_openvino(count: int) -> Callable[[], Engine]:
        return lambda: OpenVinoEngine(*models, dtype, count, key, batch_threads=threads)

    found: dict[str, Callable[[], Engine]] = {}
    wanted = "torch-compiled" if settings.compile else settings.engine
    if wanted in ("openvino", "auto") and device.type == "cpu":
        # A small world may be faster on one core, above all where cores share no cache; and what
        # is left over is the window's.
        for count in (settings.threads,) if settings.threads else sorted({1, threads}):
            found[f"openvino in {dtype} on {count}"] = on_openvino(count)
    if wanted == "torch-compiled" or (wanted == "auto" and device.type == "cuda"):
        found[f"torch-compiled in {dtype}"] = on_compiled
    if wanted in ("torch", "auto"):
        found[f"torch in {dtype} on {threads}"] = on_torch
    if not found:
        raise UserError(f"--engine openvino plays on CPUs; --device is {device.type}")
    return found
