"""One played session of a Wan world: chunks of latent frames, one after the other.

    rollout = WanRollout(model, window, sampler, first_sampler, seeded_noise([0]))
    rollout.say(model.read_text(embeddings))
    rollout.prime(latents, cameras)            # an image's or a clip's latents; may be left out
    latents = rollout.denoise(cameras)         # decode and show them ...
    rollout.remember()                         # ... then make them the past; again and again

Latents b f c h w are those of one chunk.
"""

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worldmodel.model.configs import SamplerConfig
from worldmodel.rollout import denoise
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.kv_cache import FrameConditions, RollingCache, Text
from worldmodel.wan.model_config import WindowConfig
from worldmodel.wan.transformer import WanTransformer

Noise = Callable[[tuple[int, ...]], Tensor]  # a shape b f c h w -> standard normal noise


def seeded_noise(generators: Sequence[torch.Generator]) -> Noise:
    """Noise for each session of a batch from its own generator; drawn on the CPU, the same
    everywhere.
    """

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.cat([torch.randn(1, *shape[1:], generator=g) for g in generators])

    return draw


class WanRollout:
    """Everything that changes while a world is played, except the decoder."""

    def __init__(
        self,
        model: WanTransformer,
        window: WindowConfig,
        sampler: SamplerConfig,
        first_sampler: SamplerConfig,
        noise: Noise,
        batch: int = 1,
        cache: RollingCache | None = None,  # of an earlier session, whose memory is used again
    ) -> None:
        self.model, self.window, self.batch = model, window, batch
        self.sampler, self.first_sampler = sampler, first_sampler
        self.noise = noise
        self.cache = cache or RollingCache(model.config, window, batch, model.dtype, model.device)
        self.drawn = 0  # chunks that were drawn, not given
        self.sinks: list[tuple[Tensor, Tensor]] = []  # latents and cameras, chunk by chunk
        self.recent: deque[tuple[Tensor, Tensor]] = deque(
            maxlen=-(-window.window_frames // window.chunk_frames)
        )
        self._current: tuple[Tensor, Tensor] | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        """The shape of one chunk: b f c h w."""
        window = self.window
        channels = self.model.config.latent_channels
        return self.batch, window.chunk_frames, channels, window.rows, window.columns

    def say(self, text: Text) -> None:
        """Another prompt, from the next chunk on; what is remembered stays as it was."""
        self.cache.text = text

    @torch.inference_mode()
    def say_anew(self, text: Text) -> None:
        """Another prompt, and everything still visible is read again under it."""
        self.cache.reset()
        self.cache.text = text
        for chunk in (*self.sinks, *self.recent):
            self._read(*chunk)

    @torch.inference_mode()
    def prime(self, latents: Tensor, cameras: Tensor | None = None) -> None:
        """Show the world its past: clean latents b f c h w in whole chunks, and their cameras."""
        cameras = no_cameras(latents.shape[0], latents.shape[1]) if cameras is None else cameras
        n = self.window.chunk_frames
        for chunk in zip(latents.split(n, dim=1), cameras.split(n, dim=1), strict=True):
            self._current = chunk
            self.remember()

    @torch.inference_mode()
    def denoise(
        self, cameras: Tensor | None = None, conditions: FrameConditions | None = None
    ) -> Tensor:
        """The next chunk, seen from projections b f 4 4: clean latents b f c h w in fp32.

        An image-to-video model is given its `conditions`, frame by frame; so is the clean pass.
        """
        self.cache.conditions = conditions.to(self.model.device) if conditions else None
        shape, device = self.latent_shape, self.model.device
        cameras = no_cameras(shape[0], shape[1]) if cameras is None else cameras
        sampler = self.sampler if self.drawn else self.first_sampler
        latents = denoise(
            self.model,
            lambda: self.noise(shape).to(device),
            sampler,
            cameras.to(device),
            self.cache,
        )
        self._current = latents, cameras
        self.drawn += 1
        return latents

    @torch.inference_mode()
    def remember(self) -> None:
        """The clean pass: overwrite the chunk's slots with clean keys and values, move on."""
        assert self._current is not None, "denoise or prime comes first"
        if self.model.config.picture is None:  # else there are no words under which to read again
            late = len(self.sinks) * self.window.chunk_frames >= self.window.sink_frames
            (self.recent if late else self.sinks).append(self._current)
        self._read(*self._current)
        self._current = None

    @torch.inference_mode()
    def re_anchor(self, motion: Tensor) -> None:
        """Let the world begin at another camera (`RollingCache.re_anchor`), history included."""
        self.cache.re_anchor(motion)
        matrix = motion.float()
        self.sinks = [(latents, cameras @ matrix) for latents, cameras in self.sinks]
        self.recent = deque(
            ((latents, cameras @ matrix) for latents, cameras in self.recent),
            maxlen=self.recent.maxlen,
        )

    def _read(self, latents: Tensor, cameras: Tensor) -> None:
        device = self.model.device
        latents, cameras = latents.to(device), cameras.to(device)
        self.model(latents, latents.new_zeros(latents.shape[:2]), cameras, self.cache)
        self.cache.advance()
