"""A frame as functions of tensors alone, for compilers that want fixed shapes.

`Rollout` passes over every frame at least twice: denoising steps, then a clean pass that only the
next frame needs. Here that clean pass waits for the next frame and shares its first denoising step:
two frames' tokens go through every layer at once, the finished frame clean, the new one noisy. It
is the same function of the same inputs, but the weights are read once instead of twice, and on
most machines a small world's pass costs little more for twice the tokens.

`Rollout` also grows into its cache. Here the whole cache is always read and a mask hides what is
not to be seen, so every frame runs the same graph on the same addresses.

Letter of its own: r denoising steps. The cache has t tokens; u = t + 2 p keys can be met.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.context import Context
from worldmodel.model.state_configs import FloorPlanConfig, SceneConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import denoise

HIDDEN = -1e9  # bias of what is not seen; finite, so that no compiler meets inf - inf


class FrameInputs(NamedTuple):
    """What one frame is made of; the tensors of a program never move."""

    noise: Tensor  # r b 1 c h w, one draw for each step that adds some
    actions: Tensor  # b 2 z: conditions of the finished frame and of the new one
    finished: Tensor  # b 1 c h w, the last frame's latents, as they are to be remembered
    before: Tensor  # b 1 c h w, the latents of the frame before that
    k: Tensor  # l b n t e
    v: Tensor  # l b n t e
    mask: Tensor  # 2 u, zero or `HIDDEN`: what finished and new frame see of
    #               [cache | finished frame | new frame]; b 2 u if each session has its own time
    cos: Tensor  # 2p e/2, or b 1 2p e/2
    sin: Tensor  # as cos


class FrameOutputs(NamedTuple):
    """What a run computes for one frame: its latents, and keys and values to keep."""

    latent: Tensor  # b 1 c h w, the new frame
    k: Tensor  # l b n p e, the finished frame's keys and values, for its slot of the cache
    v: Tensor


@dataclass(slots=True)
class TwoFrames:
    """A `Context` of the first step: finished and new frame at once; collects the former's keys."""

    inputs: FrameInputs
    own_k: list[Tensor] = field(default_factory=list)  # of each layer: b n p e
    own_v: list[Tensor] = field(default_factory=list)

    @property
    def rope_cos_sin(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines t e/2 of both frames' tokens."""
        return self.inputs.cos, self.inputs.sin

    def previous(self, latents: Tensor) -> Tensor:
        """The frame before the finished one, and the finished one: b 2 c h w."""
        return torch.cat((self.inputs.before, latents[:, :1]), dim=1)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Both frames against the cache and themselves: b n 2p e."""
        p = q.shape[2] // 2
        self.own_k.append(k[:, :, :p])
        self.own_v.append(v[:, :, :p])
        return _attend(self.inputs, layer, self.inputs.mask, q, (k,), (v,))


@dataclass(slots=True)
class NewFrame:
    """A `Context` of the steps after the first: the new frame, the finished one being known."""

    first: TwoFrames

    @property
    def rope_cos_sin(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines t e/2 of the new frame's tokens."""
        p = self.first.own_k[0].shape[2]
        return self.first.inputs.cos[..., p:, :], self.first.inputs.sin[..., p:, :]

    def previous(self, latents: Tensor) -> Tensor:
        """The finished frame b 1 c h w, which is the one before the new frame."""
        del latents
        return self.first.inputs.finished

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The new frame against the cache, the finished frame and itself: b n p e."""
        first = self.first
        keys, values = (first.own_k[layer], k), (first.own_v[layer], v)
        return _attend(first.inputs, layer, first.inputs.mask[..., 1:, :], q, keys, values)


def _attend(
    inputs: FrameInputs,
    layer: int,
    mask: Tensor,
    q: Tensor,
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
) -> Tensor:
    """q b n t e to the cache and to frames beside it; `mask` has a row for each frame of q."""
    k = torch.cat((inputs.k[layer].to(q.dtype), *keys), dim=2)
    v = torch.cat((inputs.v[layer].to(q.dtype), *values), dim=2)
    tokens = q.shape[2] // mask.shape[-2]
    rows = repeat(mask, "... f u -> ... (f p) u", p=tokens).to(q.dtype)
    if mask.dim() == 3:  # one for each session, and the same for all heads
        rows = rows[:, None]
    if torch._C._is_tracing():  # OpenVINO fuses the plain form, and better
        scores = q @ rearrange(k, "b n u e -> b n e u") * q.shape[-1] ** -0.5
        return (scores + rows).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=rows)


class FrameGraph(nn.Module):
    """The finished frame's clean pass and all denoising steps of the next one."""

    def __init__(self, model: WorldTransformer, sampler: SamplerConfig) -> None:
        super().__init__()
        self.model, self.sampler = model, sampler

    def forward(self, *inputs: Tensor) -> FrameOutputs:
        """`FrameInputs`, one by one, because tracers know only tensors."""
        given = FrameInputs(*inputs)
        draws = iter(given.noise.unbind(0))
        both = TwoFrames(given)

        def velocity(x: Tensor, sigmas: Tensor, action: Tensor, context: Context) -> Tensor:
            del context
            if both.own_k:
                return self.model(x, sigmas, action, NewFrame(both))
            remembered = torch.full_like(sigmas, self.sampler.context_sigma)
            levels = torch.cat((remembered, sigmas), dim=1)
            pair = torch.cat((given.finished, x), dim=1)
            return self.model(pair, levels, given.actions, both)[:, 1:]

        action = given.actions[:, 1:]
        latent = denoise(velocity, lambda: next(draws), self.sampler, action, both)
        own = torch.stack(both.own_k), torch.stack(both.own_v)
        return FrameOutputs(latent, *(x.to(given.k.dtype) for x in own))


class LookGraph(nn.Module):
    """Views b n to what floor plan or scene show of them."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, views: Tensor) -> tuple[Tensor, ...]:
        """Rays b w r, which a scene has none of, and pixels a b h w."""
        sight = self.autoencoder.look(views)
        return (sight.pixels,) if self.autoencoder.scene is not None else sight


class DecodeGraph(nn.Module):
    """Latents b 1 c h w, and what is seen with a floor plan or scene, to frames uint8 b h w 3."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latent: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Latents b 1 c h w -> frames b h w 3, with the rounding inside the graph."""
        latent = latent[:, 0].to(self.autoencoder.dtype)
        return self.autoencoder.show(self.autoencoder.decode(latent, pixels))


class ViewGraph(nn.Module):
    """What is seen with a floor plan or scene, to the latents of its picture."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels a b h w -> latents b 1 c h w, fp32."""
        return self.autoencoder.encode_view(pixels)[:, None].float()


def beyond_graphs(config: ModelConfig, sampler: SamplerConfig) -> str:
    """What a world asks for that only the reference engine plays so far; empty if nothing."""
    asked = {
        f"chunk_frames = {config.chunk_frames}": config.chunk_frames > 1,
        "first_sigmas": bool(sampler.first_sigmas),
        "cache_from_last_step": sampler.cache_from_last_step,
        f"guidance = {sampler.guidance}": sampler.guidance != 1.0,
    }
    return ", ".join(name for name, wanted in asked.items() if wanted)


def draws_of_noise(sampler: SamplerConfig) -> int:
    """How many draws one frame uses."""
    return sampler.steps if sampler.renoise else 1


def cache_slots(config: ModelConfig) -> int:
    """Frames that a static cache holds: sinks as either of two frames sees them, and the ring."""
    return 2 * config.sink_frames + config.context_frames


def empty_inputs(
    config: ModelConfig,
    sampler: SamplerConfig,
    batch: int,
    cached: torch.dtype,
    device: torch.device | str = "cpu",
) -> FrameInputs:
    """Zeros in the shapes of play, the cache in the dtype `cached`."""
    p, half = config.tokens_per_frame, config.head_width // 2
    tokens = cache_slots(config) * p
    latent = (batch, 1, *config.latent_shape)
    cache = (config.time_layers, batch, config.heads, tokens, config.head_width)

    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    return FrameInputs(
        noise=zeros(draws_of_noise(sampler), *latent),
        actions=zeros(batch, 2, config.condition_width),
        finished=zeros(*latent),
        before=zeros(*latent),
        k=zeros(*cache, dtype=cached),
        v=zeros(*cache, dtype=cached),
        mask=zeros(2, tokens + 2 * p),
        cos=zeros(2 * p, half),
        sin=zeros(2 * p, half),
    )


def example_inputs(inputs: FrameInputs) -> FrameInputs:
    """Random numbers in the same shapes, everything seen: for tracing, and for the check after."""
    generator = torch.Generator().manual_seed(0)
    numbers = {
        name: torch.randn(x.shape, generator=generator).to(x)
        for name, x in inputs._asdict().items()
    }
    angles = numbers["cos"]
    mask = torch.zeros_like(inputs.mask)
    mask[..., 0, -(angles.shape[-2] // 2) :] = HIDDEN
    return FrameInputs(**{**numbers, "cos": angles.cos(), "sin": angles.sin(), "mask": mask})


def example_views(view: FloorPlanConfig | SceneConfig, batch: int) -> Tensor:
    """Views b n, from the middle of a level or of a scene: for tracing, and for the check after."""
    part = torch.linspace(0.45, 0.55, batch)
    if isinstance(view, SceneConfig):
        steps = torch.arange(len(view.objects.names))
        places = torch.stack((view.near + 50.0 * steps, 20.0 * steps - 60.0), dim=1).flatten()
        viewer = torch.stack((part, -part, 30 * (part - 0.5)), dim=1)
        return torch.cat((viewer, places.expand(batch, -1)), dim=1)
    (x0, y0), (x1, y1) = view.low, view.high
    eye = torch.full((batch,), view.floor + 0.3 * (view.ceiling - view.floor))
    place = x0 + part * (x1 - x0), y0 + (1 - part) * (y1 - y0)
    return torch.stack((*place, eye, 17.0 + 300 * part), dim=1)
