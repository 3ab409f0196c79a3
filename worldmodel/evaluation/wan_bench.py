"""How fast a Wan world plays: `worldmodel bench --world wan-1.3b --random-weights`.

Speed does not depend on what the weights say, so random ones of the full size measure it. For each
window, number of steps and decoder, a session plays chunks as in play: denoise, decode, bring the
pixels to the host, clean pass. Where a chunk would take minutes, nothing is measured: operations,
bytes and memory are counted, and what a data sheet's GPU would need is marked "expected".
The last line is one JSON object.
"""

import os
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange
from torch import nn

from worldmodel.engine.torch_engine import DTYPES
from worldmodel.evaluation.machine_peak import product_rate
from worldmodel.evaluation.wan_bench_plan import COLUMNS, ROWS, WanPlan, kind_of
from worldmodel.model.configs import SamplerConfig
from worldmodel.system.printable import tell, tell_json
from worldmodel.training.budget import clock
from worldmodel.wan.device_memory import free_bytes
from worldmodel.wan.float8 import FLOAT8, use_float8
from worldmodel.wan.kv_cache import no_conditions
from worldmodel.wan.layer_costs import flops as decoder_flops
from worldmodel.wan.streaming_decoder import Stepwise, as_bytes
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.transformer_cost import chunk_flops, pass_bytes
from worldmodel.wan.wan_rollout import WanRollout, seeded_noise

CHUNKS = 8  # timed, after two that are not
LONGEST_CHUNK = 30.0  # seconds; a machine that would take longer is not kept busy
SPREAD = 0.02  # standard deviation of random weights
SCALE = 2.0**-12  # of float8 ones
MOMENTARY = 0.5e9  # bytes of a pass's own tensors for each latent frame at 480 x 832, about
FRAMES = 4  # pixel frames of a latent frame


@dataclass(frozen=True, slots=True)
class Sheet:
    """A GPU by its data sheet: dense bfloat16 operations and bytes a second."""

    name: str
    flops: float
    bytes: float
    share: float  # of the operations that such a model reaches; an assumption


H200 = Sheet("H200 SXM", flops=989e12, bytes=4.8e12, share=0.4)


def wan_bench(name: str, plan: WanPlan) -> dict[str, Any]:
    """A row for each window, number of steps and decoder; what the JSON line holds."""
    rate = product_rate([(1560, 1536, 1536)], plan.dtype, plan.device) * 1e9
    rows = [row for window in plan.windows for row in _formulas(plan, window)]
    longest = max(row["tflop_a_chunk"] for row in rows) * 1e12 / rate
    refusal = _refusal(plan, longest)
    if not refusal:
        with torch.inference_mode():
            _measure(plan, rows, rate)
    return {
        "model": name,
        "layers": plan.config.layers,
        "device": _device_name(plan.device),
        "dtype": plan.dtype,
        "size": f"{8 * plan.chunk.columns} x {8 * plan.chunk.rows}",
        "matrix_tflops": round(rate / 1e12, 2),
        "chunk_ms": round(1000 * FRAMES * plan.chunk.chunk_frames / plan.frames_per_second, 1),
        "not_measured": refusal,
        "expected_on": f"{H200.name}, {H200.share:.0%} of its data sheet's operations",
        "rows": rows,
    }


def _formulas(plan: WanPlan, frames: int) -> list[dict[str, Any]]:
    """What is known without running anything, with the window full."""
    window = plan.window(frames)
    number = DTYPES[plan.dtype].itemsize
    reading = pass_bytes(plan.config, window, window.slots, number, float8=plan.float8)
    rows = []
    for steps in plan.steps:
        passes = chunk_flops(plan.config, window, window.slots, steps)
        for decoder in plan.decoders:
            layers, kept = plan.autoencoder(decoder).decoder_layers, plan.memory(frames, decoder)
            decoding = (
                decoder_flops(layers, plan.chunk.rows, plan.chunk.columns) * plan.chunk.chunk_frames
            )
            moved = (steps + 1) * reading
            seconds = max((passes + decoding) / (H200.share * H200.flops), moved / H200.bytes)
            first = passes * steps / (steps + 1) + decoding / plan.chunk.chunk_frames
            rows.append(
                {
                    "window": frames,
                    "steps": steps,
                    "decoder": decoder,
                    "tflop_a_chunk": round((passes + decoding) / 1e12, 2),
                    "gb_read_a_chunk": round(moved / 1e9, 2),
                    "memory_gb": round(kept.kept / 1e9, 2),
                    "memory": asdict(kept),
                    "expected_fps": round(FRAMES * plan.chunk.chunk_frames / seconds, 1),
                    "expected_ms": round(1000 * first / (H200.share * H200.flops), 1),
                }
            )
    return rows


def _refusal(plan: WanPlan, seconds: float) -> str:
    """Why nothing is measured here; empty where it can be."""
    most = [plan.memory(max(plan.windows), decoder) for decoder in plan.decoders]
    size = plan.chunk.chunk_frames * plan.chunk.rows * plan.chunk.columns / (ROWS * COLUMNS)
    need = max(found.kept + found.decoding for found in most) + MOMENTARY * size
    have = free_bytes(plan.device)
    if need > have:
        return (
            f"needs {need / 1e9:.1f} GB, {have / 1e9:.1f} GB are free; "
            "fewer --layers or smaller --windows need less"
        )
    if seconds > LONGEST_CHUNK:
        return (
            f"a chunk would take about {seconds:.0f} s here; measure on a GPU, "
            "or a part of the model with --layers 1 --windows 6 --decoder taehv"
        )
    return ""


def _measure(plan: WanPlan, rows: list[dict[str, Any]], rate: float) -> None:
    """Fill the rows with what is seen here."""
    model = random_model(WanTransformer, plan.config, plan)
    words = torch.randn(1, plan.config.read_tokens, plan.config.read_width, device=plan.device)
    text = model.read_text(words)
    for name in plan.decoders:
        autoencoder = plan.autoencoder(name)
        decoder = random_model(kind_of(autoencoder), autoencoder, plan)
        for row in (row for row in rows if row["decoder"] == name):
            sampler = SamplerConfig(sigmas=plan.levels[row["steps"]], renoise=True)
            window = plan.window(row["window"])
            noise = seeded_noise([torch.Generator().manual_seed(0)])
            rollout = WanRollout(model, window, sampler, sampler, noise)
            rollout.say(text)
            row |= _play(rollout, decoder, plan)
            seconds = FRAMES * plan.chunk.chunk_frames / row["fps"]
            row["efficiency"] = round(row["tflop_a_chunk"] * 1e12 / rate / seconds, 3)
            del rollout


def _play(rollout: WanRollout, decoder: Stepwise, plan: WanPlan) -> dict[str, float]:
    """Chunks with the window full: frames a second, milliseconds, memory."""
    stream, window = decoder.stream(), rollout.window
    conditions = no_conditions(plan.config, window, plan.chunk.chunk_frames)
    rollout.cache.conditions = conditions = conditions.to(plan.device) if conditions else None
    past = window.kept_frames(window.window_frames)
    rollout.prime(torch.randn(1, past, *rollout.latent_shape[2:]))
    if plan.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(plan.device)
    times = []
    for _ in range(2 + CHUNKS):
        began = time.perf_counter()
        latents = rollout.denoise(conditions=conditions)
        denoised = clock(plan.device)
        parts = rearrange(latents, "b f c h w -> b c f h w").split(1, dim=2)
        shown = as_bytes(stream.decode(parts[0])).cpu()
        first = time.perf_counter()
        for part in parts[1:]:
            shown = as_bytes(stream.decode(part)).cpu()
        assert shown.numel()
        decoded = time.perf_counter()
        rollout.remember()
        ended = clock(plan.device)
        times.append((denoised - began, decoded - denoised, ended - decoded, first - began))
    columns = list(zip(*times[2:], strict=True))
    whole = statistics.mean(sum(row[:3]) for row in times[2:])
    denoise, decode, clean, first_frame = (1000 * statistics.median(c) for c in columns)
    measured = {
        "fps": FRAMES * plan.chunk.chunk_frames / whole,
        "action_to_frame_ms": round(first_frame, 1),
        "denoise_ms": round(denoise, 1),
        "decode_ms": round(decode, 1),
        "clean_ms": round(clean, 1),
    }
    if plan.device.type == "cuda":
        measured["peak_gb"] = round(torch.cuda.max_memory_allocated(plan.device) / 1e9, 2)
    return measured


def random_model(kind: Any, config: Any, plan: WanPlan) -> Any:
    """A model of full size made where it will run, with small random weights."""
    with torch.device("meta"):
        model: nn.Module = kind(config)
    model.to(DTYPES[plan.dtype])
    if plan.float8 and isinstance(model, WanTransformer):
        use_float8(model)
    model.to_empty(device=plan.device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = False
        is_scale = name.endswith(".scale")
        if parameter.dtype is FLOAT8:
            parameter.copy_(SPREAD / SCALE * torch.randn(parameter.shape, device=plan.device))
        elif is_scale or "norm" in name or "gamma" in name:
            parameter.fill_(SCALE if is_scale else 1.0)
        else:
            parameter.normal_(0.0, SPREAD)
    return model.eval()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {os.cpu_count()} cores"


def print_wan_bench(result: dict[str, Any]) -> None:
    """A table for a person, then one line of JSON."""
    tell(
        f"{result['model']}, {result['layers']} layers, random weights, {result['size']}, "
        f"{result['dtype']}, on {result['device']} ({result['matrix_tflops']} TFLOP/s in its "
        "layers' products)"
    )
    if result["not_measured"]:
        tell(f"not measured: {result['not_measured']}")
    tell(f"expected: on {result['expected_on']}")
    tell(
        f"a chunk is shown for {result['chunk_ms']:g} ms; a key waits until it ends, and then for "
        "the time from action to frame"
    )
    tell(
        "window steps decoder  TFLOP/chunk  GB read  keeps GB | expected fps, action to frame | "
        "measured fps, action to frame, denoise + decode + clean, efficiency"
    )
    for row in result["rows"]:
        tell(_line(row))
    tell_json(result)


def _line(row: dict[str, Any]) -> str:
    known = (
        f"{row['window']:6} {row['steps']:5} {row['decoder']:8} {row['tflop_a_chunk']:11.2f} "
        f"{row['gb_read_a_chunk']:8.2f} {row['memory_gb']:9.2f} | "
        f"{row['expected_fps']:6.1f} fps {row['expected_ms']:7.1f} ms (expected) |"
    )
    if "fps" not in row:
        return known
    return (
        f"{known} {row['fps']:7.2f} fps {row['action_to_frame_ms']:8.1f} ms, {row['denoise_ms']} + "
        f"{row['decode_ms']} + {row['clean_ms']} ms, {100 * row['efficiency']:.0f} %"
    )
