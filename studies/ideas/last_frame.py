"""A decoder that sees the last frame's latents beside those of the frame that it decodes.

Two looks at nearly the same picture could say more than one. What the decoder's first layer reads
becomes [latents of this frame | latents of the last one]; it begins with zeros for the latter, so
that the run starts where its base does. In play the last frame's latents are known anyway.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from worldmodel.config import ConfigError
from worldmodel.model.autoencoder import Autoencoder, encode_frames
from worldmodel.model.context import Device
from worldmodel.storage.episodes import find_episodes, load_episode
from worldmodel.system.progress import through
from worldmodel.training.autoencoder import HELD_OUT_STRIDE
from worldmodel.training.decoder import DecoderStage, DecoderTraining


@dataclass(frozen=True, kw_only=True, slots=True)
class LastFrameTraining(DecoderTraining):
    """Everything that the stage `decoder_with_last_frame` reads: as the stage `decoder`."""

    stage: Literal["decoder_with_last_frame"]  # type: ignore[assignment]  # a stage of its own

    def __post_init__(self) -> None:
        if self.own_play:
            raise ConfigError("[own_play]: its frames come one by one, without their last frame")


class LastFrameStage(DecoderStage):
    """The decoder's stage, whose latents b (2 c) h w hold the last frame's."""

    def __init__(self, config: LastFrameTraining, folder: Path, device: Device = "cpu") -> None:
        super().__init__(config, folder, device)
        autoencoder = self.student.autoencoder
        self.last = encode_last_frames(config.data, config.frame_stride, autoencoder)
        self.heldout_last = encode_last_frames(config.heldout, HELD_OUT_STRIDE, autoencoder)
        if len(self.last) != len(self.frames):
            raise ConfigError(f"{config.data}: some frames do not say where they are seen from")
        autoencoder.decoder.layers[0] = widen(autoencoder.decoder.layers[0])
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False)

    @property
    def shown(self) -> Autoencoder:
        """What a verdict on single frames is on: the decoder of a frame that stays as it was."""
        shown = copy.deepcopy(super().shown)
        wide = shown.decoder.layers[0]
        assert isinstance(wide, nn.Conv2d)
        wide.weight = nn.Parameter(wide.weight.unflatten(1, (2, -1)).sum(dim=1))
        return shown

    def _encode(self, index: Tensor, pixels: Tensor) -> Tensor:
        latents = super()._encode(index, pixels)
        return torch.cat((latents, self.last[index].to(latents)), dim=1)

    def _encode_heldout(self) -> Tensor:
        latents = super()._encode_heldout()
        last = self.heldout_last[: latents.shape[1]].to(latents)
        return torch.cat((latents, last[None]), dim=2)


def widen(first: nn.Module) -> nn.Conv2d:
    """The convolution for twice the channels; what the new ones hold changes nothing yet."""
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    wide = nn.Conv2d(2 * first.in_channels, first.out_channels, 3, padding=1)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : first.in_channels] = first.weight
    wide.bias = first.bias
    return wide.to(first.weight.device)


def encode_last_frames(folder: Path, stride: int, autoencoder: Autoencoder) -> Tensor:
    """Latents of the frame before each that `load_frames` gives: b c h w.

    An episode's first frame comes before itself.
    """
    found = []
    for path in through(find_episodes(folder), desc="last frames", unit="episode"):
        frames = load_episode(path).frames
        before = torch.arange(0, len(frames), stride).sub(1).clamp(min=0)
        found.append(encode_frames(autoencoder, torch.from_numpy(frames[before.numpy()])[None])[0])
    return torch.cat(found).cpu()
