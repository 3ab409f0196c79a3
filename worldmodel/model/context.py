"""What a frame may look at: the one seam between training and play.

Attention hands every layer's queries, keys and values to a `Context` and gets back what they
attended to. In training a `ClipContext` has all frames at once; in play a `KVCache` has kept the
past. The transformer cannot tell them apart.

Every frame sees itself, the `context_frames - 1` frames before it, and the `sink_frames` first
frames of the rollout for good. Keys carry the time of their frame (`rotary`). A sink that the
window has left behind is seen as if it stood directly before the window: however long the play,
no query meets an age that training has not shown.

With `chunk_frames` above 1, frames come in chunks, counted from the first frame of the rollout. The
frames of a chunk see each other, the later ones too, and all see what its last frame sees; to all
of them the frame before is the last one of the chunk before, the last that is clean when the chunk
is drawn (block-causal attention, Causal Forcing, arXiv 2602.02214, §3). `WholeClip` is the other
extreme: all of a clip is one chunk.

Letters of its own: i chunks, j tokens a chunk.
"""

from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from worldmodel.model.configs import ModelConfig
from worldmodel.model.rotary import rope_cos_sin
from worldmodel.model.sinks import pin_sinks

Device = torch.device | str


class Context(Protocol):
    """Supplies the past to attention."""

    @property
    def rope_cos_sin(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines t e/2 of the positions of the tokens that are passed in."""

    def previous(self, latents: Tensor) -> Tensor:
        """The frame before each one passed in, as remembered; zero before the first: b f c h w.

        The transformer calls it once a pass, with the latents of that pass.
        """

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rotated queries and keys, values: b n t e each -> what was attended to, b n t e.

        `layer` counts from 0 those that see other frames (`ModelConfig.time_layers`).
        """


def visible(config: ModelConfig, frames: int) -> Tensor:
    """Which frame g a frame f may look at, itself included: bool f g."""
    assert frames % config.chunk_frames == 0, f"{frames} frames are no whole number of chunks"
    times = torch.arange(frames)
    age = last_of_chunk(config, times)[:, None] - times
    in_window = age < config.context_frames
    return (age >= 0) & (in_window | (times < config.sink_frames))


def last_of_chunk(config: ModelConfig, times: Tensor) -> Tensor:
    """The time of the last frame of the chunk of each of the times f: f."""
    return times // config.chunk_frames * config.chunk_frames + config.chunk_frames - 1


class ClipContext:
    """All frames of a clip at once, each seeing the past: used on clean latents."""

    def __init__(self, config: ModelConfig, frames: int, device: Device = "cpu") -> None:
        self.config = config
        self.rope_cos_sin = kept_rope(config, 0, frames, device)
        self.hidden = _kept_mask(config, frames, device)

    def previous(self, latents: Tensor) -> Tensor:
        """The clip b f c h w, one chunk later, of every chunk its last frame."""
        return _before_chunks(latents, self.config.chunk_frames)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention over the clip: b n t e each -> b n t e."""
        del layer
        scores = _scores(self.config, q, k).masked_fill(self.hidden, -torch.inf)
        return scores.softmax(dim=-1) @ v


class TeacherForcing:
    """A clip once clean and `copies` times noisy, packed along time: [clean | noisy | noisy ...].

    Clean frames see the clean past and themselves; a noisy frame sees the *clean* past and its
    noisy chunk, never another copy: exactly what the sampler sees in play. Several copies share the
    cost of the clean half. Of the mask's blocks only those that can be seen are computed: noisy
    queries meet the clean keys in one product, and their own chunk's keys in another.
    """

    def __init__(
        self, config: ModelConfig, frames: int, copies: int = 1, device: Device = "cpu"
    ) -> None:
        self.config, self.frames, self.copies = config, frames, copies
        self.clean = ClipContext(config, frames, device)
        cos, sin = self.clean.rope_cos_sin
        self.rope_cos_sin = cos.repeat(1 + copies, 1), sin.repeat(1 + copies, 1)
        self.hidden = _kept_past(config, frames, device)

    def previous(self, latents: Tensor) -> Tensor:
        """The clean half's, for both kinds of frames: b f c h w."""
        return self.clean.previous(latents[:, : self.frames]).repeat(1, 1 + self.copies, 1, 1, 1)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Both kinds of frames; t = (1 + copies) f p."""
        p, j = self.config.tokens_per_frame, self.config.tokens_per_chunk
        sizes = (self.frames * p, self.copies * self.frames * p)
        (qc, qn), (kc, kn), (vc, vn) = (x.split(sizes, dim=2) for x in (q, k, v))
        clean = self.clean.attend(layer, qc, kc, vc)

        hidden = self.hidden.repeat(self.copies, 1)
        past = _scores(self.config, qn, kc, self.copies).masked_fill(hidden, -torch.inf)
        qi, ki, vi = (rearrange(x, "b n (i j) e -> b n i j e", j=j) for x in (qn, kn, vn))
        own = rearrange(qi @ ki.mT * q.shape[-1] ** -0.5, "b n i j u -> b n (i j) u")
        weights = torch.cat((past, own), dim=-1).softmax(dim=-1)
        past, own = weights.split((sizes[0], j), dim=-1)
        seen_itself = rearrange(own, "b n (i j) u -> b n i j u", j=j) @ vi
        noisy = past @ vc + rearrange(seen_itself, "b n i j e -> b n (i j) e")
        return torch.cat((clean, noisy), dim=2)


class WholeClip:
    """Every frame sees the whole clip, what comes after it too: bidirectional diffusion.

    The first `known` b frames of each clip are shown clean, what is drawn follows them: to all the
    frames after those, the frame before is the last one of them, and zero if there are none.
    """

    def __init__(self, config: ModelConfig, frames: int, known: Tensor) -> None:
        self.rope_cos_sin = kept_rope(config, 0, frames, known.device)
        times = torch.arange(frames, device=known.device)
        self.before = torch.minimum(times, known[:, None]) - 1  # b f

    def previous(self, latents: Tensor) -> Tensor:
        """The frame before each known one, the last known one for the rest: b f c h w."""
        before = self.before[..., None, None, None]
        found = latents.gather(1, before.clamp(min=0).expand_as(latents))
        return torch.where(before < 0, 0.0, found)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over all of the clip: b n t e each -> b n t e."""
        del layer
        return F.scaled_dot_product_attention(q, k, v)


def _before_chunks(latents: Tensor, chunk: int) -> Tensor:
    """The last frame before the chunk of each frame b f c h w, zero in the first chunk."""
    last = torch.cat((torch.zeros_like(latents[:, :1]), latents[:, chunk - 1 : -1 : chunk]), dim=1)
    return last.repeat_interleave(chunk, dim=1)


@lru_cache(maxsize=512)
@torch.inference_mode(mode=False)  # kept, so it must also serve where gradients are taken
def kept_rope(
    config: ModelConfig, first: int, frames: int, device: Device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines t e/2 of frames from `first` on; kept: a copy to a GPU waits for it."""
    return rope_cos_sin(config, first + torch.arange(frames), device)


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)
def _kept_mask(config: ModelConfig, frames: int, device: Device) -> Tensor:
    """Which tokens of a clip are hidden from which: t u."""
    return _over_tokens(~visible(config, frames), config).to(device)


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)
def _kept_past(config: ModelConfig, frames: int, device: Device) -> Tensor:
    """The same of the clean tokens from the noisy ones, which see earlier chunks alone: t u."""
    chunks = torch.arange(frames) // config.chunk_frames
    past = visible(config, frames) & (chunks[:, None] != chunks)
    return _over_tokens(~past, config).to(device)


def _over_tokens(mask: Tensor, config: ModelConfig) -> Tensor:
    """A mask over frames f g as one over their tokens t u."""
    p = config.tokens_per_frame
    return repeat(mask, "f g -> (f p) (g q)", p=p, q=p)


def _scores(config: ModelConfig, q: Tensor, k: Tensor, copies: int = 1) -> Tensor:
    """Scaled products of queries b n (r f p) e and clean keys b n (f p) e: b n (r f p) u."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    p, sinks = config.tokens_per_frame, config.sink_frames * config.tokens_per_frame
    frames = k.shape[2] // p
    if not sinks or frames <= config.sink_frames + config.context_frames:
        return scores
    # Past the window, sinks stand at another time for every frame. (Training clips are shorter.)
    scores = scores.clone()
    for f in range(config.sink_frames + config.context_frames, frames):
        pinned = pin_sinks(config, k[:, :, :sinks], f // config.chunk_frames * config.chunk_frames)
        for r in range(copies):
            here = slice((r * frames + f) * p, (r * frames + f + 1) * p)
            scores[:, :, here, :sinks] = q[:, :, here] @ pinned.mT * q.shape[-1] ** -0.5
    return scores
