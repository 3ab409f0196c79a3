"""What computes a world's frames: torch everywhere, compiled where that is faster.

    engine = choose_engine(...)
    playing = engine.begin(seeds=[0])
    playing.prime(latents, conditions)
    latents = playing.denoise(condition); frames = engine.decode(latents); playing.remember()

In a world with a floor plan or a scene, `sight = engine.look(views)` comes first: its rays are part
of the condition (a plan's alone), its pixels of what is decoded. Where the sampler has a
`view_pull`, `remember_seen(engine, playing, sight)` is what remembers the frame.

Several sessions can be played as one batch, each with its own start, actions and seed; a session's
frames do not depend on who shares its batch.

Every engine draws the same noise for the same seed and computes the same function, to the precision
of its dtype; bit for bit the frames are only those of the same engine on the same machine.

It may import `model`, `rollout` and `system`. Begin with `torch_engine`, then `choose`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor

from worldmodel.config import UserError
from worldmodel.model.floor_plan import Sight
from worldmodel.world import Frame


class EngineError(UserError):
    """An engine cannot be built here; another one can."""


class Cache(Protocol):
    """What a session remembers: `KVCache`, or a `StaticCache`, which is one clean pass behind."""

    @property
    def time(self) -> int:
        """The time of the frame that comes next."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of keys and values; everything else that is saved is fp32."""

    def saved_shapes(self, time: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before the frame `time`."""

    def save(self) -> dict[str, Tensor]:
        """What is kept between two frames, on the CPU; what did not change is shared."""

    def load(self, saved: Mapping[str, Tensor], time: int) -> None:
        """Go on from what `save` gave before the frame `time`; shapes are the caller's matter."""

    def holds_numbers(self) -> bool:
        """Whether the keys and values that were kept last are finite."""


class Playing(Protocol):
    """Worlds being played side by side; b is 1 for a person at a keyboard.

    Between two frames, all that changes is in these two (`engine.saved_state` saves and loads it).
    """

    generators: list[Generator]  # of each session's noise
    drawn: int  # frames or chunks since priming: the first may be drawn in other steps

    @property
    def cache(self) -> Cache:
        """What the worlds of the batch remember."""

    @property
    def pulls(self) -> bool:
        """Whether the frame that is remembered next is pulled to its view."""

    def prime(self, latents: Tensor, conditions: Tensor) -> None:
        """Show the worlds their past: clean latents b f c h w and the conditions b f z in it."""

    def denoise(self, condition: Tensor) -> Tensor:
        """The next frame: condition b 1 z -> clean latent b 1 c h w."""

    def remember(self, view: Tensor | None = None) -> None:
        """The clean pass: make the frame part of the past, pulled to the view b 1 c h w if any."""


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
        """The version of the library that computes."""

    def begin(self, seeds: Sequence[int]) -> Playing:
        """A rollout of one session for each seed of its noise."""

    def look(self, views: Tensor) -> Sight:
        """What floor plan or scene show of views b n, fp32; valid until the next look."""

    def decode(self, latents: Tensor, sight: Sight | None = None) -> Frame:
        """Latents b 1 c h w, what is seen with a floor plan or a scene -> frames uint8 b h w 3."""

    def encode_view(self, sight: Sight) -> Tensor:
        """Latents b 1 c h w of the picture that is seen, in a world with a `view_pull`."""

    def broken_weight(self) -> str | None:
        """The first weight that holds values that are not numbers, where weights can be read."""


def remember_seen(engine: Engine, playing: Playing, sight: Sight | None) -> None:
    """Make the frame part of the past, pulled to what is seen where its sampler says so."""
    playing.remember(engine.encode_view(sight) if sight is not None and playing.pulls else None)
