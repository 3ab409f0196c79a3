"""How different two pictures look: distance of their features in a network that knows photographs.

    d(x, y) = Σ_l mean_p w_l · (φ_l(x)_p − φ_l(y)_p)²        (LPIPS, arXiv 1801.03924, Eq. 1)

φ_l(x)_p are the features of layer l at position p, scaled to length 1 there; w_l ≥ 0 was learned
from what people find alike. The network is the AlexNet of ST-LPIPS (arXiv 2207.13686): its
first convolution goes pixel by pixel and a blur comes before every halving, so that a picture that
is off by a pixel or two is hardly further away. Papers' LPIPS figures are of another network.

Its weights belong to other people and are not part of this project: whoever wants the measure, or
trains a decoder with it, names the file `alex_shift_tolerant.pth` of the package `stlpips-pytorch`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.config import ConfigError, require_no_less
from worldmodel.model.autoencoder import to_tensor
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.wan.weight_files import read_tensors

CONVOLUTIONS = (  # name in the file, channels in and out, size, padding
    ("slice1.0", 3, 64, 11, 2),
    ("slice2.5", 64, 192, 5, 2),
    ("slice3.9", 192, 384, 3, 1),
    ("slice4.11", 384, 256, 3, 1),
    ("slice5.13", 256, 256, 3, 1),
)
BLURS = {"slice1.1": 64, "slice2.4": 64, "slice3.8": 192}  # before each halving, and its channels
BATCH = 32  # pictures at once, where nothing is trained
LEAST_SIZE = 32  # rows and columns of a picture, so that the last layer still has some


@dataclass(frozen=True, kw_only=True, slots=True)
class Perceptual:
    """The distance of features in a network that knows photographs."""

    weights: Path  # `PerceptualDistance.load`
    weight: float = 1.0  # η; 0: it is measured alone

    def __post_init__(self) -> None:
        require_no_less(self, 0, "weight")


class PerceptualDistance(nn.Module):
    """Pictures b 3 h w in [-1, 1] twice -> how different each pair looks: b, 0 for equal ones."""

    kernel: Tensor  # 3 3, the blur
    shift: Tensor  # of colours, before the first layer
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(incoming, outgoing, size, padding=padding)
            for _, incoming, outgoing, size, padding in CONVOLUTIONS
        )
        kernel = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", torch.outer(kernel, kernel) / 16, persistent=False)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))
        for layer, (_, _, channels, _, _) in enumerate(CONVOLUTIONS):
            self.register_buffer(f"weight_{layer}", torch.zeros(1, channels, 1, 1))

    @classmethod
    def load(cls, path: Path, frame_size: tuple[int, int]) -> "PerceptualDistance":
        """Read `alex_shift_tolerant.pth`, for frames of so many rows and columns.

        A `CheckpointError` says what is missing in the file, a `ConfigError` that frames are small.
        """
        if min(frame_size) < LEAST_SIZE:
            raise ConfigError(
                f"perceptual distance: frames are {frame_size[1]} x {frame_size[0]}, expected at "
                f"least {LEAST_SIZE} x {LEAST_SIZE}; leave it out, or take larger frames"
            )
        found = {name.removeprefix("net."): x for name, x in read_tensors(path).items()}
        measure = cls()
        own = measure.state_dict()
        names = {"shift": "scaling_layer.shift", "scale": "scaling_layer.scale"}
        for layer, (name, *_) in enumerate(CONVOLUTIONS):
            names[f"convolutions.{layer}.weight"] = f"{name}.weight"
            names[f"convolutions.{layer}.bias"] = f"{name}.bias"
            names[f"weight_{layer}"] = f"lin{layer}.model.1.weight"
        shapes = {theirs: tuple(own[ours].shape) for ours, theirs in names.items()}
        shapes |= {f"{name}.filt": (channels, 1, 3, 3) for name, channels in BLURS.items()}
        for name, shape in shapes.items():
            has = tuple(found[name].shape) if name in found else "nothing"
            if has != shape:
                raise CheckpointError(
                    f"{path}: expected {name} of shape {shape}, found {has}; give the file "
                    "alex_shift_tolerant.pth of the package stlpips-pytorch"
                )
        for name in BLURS:
            if not torch.allclose(found[f"{name}.filt"], measure.kernel):
                raise CheckpointError(f"{path}: {name}.filt is not the blur of three pixels")
        measure.load_state_dict({ours: found[theirs].float() for ours, theirs in names.items()})
        return measure.requires_grad_(requires_grad=False).eval()

    def features(self, pictures: Tensor) -> list[Tensor]:
        """What each of the five layers makes of pictures b 3 h w: b d h' w', of length 1 over d."""
        x = (pictures - self.shift) / self.scale
        layers = []
        for layer, convolve in enumerate(self.convolutions):
            if layer in (1, 2):
                x = self._halve(F.max_pool2d(x, 3, stride=1))
            x = convolve(x)
            if layer == 0:
                x = self._halve(x)
            x = F.relu(x)
            layers.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return layers

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Pictures b 3 h w in [-1, 1] twice, at least `LEAST_SIZE` rows and columns: b."""
        total = one.new_zeros(len(one))
        for layer, pair in enumerate(zip(self.features(one), self.features(other), strict=True)):
            apart = (pair[0] - pair[1]).square() * self.get_buffer(f"weight_{layer}")
            total = total + apart.sum(dim=1).mean(dim=(1, 2))
        return total

    @torch.inference_mode()
    def between(self, frames: Tensor, reference: Tensor) -> Tensor:
        """The distance of frames uint8 b h w 3 from others, a few at a time: b."""
        pairs = zip(frames.split(BATCH), reference.split(BATCH), strict=True)
        return torch.cat([self(to_tensor(one), to_tensor(other)) for one, other in pairs])

    def _halve(self, x: Tensor) -> Tensor:
        """Blur and keep every second row and column; the border is mirrored, two pixels wide."""
        x = F.pad(x, (2, 2, 2, 2), mode="reflect")
        kernel = self.kernel.expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, kernel, stride=2, groups=x.shape[1])
