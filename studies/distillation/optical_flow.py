"""How much moves on the screen: optical flow (Farnebäck 2003), as OpenCV computes it."""

from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from worldmodel.metrics import brightness


def mean_flow(frames: Tensor) -> float:
    """Mean length of the flow from frame to frame, pixels a frame, of a clip uint8 f h w 3."""
    grey = brightness(frames).round().to(torch.uint8).numpy()
    lengths = []
    room = np.zeros((*grey.shape[1:], 2), np.float32)  # for the flow
    for before, after in pairwise(grey):
        flow = cv2.calcOpticalFlowFarneback(
            before,
            after,
            room,
            pyr_scale=0.5,
            levels=3,
            winsize=9,
            iterations=3,
            poly_n=5,
            poly_sigma=1.1,
            flags=0,
        )
        lengths.append(float(np.linalg.norm(flow, axis=-1).mean()))
    return float(np.mean(lengths))
