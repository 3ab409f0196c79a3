"""From what a player does during several frames to what one chunk of latents is given.

    drive = Drive(world.camera, chunk_frames=1)
    drive.feed(action)                       # once a frame
    cameras = drive.cameras()                # once a chunk: projections 1 f 4 4

A button that was down in any frame since the last chunk moves the camera for the whole chunk, so no
tap is lost; mouse travel adds up and is spread over the chunk's latent frames.
"""

import math

import torch
from torch import Tensor

from worldmodel.action import Action
from worldmodel.wan.camera import CameraMotion, CameraPath
from worldmodel.worlds.wan.world_file import CameraConfig


class Drive:
    """The camera of one session and what has been done since the last chunk."""

    def __init__(
        self, config: CameraConfig, chunk_frames: int, most_degrees: float = math.inf
    ) -> None:
        self.config, self.chunk_frames = config, chunk_frames
        self.most_degrees = most_degrees  # of mouse travel that count in a chunk
        self.path = CameraPath(config.focal)
        self.held: set[str] = set()
        self.mouse = (0.0, 0.0)

    def feed(self, action: Action) -> None:
        """What was done during one frame."""
        self.held |= action.buttons
        self.mouse = self.mouse[0] + action.mouse[0], self.mouse[1] + action.mouse[1]

    def cameras(self) -> Tensor:
        """Move on by one chunk: projections 1 f 4 4."""
        motion = self._motion()
        self.held, self.mouse = set(), (0.0, 0.0)
        seen = []
        for _ in range(self.chunk_frames):
            self.path.walk(motion)
            seen.append(self.path.projection())
        return torch.cat(seen, dim=1)

    def first_cameras(self, frames: int) -> Tensor:
        """A camera that stands where the session begins: projections 1 f 4 4."""
        return self.path.projection().expand(1, frames, 4, 4)

    def _motion(self) -> CameraMotion:
        """The camera's motion in each latent frame of the chunk."""
        most = self.most_degrees
        right, down = (min(max(degrees, -most), most) for degrees in self.mouse)
        motion = CameraMotion(yaw=right / self.chunk_frames, pitch=-down / self.chunk_frames)
        for button in sorted(self.held.intersection(self.config.motions)):
            motion += CameraMotion(*self.config.motions[button])
        return motion
