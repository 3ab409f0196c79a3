"""One played session of a Wan world: what changes while it is played, and nothing else.

    session = WanSession(parts, samplers, start, seed=0)
    frame = session.begin()
    frame = session.generate(action); session.remember()

A chunk of latents is drawn when its predecessor's last frame has been shown; what the player does
until then counts for the next chunk.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.action import Action, Prompt
from worldmodel.config import UserError
from worldmodel.model.configs import SamplerConfig
from worldmodel.storage.tensor_bits import as_array
from worldmodel.wan.kv_cache import FrameConditions, RollingCache
from worldmodel.wan.streaming_decoder import as_bytes
from worldmodel.wan.wan_rollout import WanRollout, seeded_noise
from worldmodel.world import Frame, Split, WorldFaultError
from worldmodel.worlds.wan.camera_control import Drive
from worldmodel.worlds.wan.parts import WanParts
from worldmodel.worlds.wan.row_control import RowControl
from worldmodel.worlds.wan.start import WanStart
from worldmodel.worlds.wan.world_file import CameraConfig

Memory = tuple[int, torch.dtype, tuple[int, ...], tuple[int, ...]]

# A world without cameras has one that nothing moves.
NO_CAMERA = CameraConfig(focal=(1.0, 1.0), motions={})


class WanSession:
    """The rollout, the decoder's memory, the camera, and what was said and not yet heard."""

    def __init__(
        self,
        parts: WanParts,
        samplers: tuple[SamplerConfig, SamplerConfig],
        start: WanStart,
        seed: int,
        cache: RollingCache | None = None,
    ) -> None:
        self.parts, self.file, self.start = parts, parts.file, start
        self.generator = torch.Generator().manual_seed(seed)
        noise = seeded_noise([self.generator])
        window = parts.file.window
        self.rollout = WanRollout(parts.transformer, window, *samplers, noise, cache=cache)
        self.stream = parts.decoder.stream()
        actions = parts.file.actions
        most = actions.max_mouse_degrees * actions.frames
        self.drive = Drive(parts.file.camera or NO_CAMERA, window.chunk_frames, most)
        self.control = RowControl(parts.file) if parts.file.controls else None
        self.picture = start.picture
        self.latents: deque[Tensor] = deque()  # drawn, not decoded: 1 1 c h w each
        self.frames: deque[Frame] = deque()  # decoded, not shown
        self.said = start.opening  # the words that steer
        self.prompt: Prompt | None = None  # said, not yet heard
        self.held: frozenset[str] = frozenset()
        self.split = Split()
        self.notice = ""
        self._is_remembered = True
        # By memory, which stays taken while its tensor is here.
        self._arrays: dict[Memory, tuple[Tensor, NDArray[Any]]] = {}

    def begin(self) -> Frame:
        """Draw the first chunk; where there is a picture or a clip, its last frame is seen."""
        self.rollout.cache.reset()
        self.rollout.say(self.read_start())
        given = self.start.latents
        if given is None:
            self._draw(self.drive.first_cameras(self.file.window.chunk_frames))
            self.remember()
            return self._next_frame()
        self.rollout.prime(given, self.drive.first_cameras(given.shape[1]))
        self.latents.extend(given.split(1, dim=1))
        frame = self._next_frame()
        while self.frames or self.latents:
            frame = self._next_frame()
        return frame

    @property
    def is_at_chunk(self) -> bool:
        """Whether nothing of the last chunk is left, so that the next frame needs another one."""
        return not self.frames and not self.latents

    def generate(self, action: Action) -> Frame:
        """The next frame; a chunk is drawn when nothing of the last one is left."""
        self._listen(action)
        if self.is_at_chunk:
            began = time.perf_counter()
            self._hear()
            self._draw(self.drive.cameras())
            self.split = Split(1000 * (time.perf_counter() - began), 0.0, self.split.clean)
        return self._next_frame()

    def remember(self) -> None:
        """The clean pass, once a chunk; then the anchor follows a camera that is far away."""
        if self._is_remembered:
            return
        began = time.perf_counter()
        self.rollout.remember()
        self._is_remembered = True
        far = self.drive.path.take_far_anchor() if self.file.transformer.cameras else None
        if far is not None:
            self.rollout.re_anchor(far)
        self.split = replace(self.split, clean=1000 * (time.perf_counter() - began))

    def arrays_of(self, tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
        """Tensors on the host for a saved state; those that the last call met, or other views of
        the same memory, are the same arrays again.
        """
        known, self._arrays = self._arrays, {}
        for tensor in tensors.values():
            found = known.get(_memory(tensor))
            self._arrays[_memory(tensor)] = found or (tensor, _on_host(tensor))
        return {name: self._arrays[_memory(tensor)][1] for name, tensor in tensors.items()}

    def read(self, text: str) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of a text, for every layer."""
        with torch.inference_mode():
            return list(self.parts.transformer.read_text(self.parts.words.embedding(text)))

    def read_start(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the words that steer, or of the picture, for every layer."""
        if self.picture is None:
            return self.read(self.said)
        with torch.inference_mode():
            return list(self.parts.transformer.read_text(self.picture.features[None]))

    @property
    def devices(self) -> Drive | RowControl:
        """What keeps the player's doings until the next chunk."""
        return self.control or self.drive

    def _listen(self, action: Action) -> None:
        """Take note of what was done; a key's words count when the key goes down."""
        self.devices.feed(action)
        prompts = self.file.prompts
        for button in sorted(action.buttons - self.held):
            if button in prompts.keys:
                self.prompt = Prompt(prompts.keys[button], renew=prompts.renew)
        self.held = action.buttons
        self.prompt = action.prompt or self.prompt

    def _hear(self) -> None:
        """Let the last thing that was said steer from here on."""
        if self.prompt is None:
            return
        prompt, self.prompt = self.prompt, None
        text = self.file.prompts.full(prompt.text, self.start.opening)
        try:
            words = self.read(text)
        except UserError as error:
            self.notice = str(error)  # play goes on under the words before
            return
        self.said = text
        (self.rollout.say_anew if prompt.renew else self.rollout.say)(words)

    def _draw(self, cameras: Tensor) -> None:
        latents = self.rollout.denoise(cameras, self._conditions())
        self.latents.extend(latents.split(1, dim=1))
        self._is_remembered = False

    def _conditions(self) -> FrameConditions | None:
        """What the next chunk of an image-to-video world is given."""
        sizes = self.file.transformer.picture
        if self.control is None or self.picture is None or sizes is None:
            return None
        frames = self.file.window.chunk_frames
        channels = self.picture.channels(self.rollout.cache.now, frames, sizes.mask_channels)
        return FrameConditions(channels, *self.control.next(frames))

    def _next_frame(self) -> Frame:
        if not self.frames:
            began = time.perf_counter()
            latent = rearrange(self.latents.popleft(), "b f c h w -> b c f h w")
            frames = as_bytes(self.stream.decode(latent))
            shown = rearrange(frames, "1 c t h w -> t h w c").contiguous().cpu().numpy()
            if not bool(torch.isfinite(latent).all()):  # a GPU has just been waited for
                raise WorldFaultError("its latents hold values that are not numbers")
            self.frames.extend(np.asarray(shown, np.uint8))
            decode = 1000 * (time.perf_counter() - began)
            self.split = replace(self.split, decode=self.split.decode + decode)
        return self.frames.popleft()


def _memory(tensor: Tensor) -> Memory:
    """Where a tensor's numbers lie, and how."""
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _on_host(tensor: Tensor) -> NDArray[Any]:
    """A copy that nobody writes to; bfloat16 as the 16 bits that it is."""
    found = as_array(tensor.detach().cpu())
    return np.array(found) if tensor.device.type == "cpu" else found
