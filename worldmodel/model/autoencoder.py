"""Frames to latents and back, one frame at a time, by convolutions.

The encoder halves a frame several times and ends in latents of unit variance per channel (a batch
normalisation without scale, whose running statistics are part of the weights). In training the
decoder sees them with noise added, so that the small errors of a denoiser stay small in pixels.
"""

from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.model.configs import AutoencoderConfig
from worldmodel.model.floor_plan import FloorPlan, Sight
from worldmodel.model.palette import Palette
from worldmodel.model.scene import Scene

BATCH = 256  # frames encoded or decoded at once
SEEN_BATCH = 8  # the same with a floor plan or a scene, which takes more memory
MERGED = 16  # channels of the latents' part where it meets what floor plan or scene show

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity: b d h w -> b d h w."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.expand = nn.Conv2d(width, width, 3, padding=1)
        self.contract = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.contract.weight)

    def forward(self, x: Tensor) -> Tensor:
        """b d h w -> b d h w."""
        return x + self.contract(F.silu(self.expand(F.silu(self.norm(x)))))


class Encoder(nn.Module):
    """Frames b 3 h w in [-1, 1] -> latents b c h w, not yet normalised."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        incoming = 3
        for width, step in zip(config.widths, config.steps, strict=True):
            layers += [
                nn.PixelUnshuffle(step),
                nn.Conv2d(step * step * incoming, width, 3, padding=1),
                *(ResidualBlock(width) for _ in range(config.blocks)),
            ]
            incoming = width
        layers += [nn.SiLU(), nn.Conv2d(incoming, config.latent_channels, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames b 3 h w -> b c h w."""
        return self.layers(frames)


class Decoder(nn.Module):
    """Latents b c h w -> frames b 3 h w in about [-1, 1].

    With a plan of the level or a scene, what it shows of the view is the picture to begin with: the
    decoder says, from the latents and from what is known of every pixel, how the frame differs.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, plan, view = config.widths[::-1], config.plan, config.view
        last = MERGED if view else 3
        layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)]
        for width, outgoing, step in zip(
            widths, (*widths[1:], last), config.steps[::-1], strict=True
        ):
            layers += [
                *(ResidualBlock(width) for _ in range(config.blocks)),
                nn.Conv2d(width, step * step * outgoing, 3, padding=1),
                nn.PixelShuffle(step),
            ]
        self.layers = nn.Sequential(*layers)
        if view:
            reach = 1 if plan and plan.depthwise else 3
            self.merge = nn.Conv2d(last + view.hidden, view.hidden, reach, padding=reach // 2)
            self.change = nn.Conv2d(view.hidden, 3, 3, padding=1)
            for weight in self.change.parameters():
                nn.init.zeros_(weight)

    def forward(self, latents: Tensor, seen: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Latents b c h w and what a `drawing` gives of the view -> frames b 3 h w."""
        x = self.layers(latents)
        if seen is None:
            return x
        picture, hidden = seen
        merged = F.silu(self.merge(torch.cat((x, hidden.to(x.dtype)), dim=1)))
        return picture + self.change(merged)


class Autoencoder(nn.Module):
    """A frame encoder and decoder with normalised latents between them."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.plan = FloorPlan(config.plan) if config.plan else None
        self.scene = Scene(config.scene) if config.scene else None
        self.normalise = nn.BatchNorm2d(config.latent_channels, affine=False, momentum=0.02)
        self.palette = Palette(config.palette) if config.palette else None

    @property
    def view(self) -> FloorPlan | Scene | None:
        """What shows a picture of what is seen from a place."""
        return self.plan or self.scene

    @property
    def dtype(self) -> torch.dtype:
        """What latents are decoded in."""
        return next(self.decoder.parameters()).dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """One frame of latents: c h w."""
        return self.config.latent_shape

    def cast(self, dtype: torch.dtype) -> "Autoencoder":
        """The module itself in the dtype of play; what looks at a view stays in fp32."""
        for part in (self.encoder, self.decoder, self.normalise):
            part.to(dtype=dtype)
        if self.view is not None:
            self.view.drawing.to(dtype=dtype)
        return self

    def encode(self, frames: Tensor) -> Tensor:
        """Frames b 3 h w in [-1, 1] -> latents b c h w of unit variance."""
        return self.normalise(self.encoder(frames))

    def decode(self, latents: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Latents b c h w -> frames b 3 h w in about [-1, 1].

        With a floor plan or a scene: `pixels` a b h w, what it shows of the frame's view (`look`).
        """
        if self.view is None:
            return self.decoder(latents)
        assert pixels is not None, "an autoencoder with a view decodes what is seen from somewhere"
        return self.decoder(latents, self.view.drawing(pixels.to(latents.dtype)))

    def show(self, decoded: Tensor) -> Tensor:
        """What `decode` gave, b 3 h w -> frames uint8 b h w 3, in the colours of the palette."""
        frames = to_frames(decoded)
        return frames if self.palette is None else self.palette(frames)

    def encode_view(self, pixels: Tensor) -> Tensor:
        """Latents b c h w of the picture that `look` gave as pixels a b h w.

        They say that the frame is as floor plan or scene show it: what play is pulled towards.
        """
        assert self.view is not None, "only what sees a view has a picture of it"
        picture, _ = self.view.drawing(pixels.to(self.dtype))
        return self.encode(picture.clamp(-1, 1))

    def look(self, views: Tensor) -> Sight:
        """What floor plan or scene show of views b n, in fp32: whole frames."""
        if self.scene is not None:
            return self.scene.look(views)
        assert self.plan is not None, "without a floor plan nobody knows what is seen from where"
        columns = torch.arange(self.plan.config.frame_width, device=views.device)
        return self.plan.look(views, columns.expand(len(views), -1))

    def conditions(self, actions: Tensor, views: Tensor | None) -> Tensor:
        """What a transformer is given of frames: actions b f (k+2), views b f 4 -> b f z.

        The actions alone without a floor plan; else, before them, what the views' rays read.
        """
        if self.plan is None:
            return actions
        assert views is not None, (
            "a world with a floor plan needs to know where frames are seen from"
        )
        rays = self.plan.rays(views.flatten(0, 1).float()).float()
        rays = rearrange(rays, "(b f) w r -> b f (w r)", b=len(actions))
        return torch.cat((rays, actions), dim=-1)


def channels_last(module: AnyModule) -> AnyModule:
    """The module itself, its weights in the layout that convolutions on CPUs and GPUs prefer."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs


@torch.inference_mode()
def encode_frames(autoencoder: Autoencoder, frames: Tensor) -> Tensor:
    """Frames uint8 b f h w 3 -> latents b f c h w, fp32, in batches of a bounded size."""
    weight = next(autoencoder.encoder.parameters())
    parts = [
        autoencoder.encode(
            to_tensor(chunk.to(weight.device)).to(weight.dtype, memory_format=torch.channels_last)
        )
        for chunk in frames.flatten(0, 1).split(BATCH)
    ]
    return rearrange(torch.cat(parts).float(), "(b f) c h w -> b f c h w", b=len(frames))


@torch.inference_mode()
def encode_views(autoencoder: Autoencoder, views: Tensor) -> Tensor:
    """Views b f n -> latents b f c h w, fp32, of the pictures that floor plan or scene show."""
    parts = [
        autoencoder.encode_view(autoencoder.look(seen).pixels).float()
        for seen in views.flatten(0, 1).split(SEEN_BATCH)
    ]
    return torch.cat(parts).unflatten(0, views.shape[:2])


@torch.inference_mode()
def decode_latents(
    autoencoder: Autoencoder, latents: Tensor, views: Tensor | None = None
) -> Tensor:
    """Latents b f c h w -> frames uint8 b f h w 3, in batches of a bounded size.

    With a floor plan or a scene: `views` b f n, where the frames are seen from.
    """
    dtype = autoencoder.dtype
    if autoencoder.view is None:
        parts = [
            autoencoder.show(autoencoder.decode(chunk.to(dtype)))
            for chunk in latents.flatten(0, 1).split(BATCH)
        ]
    else:
        assert views is not None, "nobody said where the frames are seen from"
        pairs = zip(
            latents.flatten(0, 1).split(SEEN_BATCH),
            views.flatten(0, 1).split(SEEN_BATCH),
            strict=True,
        )
        parts = [
            autoencoder.show(autoencoder.decode(chunk.to(dtype), autoencoder.look(seen).pixels))
            for chunk, seen in pairs
        ]
    return rearrange(torch.cat(parts), "(b f) h w c -> b f h w c", b=len(latents))


def to_tensor(frames: Tensor) -> Tensor:
    """Frames uint8 b h w 3 -> float b 3 h w in [-1, 1]."""
    return rearrange(frames, "b h w c -> b c h w").float() / 127.5 - 1


def to_frames(pixels: Tensor) -> Tensor:
    """Pixels b 3 h w in about [-1, 1] -> frames uint8 b h w 3."""
    rounded = torch.clamp((pixels.float() + 1) * 127.5 + 0.5, 0, 255).to(torch.uint8)
    return rearrange(rounded, "b c h w -> b h w c")
