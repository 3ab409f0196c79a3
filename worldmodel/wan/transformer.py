"""The Wan 2.1 video transformer; modules are named as in the released files.

It reads words (text-to-video), or a picture: its image encoder's features in place of the words,
its latents and a mask beside the noise (image-to-video, as in Matrix-Game 2). The same weights
serve the bidirectional model and its causal students: what a frame sees is the
`WanContext`'s matter. Noise level is per latent frame and modulates every layer (adaLN, arXiv
2212.09748). Where the weights have cameras, each self-attention has a second, unturned branch that
sees through them (`camera`), added through a projection that training began at zero.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.wan.action_module import ActionModule
from worldmodel.wan.camera import see_through
from worldmodel.wan.kv_cache import Text, WanContext, Words, heads
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.rope import apply_rope

EPSILON = 1e-6
MODULATIONS = 6  # shift, scale, gate of attention; shift, scale, gate of the feed-forward layer
TIMESTEPS = 1000.0  # noise levels were counted in thousandths
Read = tuple[Tensor, Tensor]  # keys and values b n u e of a prompt


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over all heads' channels together, in fp32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """... d -> ... d."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + EPSILON)
        return wide.to(x.dtype) * self.weight


class WanAttention(nn.Module):
    """Queries, keys, values and what comes out of them; both attentions of a block."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.heads, d = config.heads, config.width
        self.q, self.k, self.v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.o = nn.Linear(d, d)
        self.norm_q, self.norm_k = RMSNorm(d), RMSNorm(d)

    def merge(self, x: Tensor) -> Tensor:
        """Heads b n t e side by side: b t d."""
        return rearrange(x, "b n t e -> b t (n e)")


class SelfAttention(WanAttention):
    """Attention among the tokens of all frames that a context lets them see."""

    def __init__(self, config: WanConfig, layer: int) -> None:
        super().__init__(config)
        self.layer, self.camera_bank = layer, config.layers + layer
        self.prope_o = nn.Linear(config.width, config.width) if config.cameras else None

    def forward(self, x: Tensor, cameras: tuple[Tensor, Tensor], context: WanContext) -> Tensor:
        """b t d -> b t d; cameras are P and P⁻¹, b f 4 4."""
        q = heads(self.norm_q(self.q(x)), self.heads)
        k = heads(self.norm_k(self.k(x)), self.heads)
        v = heads(self.v(x), self.heads)
        y = context.attend(
            self.layer,
            apply_rope(q, *context.rope_cos_sin),
            apply_rope(k, *context.rope_cos_sin),
            v,
        )
        out: Tensor = self.o(self.merge(y))
        if self.prope_o is not None:
            p, inverse = cameras
            q, k, v = see_through(q, p.mT), see_through(k, inverse), see_through(v, inverse)
            seen = see_through(context.attend(self.camera_bank, q, k, v), p)
            out = out + self.prope_o(self.merge(seen))
        return out


class CrossAttention(WanAttention):
    """Frames attend to the prompt, whose keys and values play computes once (`read`)."""

    def forward(self, x: Tensor, text: Read | Tensor) -> Tensor:
        """b t d, keys and values b n u e -> b t d; padding of the prompt is not masked.

        In training the prompt b u d comes unread: its keys and values are learned too.
        """
        q = heads(self.norm_q(self.q(x)), self.heads)
        k, v = self.read(text) if isinstance(text, Tensor) else text
        return self.o(self.merge(F.scaled_dot_product_attention(q, k, v)))

    def read(self, text: Tensor) -> Read:
        """Keys and values b n u e of a projected prompt b u d."""
        return heads(self.norm_k(self.k(text)), self.heads), heads(self.v(text), self.heads)


class WanBlock(nn.Module):
    """Self-attention, the prompt, a feed-forward layer; modulated frame by frame."""

    def __init__(self, config: WanConfig, layer: int) -> None:
        super().__init__()
        d = config.width
        self.self_attn = SelfAttention(config, layer)
        self.norm3 = nn.LayerNorm(d, EPSILON)
        self.cross_attn = CrossAttention(config)
        actions = config.actions
        acts = actions is not None and layer in actions.layers
        self.action_model = (
            ActionModule(config, actions, actions.layers.index(layer)) if actions and acts else None
        )
        self.ffn = nn.Sequential(
            nn.Linear(d, config.feed_forward),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.feed_forward, d),
        )
        self.modulation = nn.Parameter(torch.randn(1, MODULATIONS, d) / d**0.5)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        text: Read | Tensor,
        cameras: tuple[Tensor, Tensor],
        context: WanContext,
    ) -> Tensor:
        """x b f p d, modulation b f 6 d -> b f p d."""
        frames = x.shape[1]
        parts = (self.modulation[:, None] + modulation)[:, :, :, None].unbind(2)
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = parts
        y = torch.addcmul(shift_a, _normalise(x), 1 + scale_a)
        y = self.self_attn(rearrange(y, "b f p d -> b (f p) d"), cameras, context)
        x = torch.addcmul(x, gate_a, rearrange(y, "b (f p) d -> b f p d", f=frames))
        y = self.cross_attn(rearrange(self.norm3(x), "b f p d -> b (f p) d"), text)
        x = x + rearrange(y, "b (f p) d -> b f p d", f=frames)
        if self.action_model is not None:
            x = self.action_model(x, context)
        y = torch.addcmul(shift_f, _normalise(x), 1 + scale_f)
        return torch.addcmul(x, gate_f, self.ffn(y))


class Head(nn.Module):
    """From tokens to patches of velocity."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.head = nn.Linear(config.width, config.token_width)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """x b f p d, noise level b f d -> b f p (p q c)."""
        shift, scale = (self.modulation[:, None] + level[:, :, None])[:, :, :, None].unbind(2)
        return self.head(torch.addcmul(shift, _normalise(x), 1 + scale))


class PictureEmbedding(nn.Module):
    """From the image encoder's features to tokens that frames attend to."""

    def __init__(self, config: WanConfig, width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, config.width),
            nn.LayerNorm(config.width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """b u c -> b u d."""
        tokens: Tensor = self.proj(features)
        return tokens


class WanTransformer(nn.Module):
    """Predicts the flow velocity of latent frames from their noise levels, past and prompt."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.config = config
        d, patch = config.width, (1, config.patch, config.patch)
        channels = config.latent_channels + config.condition_channels
        self.patch_embedding = nn.Conv3d(channels, d, patch, stride=patch)
        if config.picture is not None:
            self.img_emb = PictureEmbedding(config, config.picture.width)
        else:
            self.text_embedding = nn.Sequential(
                nn.Linear(config.text_width, d), nn.GELU(approximate="tanh"), nn.Linear(d, d)
            )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.time_features, d), nn.SiLU(), nn.Linear(d, d)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(d, MODULATIONS * d))
        self.blocks = nn.ModuleList(WanBlock(config, layer) for layer in range(config.layers))
        self.head = Head(config)

    def alike(self) -> "WanTransformer":
        """One of the same kind and sizes with weights of its own."""
        return WanTransformer(self.config)

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are computed in."""
        return self.patch_embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.patch_embedding.weight.device

    def read_text(self, embeddings: Tensor) -> Text:
        """Keys and values of a prompt, a pair b n u e per layer, from its embeddings b u c.

        Slots past the prompt must be zero; they count, as they did in training. An image-to-video
        model reads the features of a picture instead.
        """
        text = self._embed(embeddings.to(self.device, self.dtype))
        return [block.cross_attn.read(text) for block in self.blocks]  # type: ignore[operator, union-attr]  # ModuleList forgets what it holds

    def forward(
        self, latents: Tensor, sigmas: Tensor, cameras: Tensor, context: WanContext
    ) -> Tensor:
        """Latents b f c h w, sigmas b f, projections b f 4 4 -> velocity b f c h w, in fp32."""
        q = self.config.patch
        if self.config.picture is not None:
            assert context.conditions is not None, "an image-to-video model is given its picture"
            latents = torch.cat((latents, context.conditions.picture.to(latents.dtype)), dim=2)
        rows, columns = latents.shape[-2] // q, latents.shape[-1] // q
        x = rearrange(latents, "b f c (h p) (w q) -> b f (h w) (c p q)", p=q, q=q)
        weight = rearrange(self.patch_embedding.weight, "d c r p q -> d (r c p q)")
        x = F.linear(x.to(self.dtype), weight, self.patch_embedding.bias)
        level = self.time_embedding(self._time_features(sigmas))
        modulation = rearrange(self.time_projection(level), "b f (m d) -> b f m d", m=MODULATIONS)
        lenses = cameras, torch.linalg.inv_ex(cameras).inverse  # _ex: a GPU need not be waited for
        for block, text in zip(self.blocks, self._texts(context.text), strict=True):
            x = block(x, modulation, text, lenses, context)
        x = self.head(x, level).float()
        sizes = {"h": rows, "w": columns, "p": q, "q": q}
        return rearrange(x, "b f (h w) (p q c) -> b f c (h p) (w q)", **sizes)

    def _texts(self, words: Words) -> Sequence[Read | Tensor]:
        """What each layer's attention to the prompt gets."""
        if not isinstance(words, Tensor):
            return words
        return [self._embed(words.to(self.dtype))] * self.config.layers

    def _embed(self, embeddings: Tensor) -> Tensor:
        """Words or a picture b u c, as wide as the model: b u d."""
        embed = self.text_embedding if self.config.picture is None else self.img_emb
        found: Tensor = embed(embeddings)
        return found

    def _time_features(self, sigmas: Tensor) -> Tensor:
        """Noise levels b f as cosines and sines, b f c; fp64 where the device has it."""
        half = self.config.time_features // 2
        exact = torch.float32 if sigmas.device.type == "mps" else torch.float64
        exponents = torch.arange(half, dtype=exact, device=sigmas.device) / half
        angles = TIMESTEPS * sigmas.to(exact)[..., None] * 10_000.0**-exponents
        return torch.cat((angles.cos(), angles.sin()), dim=-1).to(self.dtype)


def _normalise(x: Tensor) -> Tensor:
    """Layer normalisation without learned parts, over the last axis."""
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON)
