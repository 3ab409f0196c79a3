"""The passes of one frame as functions of tensors alone, for compilers that want fixed shapes.

`Rollout` grows into its cache: how much of it is seen depends on the frame. Here the whole cache is
always read and a bias hides what is not there yet, so every frame runs the same graph on the same
addresses. The current frame's own keys stay out of the cache until its clean pass has made them:
its queries meet the past in one product and themselves in another, as in `TeacherForcing`.

Letters: b batch, c h w latents, k action vector, l layers, n heads, s slots, p tokens a frame,
t = s p tokens of the cache, e head width, r denoising steps.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from worldmodel.config import ModelConfig, SamplerConfig
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.context import KVCache
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import denoise

HIDDEN = -1e9  # bias of what is not seen; finite, so that no compiler meets inf - inf


@dataclass(slots=True)
class ReadOnlyCache:
    """A `Context` over keys and values that someone else keeps; collects the frame's own."""

    k: Tensor  # l b n t e
    v: Tensor  # l b n t e
    bias: Tensor  # t, nought or `HIDDEN`
    turns: tuple[Tensor, Tensor]  # p e/2 each
    last: Tensor  # b 1 c h w
    own_k: list[Tensor] = field(default_factory=list)  # of each layer: b n p e
    own_v: list[Tensor] = field(default_factory=list)

    def previous(self, latents: Tensor) -> Tensor:
        """The frame that was remembered last."""
        del latents
        return self.last

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries of the current frame against the past and itself: b n p e."""
        self.own_k.append(k)
        self.own_v.append(v)
        scale, tokens = q.shape[-1] ** -0.5, self.bias.shape[0]
        past = q @ self.k[layer].transpose(-1, -2) * scale + self.bias
        own = q @ k.transpose(-1, -2) * scale
        weights = torch.cat((past, own), dim=-1).softmax(dim=-1)
        return weights[..., :tokens] @ self.v[layer] + weights[..., tokens:] @ v


class DenoiseGraph(nn.Module):
    """From noise r b 1 c h w to the frame's latent b 1 c h w, all steps of the sampler."""

    def __init__(self, model: WorldTransformer, sampler: SamplerConfig) -> None:
        super().__init__()
        self.model, self.sampler = model, sampler

    def forward(
        self,
        noise: Tensor,
        action: Tensor,
        last: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> Tensor:
        """One draw of noise for each step that adds some."""
        draws = iter(noise.unbind(0))
        context = ReadOnlyCache(k, v, bias, (cos, sin), last)
        return denoise(self.model, lambda: next(draws), self.sampler, action, context)


class CleanGraph(nn.Module):
    """The clean pass: a finished frame's keys and values, l b n p e each."""

    def __init__(self, model: WorldTransformer, sampler: SamplerConfig) -> None:
        super().__init__()
        self.model, self.sigma = model, sampler.context_sigma

    def forward(
        self,
        latent: Tensor,
        action: Tensor,
        last: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Latent b 1 c h w, action b 1 k."""
        context = ReadOnlyCache(k, v, bias, (cos, sin), last)
        sigmas = torch.full(latent.shape[:2], self.sigma)
        self.model(latent, sigmas, action, context)
        return torch.stack(context.own_k), torch.stack(context.own_v)


class DecodeGraph(nn.Module):
    """Latents b 1 c h w to frames uint8 b h w 3."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latent: Tensor) -> Tensor:
        """As `to_frames`, with the rounding inside the graph."""
        pixels = self.autoencoder.decode(latent[:, 0])
        return torch.clamp((pixels + 1) * 127.5 + 0.5, 0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def draws_of_noise(sampler: SamplerConfig) -> int:
    """How many draws one frame uses."""
    return sampler.steps if sampler.renoise else 1


def seen(cache: KVCache, config: ModelConfig, bias: Tensor) -> None:
    """Fill `bias` t with what the frame that comes next sees of the cache."""
    p, slots = config.tokens_per_frame, config.sink_frames + config.context_frames
    bias.fill_(HIDDEN)
    bias[: min(cache.now, slots) * p] = 0
    bias[cache.slot * p : (cache.slot + 1) * p] = HIDDEN  # has left the window, is written next


def example_inputs(
    config: ModelConfig, sampler: SamplerConfig, batch: int = 1
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs of the three graphs in the shapes of play: for tracing, and for the check after."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    tokens = (config.sink_frames + config.context_frames) * config.tokens_per_frame
    cached = (config.layers, batch, config.heads, tokens, config.head_width)
    half = (config.tokens_per_frame, config.head_width // 2)
    angles = random(*half)
    latent = random(batch, 1, *config.latent_shape)
    rest = (
        random(batch, 1, config.buttons + 2),
        random(batch, 1, *config.latent_shape),
        random(*cached),
        random(*cached),
        torch.zeros(tokens),
        angles.cos(),
        angles.sin(),
    )
    noise = random(draws_of_noise(sampler), batch, 1, *config.latent_shape)
    return (noise, *rest), (latent, *rest), (latent,)
