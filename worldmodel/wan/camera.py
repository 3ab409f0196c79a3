"""Cameras: how a latent frame's motion becomes a pose, and a pose what attention is given.

PRoPE (arXiv 2507.10496) tells attention where each frame was seen from: P = lift(K) w2c, a 4 x 4
matrix a frame, with K = diag(fx, fy, 1). Every group of 4 channels is multiplied: Pᵀ q, P⁻¹ k,
P⁻¹ v, and P on what was attended to. Only P_i P_j⁻¹ counts, so the world's origin is free:
`CameraPath` moves it along with the player, and numbers stay small in sessions of any length.

Axes as in OpenCV: x right, y down, z forward. Poses are kept in fp64, given out in fp32.

Letter of its own: j groups of 4 channels.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

FARTHEST = 1.6  # units from the anchor before it moves; training clips are 1.52 long at most


@dataclass(frozen=True, slots=True)
class CameraMotion:
    """What the camera does during one latent frame, seen from itself: first it turns, then moves.

    Yaw is positive to the right, pitch upwards, in degrees; units are those of the training poses.
    """

    right: float = 0.0
    down: float = 0.0
    forward: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0

    def __add__(self, other: "CameraMotion") -> "CameraMotion":
        return CameraMotion(
            self.right + other.right,
            self.down + other.down,
            self.forward + other.forward,
            self.yaw + other.yaw,
            self.pitch + other.pitch,
        )

    def __mul__(self, share: float) -> "CameraMotion":
        parts = (self.right, self.down, self.forward, self.yaw, self.pitch)
        return CameraMotion(*(share * part for part in parts))


def motion_matrix(motion: CameraMotion) -> Tensor:
    """The camera after `motion` in the frame of the camera before it: 4 4, fp64."""
    yaw, pitch = math.radians(motion.yaw), math.radians(motion.pitch)
    turn_y = torch.tensor(
        [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    ).double()
    turn_x = torch.tensor(
        [
            [1, 0, 0],
            [0, math.cos(pitch), -math.sin(pitch)],
            [0, math.sin(pitch), math.cos(pitch)],
        ]
    ).double()
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = turn_y @ turn_x
    step = torch.tensor([motion.right, motion.down, motion.forward], dtype=torch.float64)
    matrix[:3, 3] = matrix[:3, :3] @ step
    return matrix


class CameraPath:
    """Where the camera is, counted from an anchor that follows it."""

    def __init__(self, focal: tuple[float, float]) -> None:
        self.pose = torch.eye(4, dtype=torch.float64)  # camera to anchor
        self._lens = torch.diag(torch.tensor([*focal, 1.0, 1.0], dtype=torch.float64))

    def walk(self, motion: CameraMotion) -> None:
        """Go on by one latent frame."""
        self.pose = self.pose @ motion_matrix(motion)

    def projection(self) -> Tensor:
        """P of the camera as it is now: 1 1 4 4, fp32."""
        return (self._lens @ torch.linalg.inv(self.pose)).float()[None, None]

    def take_far_anchor(self) -> Tensor | None:
        """When far away, begin anew at this camera: its pose (4 4) in the old frame, else None."""
        if float(self.pose[:3, 3].norm()) < FARTHEST:
            return None
        old, self.pose = self.pose, torch.eye(4, dtype=torch.float64)
        return old


def no_cameras(batch: int, frames: int, device: torch.device | str = "cpu") -> Tensor:
    """Projections b f 4 4 of a camera that never moves."""
    return torch.eye(4, device=device).expand(batch, frames, 4, 4)


def move(x: Tensor, matrix: Tensor) -> Tensor:
    """One matrix 4 4 times every group of channels of ... e, in fp32."""
    groups = rearrange(x.float(), "... (j i) -> ... j i", i=4)
    return rearrange(groups @ matrix.float().mT, "... j i -> ... (j i)").to(x.dtype)


def see_through(x: Tensor, matrices: Tensor) -> Tensor:
    """Each frame's matrix b f 4 4 times every group of its tokens b n t e, in fp32."""
    frames = matrices.shape[1]
    groups = rearrange(x.float(), "b n (f p) (j i) -> b n f (p j) i", f=frames, i=4)
    seen = groups @ matrices.float().mT[:, None]
    return rearrange(seen, "b n f (p j) i -> b n (f p) (j i)", j=x.shape[-1] // 4).to(x.dtype)
