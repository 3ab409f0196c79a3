"""A causal diffusion transformer over frames of latents.

A frame is a few tokens: its action, then one per patch of latents, which shows the noisy latents
and the last frame's. What comes out counts from the last frame too (`schedule.velocity_around`), so
the network has to explain only what has changed. Noise level and action also modulate every layer
(adaLN, arXiv 2212.09748), frame by frame; all layers' modulations come from one product. There is
no branch for training, priming or play: `Context` makes the difference.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.model.action_encoder import ActionEncoder
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import Context
from worldmodel.model.rotary import apply_rope
from worldmodel.schedule import velocity_around

MODULATIONS = 6  # shift, scale, gate of attention; shift, scale, gate of the feed-forward layer
SIGMA_FEATURES = 128


def normalise(x: Tensor) -> Tensor:
    """Layer normalisation without learned parts, over the last axis: ... d -> ... d."""
    return F.layer_norm(x, x.shape[-1:])


class SigmaEncoder(nn.Module):
    """Noise levels as Fourier features and two layers: b f -> b f d."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * SIGMA_FEATURES, width)
        self.leave = nn.Linear(width, width)

    def forward(self, sigmas: Tensor) -> Tensor:
        """σ b f in [0, 1] -> b f d; the features are fp32 whatever the weights are."""
        octaves = torch.arange(SIGMA_FEATURES, device=sigmas.device) / SIGMA_FEATURES
        frequencies = torch.exp(octaves * math.log(1000.0))
        angles = sigmas.float()[..., None] * frequencies
        features = torch.cat((angles.cos(), angles.sin()), dim=-1)
        return self.leave(F.silu(self.enter(features.to(self.enter.weight.dtype))))


class Attention(nn.Module):
    """Queries come from the input; keys and values from wherever the context keeps them.

    Where `time_attention_every` is above 1, only the last of so many layers sees past frames, and
    their keys alone are kept (Dreamer 4, arXiv 2509.24527, §3.1); the others see each frame alone.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        before, place = divmod(layer, config.time_attention_every)
        self.sees_time = place == config.time_attention_every - 1
        self.time_layer = before  # which of the layers that see other frames this is
        self.heads, self.frame_tokens = config.heads, config.tokens_per_frame
        self.q = nn.Linear(config.width, config.width, bias=False)
        self.k = nn.Linear(config.width, config.width, bias=False)
        self.v = nn.Linear(config.width, config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, cos_sin: tuple[Tensor, Tensor], context: Context) -> Tensor:
        """Attend: b t d -> b t d; `cos_sin` are the rotary cosines and sines t e/2."""
        q, k, v = (
            rearrange(project(x), "b t (n e) -> b n t e", n=self.heads)
            for project in (self.q, self.k, self.v)
        )
        q, k = (apply_rope(normalise(x), *cos_sin) for x in (q, k))
        if self.sees_time:
            y = context.attend(self.time_layer, q, k, v)
        else:
            y = attend_in_frames(q, k, v, self.frame_tokens)
        return self.out(rearrange(y, "b n t e -> b t (n e)"))


def attend_in_frames(q: Tensor, k: Tensor, v: Tensor, tokens: int) -> Tensor:
    """Attention of every frame of so many tokens to itself alone: b n t e each -> b n t e."""
    frames = q.shape[2] // tokens
    q, k, v = (rearrange(x, "b n (f p) e -> (b f) n p e", p=tokens) for x in (q, k, v))
    scores = q @ rearrange(k, "... p e -> ... e p") * q.shape[-1] ** -0.5
    return rearrange(scores.softmax(dim=-1) @ v, "(b f) n p e -> b n (f p) e", f=frames)


class Block(nn.Module):
    """Attention and a feed-forward layer, modulated frame by frame."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer)
        hidden = config.feed_forward_ratio * config.width
        self.expand = nn.Linear(config.width, hidden, bias=False)
        self.contract = nn.Linear(hidden, config.width, bias=False)

    def forward(
        self, x: Tensor, modulation: Tensor, cos_sin: tuple[Tensor, Tensor], context: Context
    ) -> Tensor:
        """x b f p d, modulation b f 6 d -> b f p d."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation[:, :, :, None].unbind(2)
        frames = x.shape[1]
        y = torch.addcmul(shift_a, normalise(x), 1 + scale_a)
        y = self.attention(rearrange(y, "b f p d -> b (f p) d"), cos_sin, context)
        x = torch.addcmul(x, gate_a, rearrange(y, "b (f p) d -> b f p d", f=frames))
        y = torch.addcmul(shift_f, normalise(x), 1 + scale_f)
        y = self.contract(F.relu(self.expand(y)).square())  # ReLU², arXiv 2109.08668
        return torch.addcmul(x, gate_f, y)


class WorldTransformer(nn.Module):
    """Predicts the flow velocity of each frame from its noise level, its action and the past."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.embed_latent = nn.Linear(config.token_channels, d)
        self.embed_previous = nn.Linear(config.token_channels, d, bias=False)
        self.embed_position = nn.Parameter(0.02 * torch.randn(config.tokens_per_frame, d))
        if config.rays:
            read = config.rays // config.token_grid[1] * config.ray_features
            self.embed_rays = nn.Linear(read, d, bias=False)
        self.embed_sigma = SigmaEncoder(d)
        self.embed_action = ActionEncoder(config.buttons, config.action_tokens, d)
        if config.state_numbers:
            self.embed_state = nn.Sequential(
                nn.Linear(config.state_features, d), nn.SiLU(), nn.Linear(d, d)
            )
        self.modulate = nn.Linear(d, config.layers * MODULATIONS * d)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.modulate_out = nn.Linear(d, 2 * d)
        self.unembed = nn.Linear(d, config.token_channels)
        for layer in (self.modulate, self.modulate_out, self.unembed):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.embed_previous.weight)

    def alike(self) -> "WorldTransformer":
        """One of the same sizes with weights of its own."""
        return WorldTransformer(self.config)

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return self.unembed.weight.dtype

    def forward(
        self, latents: Tensor, sigmas: Tensor, conditions: Tensor, context: Context
    ) -> Tensor:
        """Latents b f c h w, sigmas b f, conditions b f z -> velocity b f c h w, fp32.

        A condition is, in a world with a floor plan, what the rays of the view read (each column of
        tokens gets its own), then the numbers of the state (`model.state_numbers`), then the
        action vector k+2.
        """
        (height, width), m = self.config.token_grid, self.config.action_tokens
        seen, known = self.config.rays * self.config.ray_features, self.config.seen_features
        act = self.embed_action(conditions[..., known:].to(self.dtype))
        if self.config.state_numbers:
            act = act + self.embed_state(conditions[..., seen:known].to(self.dtype))[..., None, :]
        previous = context.previous(latents)
        x = self.embed_latent(self._to_tokens(latents))
        x = x + self.embed_previous(self._to_tokens(previous))
        if self.config.rays:
            rays = conditions[..., :seen].to(self.dtype)
            rays = self.embed_rays(rearrange(rays, "b f (w r) -> b f w r", w=width))
            x = x + rays.repeat(1, 1, height, 1)
        x = torch.cat((act.to(x.dtype), x), dim=2) + self.embed_position.to(x.dtype)

        condition = F.silu(self.embed_sigma(sigmas) + act.mean(dim=2))
        modulations = rearrange(
            self.modulate(condition), "b f (l six d) -> l b f six d", six=MODULATIONS, d=x.shape[-1]
        )
        cos, sin = context.rope_cos_sin
        cos_sin = cos.to(x.dtype), sin.to(x.dtype)
        for block, modulation in zip(self.blocks, modulations, strict=True):
            x = block(x, modulation, cos_sin, context)

        shift, scale = self.modulate_out(condition)[:, :, None].chunk(2, dim=-1)
        y = self.unembed(torch.addcmul(shift, normalise(x[:, :, m:]), 1 + scale))
        y = rearrange(
            y,
            "b f (h w) (c i j) -> b f c (h i) (w j)",
            h=height,
            i=self.config.patch,
            j=self.config.patch,
        )
        return velocity_around(previous, latents, sigmas, self.config.frame_change, y.float())

    def _to_tokens(self, latents: Tensor) -> Tensor:
        """Latents b f c h w -> what each token shows of them, in the dtype of the weights."""
        i = self.config.patch
        pattern = "b f c (h i) (w j) -> b f (h w) (c i j)"
        return rearrange(latents.to(self.dtype), pattern, i=i, j=i)
