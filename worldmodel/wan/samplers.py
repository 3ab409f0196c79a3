"""How each kind of released model is sampled. The tensors do not say it, so a recipe does.

Step lists are the training configs': 1000 is pure noise, and an entry d stands for the level that
shift 5 makes of d / 1000: 1000, 750, 500, 250 are played at 1000, 937.5, 833.3 and 625.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worldmodel.model.configs import SamplerConfig

SHIFT = 5.0
TICKS = 1000  # entries of step lists count thousandths


def warped_sigmas(steps: Sequence[int], shift: float = SHIFT) -> tuple[float, ...]:
    """Noise levels of a step list, and the 0 at its end (`schedule.sigma_grid`'s formula)."""
    plain = [step / TICKS for step in steps]
    return (*(shift * s / (1 + (shift - 1) * s) for s in plain), 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleasedSampler:
    """A kind of model: which files it belongs to, and how it is played."""

    about: str
    steps: tuple[int, ...]
    first_steps: tuple[int, ...]
    block_frames: int
    window_frames: int
    sink_frames: int
    cameras: bool = False
    renoise: bool = True  # false: a teacher, which follows its velocity

    @property
    def sampler(self) -> SamplerConfig:
        """The noise levels at which a block is denoised."""
        return SamplerConfig(sigmas=warped_sigmas(self.steps), renoise=self.renoise)

    @property
    def first_sampler(self) -> SamplerConfig:
        """How the first block of a session is denoised."""
        return SamplerConfig(sigmas=warped_sigmas(self.first_steps), renoise=self.renoise)


FOUR, TWO, ONE = (1000, 750, 500, 250), (1000, 500), (1000,)
FIFTY = tuple(range(1000, 0, -20))
STEPS = {4: FOUR, 2: TWO, 1: ONE}  # the lists that students were trained on

# Windows and sinks add up to the frames of a training clip (21; minWM 20): within it nothing is
# left out, and later no frame meets an age that training has not shown.
RECIPES = {
    "framewise-4step": ReleasedSampler(
        about="Causal-Forcing framewise/causal_forcing.pt",
        steps=FOUR, first_steps=FOUR, block_frames=1, window_frames=18, sink_frames=3,
    ),
    "framewise-2step": ReleasedSampler(
        about="Causal-Forcing causal-forcing++/framewise-2step.pt",
        steps=TWO, first_steps=FOUR, block_frames=1, window_frames=18, sink_frames=3,
    ),
    "framewise-1step": ReleasedSampler(
        about="Causal-Forcing causal-forcing++/framewise-1step.pt",
        steps=ONE, first_steps=FOUR, block_frames=1, window_frames=18, sink_frames=3,
    ),
    "chunkwise-4step": ReleasedSampler(
        about="Causal-Forcing chunkwise/causal_forcing.pt and longvideo.pt",
        steps=FOUR, first_steps=FOUR, block_frames=3, window_frames=18, sink_frames=3,
    ),
    "action2v": ReleasedSampler(
        about="minWM Wan21/Action2V/dmd/model.pt (and its other stages)",
        steps=FOUR, first_steps=FOUR, block_frames=4, window_frames=20, sink_frames=0,
        cameras=True,
    ),
    "teacher-framewise": ReleasedSampler(
        about="Causal-Forcing framewise/ar_diffusion.pt, without guidance",
        steps=FIFTY, first_steps=FIFTY, block_frames=1, window_frames=18, sink_frames=3,
        renoise=False,
    ),
    "teacher-chunkwise": ReleasedSampler(
        about="Causal-Forcing chunkwise/ar_diffusion.pt, without guidance",
        steps=FIFTY, first_steps=FIFTY, block_frames=3, window_frames=18, sink_frames=3,
        renoise=False,
    ),
    "bidirectional": ReleasedSampler(
        about="Wan2.1-T2V as Alibaba released it, a whole clip of 81 frames at a time, no guidance",
        steps=FIFTY, first_steps=FIFTY, block_frames=21, window_frames=21, sink_frames=0,
        renoise=False,
    ),
}  # fmt: skip
