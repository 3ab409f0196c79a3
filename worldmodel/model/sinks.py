"""The sinks: the first frames ever shown, which stay in sight for good (arXiv 2309.17453).

Once the window has moved on, they are seen at a time just before it, never further away than in
training: their keys, kept as they came, are rotated there.
"""

from functools import lru_cache

import torch
from torch import Tensor

from worldmodel.model.configs import ModelConfig
from worldmodel.model.rotary import apply_rope, time_angles


def pinned_time(config: ModelConfig, sink: int, now: int) -> int:
    """The time at which a query of the chunk that begins at `now` sees sink frame `sink`."""
    end = now + config.chunk_frames
    return max(sink, end - config.context_frames - config.sink_frames + sink)


def pin_sinks(config: ModelConfig, k: Tensor, now: int) -> Tensor:
    """Move the sinks' keys ... t e to where a query of the chunk that begins at `now` sees them."""
    cos, sin = _sink_rope(config, now, k.device)
    return apply_rope(k.float(), cos, sin).to(k.dtype)


@lru_cache(maxsize=512)
@torch.inference_mode(mode=False)
def _sink_rope(config: ModelConfig, now: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines t e/2 of how far the sinks have moved."""
    moved_by = torch.tensor([pinned_time(config, s, now) - s for s in range(config.sink_frames)])
    angles = time_angles(config, moved_by).repeat_interleave(config.tokens_per_frame, dim=0)
    return angles.cos().to(device), angles.sin().to(device)
