"""The Wan backend: released causal students behind the `World` role.

    world = WanWorld.load(folder, Settings())
    frame = world.reset(start=0, seed=0)
    frame = world.generate(action); world.remember()

A latent frame is four pixel frames (the first of a session one), a chunk one latent frame or a
few. Everything is used from one thread at a time.
"""

import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.model.configs import SamplerConfig
from worldmodel.system.paths import to_path
from worldmodel.system.printable import counted
from worldmodel.wan.image_encoder import load_image_encoder
from worldmodel.wan.kv_cache import RollingCache
from worldmodel.wan.samplers import STEPS, warped_sigmas
from worldmodel.wan.taehv import Taehv
from worldmodel.wan.vae import WanVAE
from worldmodel.world import Frame, SavedState, Split
from worldmodel.worlds.devices import choose_device, choose_dtype
from worldmodel.worlds.fork_guard import refuse_fork
from worldmodel.worlds.identity import check_same_world
from worldmodel.worlds.run_settings import RunSettings, usual_threads
from worldmodel.worlds.wan.parts import WanParts, parts_of
from worldmodel.worlds.wan.pending_prompt import PendingPrompt
from worldmodel.worlds.wan.session import WanSession
from worldmodel.worlds.wan.session_state import load_session, save_session
from worldmodel.worlds.wan.start import (
    WanStart,
    check_picture,
    encode_picture_start,
    encode_start,
    read_frames,
)
from worldmodel.worlds.wan.world_file import TAEHV, TRANSFORMER, VAE, WanWorldFile, caption


class WanWorld:
    """A loaded world; everything that changes in play is in its `WanSession`."""

    def __init__(self, parts: WanParts, settings: RunSettings, device: torch.device) -> None:
        file = parts.file
        self.parts, self.file, self.device = parts, file, device
        self.name, self.actions = file.name, file.actions
        self.frames_per_second, self.frame_size = file.frames_per_second, file.frame_size
        self.sampler, self.first_sampler = choose_samplers(file, settings.steps)
        self.threads = torch.get_num_threads()
        self._starts = self._find_starts(settings)
        self.starts = [start.caption for start in self._starts]
        self._identity = self.identity  # one for all states
        transformer = parts.transformer
        self._cache = RollingCache(
            transformer.config, file.window, 1, transformer.dtype, transformer.device
        )
        self.session = self._open(0, seed=0)
        self._pending = PendingPrompt(parts.words, file)

    @classmethod
    def load(cls, folder: Path, settings: RunSettings) -> "WanWorld":
        """Read a world's folder, or a released file; errors name the file and what to do."""
        refuse_fork()
        torch.set_num_threads(settings.threads or usual_threads())
        device = choose_device(settings.device)
        dtype = getattr(torch, choose_dtype(settings.dtype, device))
        world = cls(parts_of(folder, device, dtype, settings.prompt), settings, device)
        if device.type == "cuda":
            world.reset(0, seed=0)  # a GPU's first chunks pay for kernels being chosen
            world.generate(IDLE)
            world.remember()
        return world

    def reset(self, start: int, seed: int) -> Frame:
        """Begin at a start: from words its first frame is drawn, else its last one is seen."""
        self._pending.forget()
        self.session = self._open(start % len(self._starts), seed)
        return self.session.begin()

    def generate(self, action: Action) -> Frame:
        """The next frame; every `actions.frames` frames it is drawn from all that was done."""
        return self.session.generate(action)

    def remember(self) -> None:
        """The clean pass, once a chunk."""
        self.session.remember()

    def save_state(self) -> SavedState:
        """All that changes in play, as it is between two frames."""
        start = next(i for i, start in enumerate(self._starts) if start is self.session.start)
        return SavedState(self._identity, save_session(self.session, start))

    def load_state(self, state: SavedState) -> None:
        """Go on from a state of the same weights and sampler, bit for bit."""
        names = [name for name in (TRANSFORMER, TAEHV, VAE) if name in self.file.sha256]
        check_same_world(state.identity, self._identity, names)
        self.session = load_session(lambda start: self._open(start, seed=0), state.arrays)
        self._pending.forget()

    def follow(self, action: Action) -> Action:
        """The part of an action that can be followed now: words are encoded beside play."""
        return self._pending.accept(action, self.session)

    @property
    def waiting(self) -> str:
        """Words that are being encoded."""
        return self._pending.waiting

    def take_notice(self) -> str:
        """Words that could not be understood, and why."""
        notice, self.session.notice = self.session.notice, ""
        return notice

    @property
    def split(self) -> Split:
        """Times of the last chunk; on a GPU, denoising is only handed over, decoding waits."""
        return self.session.split

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a replay to give the same frames bit for bit."""
        return {
            "world": self.name,
            "sha256": dict(self.file.sha256),
            "sampler": asdict(self.sampler),
            "first_sampler": asdict(self.first_sampler),
            "decoder": type(self.parts.decoder).__name__,
            "dtype": self._dtype,
            "device": self.device.type,
            "threads": self.threads,
            "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        }

    @property
    def running_on(self) -> str:
        """Device, dtype, sampler, decoder, and what was assumed."""
        where = (
            self.device.type
            if self.device.type != "cpu"
            else f"cpu, {counted(self.threads, 'thread')}"
        )
        parts = (
            f"{where}, {self._dtype}",
            f"{self.sampler.steps} steps ({self.first_sampler.steps} at first)",
            f"decoder {type(self.parts.decoder).__name__}",
            f"{self.actions.frames} frames at a time",
            *self.parts.notes,
        )
        return ", ".join(parts)

    @property
    def _dtype(self) -> str:
        return str(self.parts.transformer.dtype).removeprefix("torch.")

    def start_at(self, number: int) -> WanStart:
        """The start of this number, counted from 0."""
        return self._starts[number]

    def _open(self, start: int, seed: int) -> WanSession:
        samplers = self.sampler, self.first_sampler
        cache = self._cache  # of gigabytes, so that there is one
        return WanSession(self.parts, samplers, self._starts[start], seed, cache)

    def _find_starts(self, settings: RunSettings) -> list[WanStart]:
        if self.file.transformer.picture is not None:
            return picture_starts(self.parts, settings)
        words = self.parts.words
        openings = self.file.prompts.opening or ("",)
        if settings.prompt is not None:
            openings = (settings.prompt, *openings)
        if not words.can_say(openings[0]):
            words.embedding(openings[0])  # raises and says what is missing
        starts = [WanStart(caption(text), text) for text in openings if words.can_say(text)]
        if settings.start is not None:
            own = to_path(settings.start)
            starts.insert(0, own_start(self.file, own, openings[0], self.parts.encoder))
        return starts


def picture_starts(parts: WanParts, settings: RunSettings) -> list[WanStart]:
    """Encoded pictures, and one of the user's own before them, encoded now."""
    file = parts.file
    if settings.prompt is not None:
        raise UserError(f"--prompt: {file.name} reads a picture and no words; name one as --start")
    found = []
    for name, picture in parts.pictures.items():
        check_picture(file, picture, name)
        found.append(WanStart(name, "", picture=picture))
    if settings.start is not None:
        found.insert(0, own_picture(parts, to_path(settings.start)))
    if not found:
        raise UserError(
            f"{file.name} begins with a picture and has none: play it with --start PICTURE, or "
            "import one with --picture"
        )
    return found


def own_picture(parts: WanParts, path: Path) -> WanStart:
    """A picture of the user's own as a start."""
    if not isinstance(parts.encoder, WanVAE) or parts.image_encoder is None:
        raise UserError(
            f"--start {path}: {parts.file.name} has no encoders for pictures; import "
            "Wan2.1_VAE.pth and models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
        )
    encoder = load_image_encoder(parts.image_encoder).to(parts.transformer.device)
    picture = encode_picture_start(parts.file, path, parts.encoder, encoder)
    return WanStart(path.name, "", picture=picture)


def own_start(
    file: WanWorldFile, path: Path, opening: str, encoder: WanVAE | Taehv | None
) -> WanStart:
    """A picture or clip of the user's own as a start."""
    if encoder is None:
        raise UserError(
            f"--start {path}: {file.name} has no encoder for pictures; import Wan2.1_VAE.pth"
        )
    window, scale = file.window, encoder.config.frames_per_latent
    most, rate = 1 + scale * (window.slots - 1), file.frames_per_second
    frames = read_frames(path, most, file.frame_size, rate)
    latents = encode_start(encoder, frames, file.frame_size, window.chunk_frames, window.slots)
    return WanStart(path.name, opening, latents)


def choose_samplers(file: WanWorldFile, steps: int) -> tuple[SamplerConfig, SamplerConfig]:
    """Samplers of a chunk and of the first one: the world's, or with another number of steps."""
    if not steps or steps == file.sampler.steps:
        return file.sampler, file.first_sampler
    if not file.sampler.renoise:
        even = tuple(1000 * (steps - i) // steps for i in range(steps))
        other = replace(file.sampler, sigmas=warped_sigmas(even))
        return other, other
    if file.controls is not None:
        raise UserError(
            f"--steps {steps}: {file.name} is a student of {file.sampler.steps} steps, and of no "
            "other number"
        )
    if steps not in STEPS:
        raise UserError(f"--steps {steps}: {file.name} is a few-step student; choose from 1, 2, 4")
    return replace(file.sampler, sigmas=warped_sigmas(STEPS[steps])), file.first_sampler
