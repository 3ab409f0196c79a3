"""What computes a world's frames: torch everywhere, compiled where that is faster.

    engine = choose_engine(...)
    playing = engine.begin(seeds=[0])
    playing.prime(latents, actions)
    latents = playing.denoise(action); frames = engine.decode(latents); playing.remember()

Several sessions can be played as one batch, each with its own start, actions and seed; a session's
frames do not depend on who shares its batch.

Every engine draws the same noise for the same seed and computes the same function, to the precision
of its dtype; bit for bit the frames are only those of the same engine on the same machine.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from worldmodel.world import Frame


class Playing(Protocol):
    """Worlds being played side by side; b is 1 for a person at a keyboard."""

    def prime(self, latents: Tensor, actions: Tensor) -> None:
        """Show the worlds their past: clean latents b f c h w and the actions b f (k+2) in it."""

    def denoise(self, action: Tensor) -> Tensor:
        """The next frame: action b 1 (k+2) -> clean latent b 1 c h w."""

    def remember(self) -> None:
        """The clean pass: make the frame part of the past."""


class Engine(Protocol):
    """Weights, made ready to play in one dtype on one device."""

    @property
    def name(self) -> str:
        """`torch`, `torch-compiled` or `openvino`."""

    @property
    def threads(self) -> int:
        """Cores that compute, on a CPU."""

    @property
    def dtype(self) -> str:
        """What products are computed in: `float32` or `bfloat16`."""

    @property
    def version(self) -> str:
        """Of the library that computes."""

    def begin(self, seeds: Sequence[int]) -> Playing:
        """A rollout of one session for each seed of its noise."""

    def decode(self, latents: Tensor) -> Frame:
        """Latents b 1 c h w -> frames uint8 b h w 3."""
