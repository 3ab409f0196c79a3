"""What a stage asks of a Wan transformer: a packed pass, a pass over whole clips."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldmodel.wan.kv_cache import FrameConditions, WholeClipContext
from worldmodel.wan.model_config import WindowConfig
from worldmodel.wan.training_context import WanTeacherForcing
from worldmodel.wan.transformer import WanTransformer


@dataclass(frozen=True, slots=True)
class Conditions:
    """What clips are given: words, and what their cameras see through; or a picture and actions."""

    text: Tensor  # b u d, embeddings, zero after the prompt
    nothing: Tensor  # u d, the embedding that stands for no words
    cameras: Tensor  # b f 4 4
    per_frame: FrameConditions | None = None  # of image-to-video models, whose text is the picture

    @property
    def unconditional(self) -> "Conditions":
        """The same cameras without words, for guidance; or the same picture without actions."""
        if self.per_frame is not None:
            return replace(self, per_frame=self.per_frame.still)
        return replace(self, text=self.nothing.expand_as(self.text))


@dataclass(frozen=True, slots=True)
class WanClip:
    """A batch of true clips with their prompts and cameras."""

    clean: Tensor  # b f c h w
    conditions: Conditions

    @property
    def unconditional(self) -> "WanClip":
        """For the velocity without words, for guidance."""
        return replace(self, conditions=self.conditions.unconditional)


def packed_velocity(
    model: WanTransformer, clip: WanClip, noisy: Tensor, sigmas: Tensor, window: WindowConfig
) -> Tensor:
    """Velocity of noisy copies b 1 f c h w at σ b 1 f, each chunk given the clean ones before it.

    The clean half passes at σ = 0, as what is remembered in play does.
    """
    frames = clip.clean.shape[1]
    given = clip.conditions
    context = WanTeacherForcing(
        model.config, window, frames, given.text, noisy.device, conditions=given.per_frame
    )
    levels = torch.cat((torch.zeros_like(sigmas[:, 0]), sigmas[:, 0]), dim=1)
    latents = torch.cat((clip.clean, noisy[:, 0]), dim=1)
    velocity: Tensor = model(latents, levels, clip.conditions.cameras.repeat(1, 2, 1, 1), context)
    return velocity[:, None, frames:]


def whole_velocity(
    model: WanTransformer,
    noisy: Tensor,
    sigmas: Tensor,
    conditions: Conditions,
    window: WindowConfig,
) -> Tensor:
    """Velocity b f c h w of clips whose every frame sees all others."""
    frames = noisy.shape[1]
    context = WholeClipContext(
        model.config, window, frames, conditions.text, causal=False, device=noisy.device,
        conditions=conditions.per_frame,
    )  # fmt: skip
    found: Tensor = model(noisy, sigmas, conditions.cameras, context)
    return found
