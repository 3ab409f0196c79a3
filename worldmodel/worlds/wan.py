"""The Wan backend: released causal students behind the `World` role.

    world = WanWorld.load(folder, Settings())
    frame = world.reset(start=0, seed=0)
    frame = world.generate(action); world.remember()

A latent frame is four pixel frames (the first of a session one), and a block is one latent frame
or a few. `generate` draws a block when its last frame has been shown; until then it gives out the
next frame, and what the player does counts for the next block. Everything is used from one thread.
"""

import platform
import time
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from worldmodel.action import IDLE, Action, Prompt
from worldmodel.config import SamplerConfig, UserError
from worldmodel.wan.recipes import STEPS, warped_sigmas
from worldmodel.wan.rollout import WanRollout, seeded_noise
from worldmodel.wan.streaming import StreamingDecoder
from worldmodel.wan.taehv import Taehv
from worldmodel.wan.vae import WanVAE
from worldmodel.world import Frame, Split
from worldmodel.worlds.native import choose_device, choose_dtype
from worldmodel.worlds.settings import Settings, available_cores
from worldmodel.worlds.wan_drive import Drive
from worldmodel.worlds.wan_file import CameraConfig, WanWorldFile
from worldmodel.worlds.wan_load import WanParts, parts_of
from worldmodel.worlds.wan_start import Start, encode_start, read_frames

# A world without cameras has one that nothing moves.
NO_CAMERA = CameraConfig(focal=(1.0, 1.0), motions={})
CAPTION = 60  # characters of a prompt that name a start


class WanWorld:
    """A loaded world and the session that is played in it."""

    def __init__(self, parts: WanParts, settings: Settings, device: torch.device) -> None:
        file = parts.file
        self.file, self.device = file, device
        self.model, self.decoder, self.words = parts.transformer, parts.decoder, parts.words
        self.name, self.actions = file.name, file.actions
        self.frames_per_second, self.frame_size = file.frames_per_second, file.frame_size
        self.sampler, self.first_sampler = choose_samplers(file, settings.steps)
        self.notes = parts.notes
        self.threads = torch.get_num_threads()
        self._starts = self._find_starts(settings, parts.encoder)
        self.starts = [start.caption for start in self._starts]
        self._split = Split()
        self._notice = ""
        self.reset_to(self._starts[0], seed=0)

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> "WanWorld":
        """Read a world's folder, or a released file; errors name the file and what to do."""
        torch.set_num_threads(settings.threads or available_cores())
        device = choose_device(settings.device)
        dtype = getattr(torch, choose_dtype(settings.dtype, device))
        world = cls(parts_of(folder, device, dtype), settings, device)
        if device.type == "cuda":
            world.reset(0, seed=0)  # a GPU's first blocks pay for kernels being chosen
            world.generate(IDLE)
        return world

    def reset(self, start: int, seed: int) -> Frame:
        """Begin at a start: from words, its first frame is drawn; else its last one is seen."""
        self.reset_to(self._starts[start % len(self._starts)], seed)
        return self._begin()

    def reset_to(self, start: Start, seed: int) -> None:
        """Forget the session and open another."""
        noise = seeded_noise([torch.Generator().manual_seed(seed)])
        self._start = start
        self._rollout = WanRollout(
            self.model, self.file.window, self.sampler, self.first_sampler, noise
        )
        self._stream: StreamingDecoder = self.decoder.stream()
        self._drive = Drive(self.file.camera or NO_CAMERA, self.file.window.block_frames)
        self._latents: deque[Tensor] = deque()  # drawn, not decoded
        self._frames: deque[Frame] = deque()  # decoded, not shown
        self._is_remembered = True
        self._prompt: Prompt | None = None  # said, not yet heard
        self._held: frozenset[str] = frozenset()

    def generate(self, action: Action) -> Frame:
        """The next frame; every `actions.frames` frames it is drawn from all that was done."""
        self._listen(action)
        if not self._frames and not self._latents:
            began = time.perf_counter()
            self._hear()
            self._draw(self._drive.cameras())
            self._split = Split(1000 * (time.perf_counter() - began), 0.0, self._split.clean)
        return self._next_frame()

    def remember(self) -> None:
        """The clean pass, once a block."""
        if self._is_remembered:
            return
        began = time.perf_counter()
        self._rollout.remember()
        self._is_remembered = True
        if self.model.config.cameras and (motion := self._drive.path.take_far_anchor()) is not None:
            self._rollout.re_anchor(motion)
        self._split = replace(self._split, clean=1000 * (time.perf_counter() - began))

    def take_notice(self) -> str:
        """Words that could not be understood, and why."""
        notice, self._notice = self._notice, ""
        return notice

    @property
    def split(self) -> Split:
        """Times of the last block; on a GPU, denoising is only handed over, decoding waits."""
        return self._split

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a replay to give the same frames bit for bit."""
        return {
            "world": self.name,
            "sha256": dict(self.file.sha256),
            "sampler": asdict(self.sampler),
            "first_sampler": asdict(self.first_sampler),
            "decoder": type(self.decoder).__name__,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "threads": self.threads,
            "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        }

    @property
    def running_on(self) -> str:
        """Device, dtype, sampler, decoder, and what was assumed."""
        where = self.device.type if self.device.type != "cpu" else f"cpu, {self.threads} threads"
        dtype = str(self.model.dtype).removeprefix("torch.")
        together = f"{self.actions.frames} frames an action"
        parts = (
            f"{where}, {dtype}",
            f"{self.sampler.steps} steps ({self.first_sampler.steps} at first)",
            f"decoder {type(self.decoder).__name__}",
            together,
            *self.notes,
        )
        return ", ".join(parts)

    def _begin(self) -> Frame:
        self._rollout.say(self.model.read_text(self.words.embedding(self._start.opening)))
        latents = self._start.latents
        if latents is None:
            self._draw(self._drive.first_cameras(self.file.window.block_frames))
            self._rollout.remember()
        else:
            self._rollout.prime(latents, self._drive.first_cameras(latents.shape[1]))
            self._latents.extend(latents.split(1, dim=1))
        self._is_remembered = True
        frame = self._next_frame()
        while latents is not None and (self._frames or self._latents):
            frame = self._next_frame()
        return frame

    def _listen(self, action: Action) -> None:
        """Take note of what was done; a key's prompt counts when the key goes down."""
        self._drive.feed(action)
        prompts = self.file.prompts
        for button in sorted(action.buttons - self._held):
            if button in prompts.keys:
                self._prompt = Prompt(prompts.keys[button], renew=prompts.renew)
        self._held = action.buttons
        self._prompt = action.prompt or self._prompt

    def _hear(self) -> None:
        """Let the last thing that was said steer from here on."""
        if self._prompt is None:
            return
        full = self.file.prompts.full(self._prompt.text, self._start.opening)
        say = self._rollout.say_anew if self._prompt.renew else self._rollout.say
        self._prompt = None
        try:
            say(self.model.read_text(self.words.embedding(full)))
        except UserError as error:
            self._notice = str(error)  # play goes on under the words before

    def _draw(self, cameras: Tensor) -> None:
        self._latents.extend(self._rollout.denoise(cameras).split(1, dim=1))
        self._is_remembered = False

    def _next_frame(self) -> Frame:
        if not self._frames:
            began = time.perf_counter()
            latent = rearrange(self._latents.popleft(), "b f c h w -> b c f h w")
            frames = self._stream.decode(latent)
            small = frames.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
            shown = rearrange(small, "1 c t h w -> t h w c").contiguous().cpu().numpy()
            self._frames.extend(np.asarray(shown, np.uint8))
            decode = 1000 * (time.perf_counter() - began)
            self._split = replace(self._split, decode=self._split.decode + decode)
        return self._frames.popleft()

    def _find_starts(self, settings: Settings, encoder: WanVAE | Taehv | None) -> list[Start]:
        openings = self.file.prompts.opening or ("",)
        if settings.prompt is not None:
            openings = (settings.prompt, *openings)
        for text in openings[:1]:
            if not self.words.can_say(text):
                self.words.embedding(text)  # says what is missing
        starts = [Start(caption(text), text) for text in openings if self.words.can_say(text)]
        if settings.start is not None:
            starts.insert(0, self._own_start(Path(settings.start), openings[0], encoder))
        return starts

    def _own_start(self, path: Path, opening: str, encoder: WanVAE | Taehv | None) -> Start:
        if encoder is None:
            raise UserError(
                f"--start {path}: {self.name} has no encoder for pictures; import Wan2.1_VAE.pth"
            )
        window, scale = self.file.window, encoder.config.frames_per_latent
        frames = read_frames(path, 1 + scale * (window.slots - 1))
        size = self.frame_size
        latents = encode_start(encoder, frames, size, window.block_frames, window.slots)
        return Start(path.name, opening, latents)


def choose_samplers(file: WanWorldFile, steps: int) -> tuple[SamplerConfig, SamplerConfig]:
    """Of a block and of the first one: the world's, or with another number of steps."""
    if not steps or steps == file.sampler.steps:
        return file.sampler, file.first_sampler
    if not file.sampler.renoise:
        even = tuple(1000 * (steps - i) // steps for i in range(steps))
        other = replace(file.sampler, sigmas=warped_sigmas(even))
        return other, other
    if steps not in STEPS:
        raise UserError(f"--steps {steps}: {file.name} is a few-step student; choose from 1, 2, 4")
    return replace(file.sampler, sigmas=warped_sigmas(STEPS[steps])), file.first_sampler


def caption(text: str) -> str:
    """A prompt as the name of a start."""
    short = text if len(text) <= CAPTION else f"{text[: CAPTION - 1]}…"
    return short or "no prompt"
