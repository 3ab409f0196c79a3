"""How each kind of released model is sampled. The tensors do not say it, so a recipe does.

Step lists are the training configs': 1000 is pure noise, and an entry d stands for the level that
shift 5 makes of d / 1000: 1000, 750, 500, 250 are played at 1000, 937.5, 833.3 and 625.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worldmodel.model.configs import SamplerConfig
from worldmodel.wan.model_config import WanConfig, WindowConfig

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
    chunk_frames: int
    window_frames: int
    sink_frames: int
    cameras: bool = False
    renoise: bool = True  # false: a teacher, which follows its velocity
    # Of models with an action module: what their tensors show, and their own frames.
    keys: int = 0
    mouse: int = 0
    action_layers: int = 0
    action_frames: int = 0  # the window of attention to keys and mouse
    networks: tuple[str, ...] = ()  # that its file holds, where tensors alone do not tell it
    is_other: bool = False  # whether another recipe is taken for these tensors if none is named
    rows: int = 60  # latents of 480 x 832 pixels, what Wan's text-to-video students know
    columns: int = 104
    frames_per_second: float = 16.0

    def fits(self, config: WanConfig) -> bool:
        """Whether a model of these sizes is of this kind."""
        actions = config.actions
        found = (len(actions.layers), actions.keys, actions.mouse) if actions else (0, 0, 0)
        is_video = config.cameras == self.cameras and (config.picture is None) == (not self.keys)
        return is_video and found == (self.action_layers, self.keys, self.mouse)

    @property
    def is_whole(self) -> bool:
        """Whether whole clips are drawn at once, their later frames being seen too."""
        return self.chunk_frames == self.window_frames

    @property
    def window(self) -> WindowConfig:
        """What is drawn at once and what it sees."""
        return WindowConfig(
            rows=self.rows,
            columns=self.columns,
            chunk_frames=self.chunk_frames,
            window_frames=self.window_frames,
            sink_frames=self.sink_frames,
            action_frames=self.action_frames,
        )

    @property
    def sampler(self) -> SamplerConfig:
        """The noise levels at which a chunk is denoised."""
        return SamplerConfig(sigmas=warped_sigmas(self.steps), renoise=self.renoise)

    @property
    def first_sampler(self) -> SamplerConfig:
        """How the first chunk of a session is denoised."""
        return SamplerConfig(sigmas=warped_sigmas(self.first_steps), renoise=self.renoise)


FOUR, THREE = (1000, 750, 500, 250), (1000, 666, 333)
TWO, ONE = (1000, 500), (1000,)
FIFTY = tuple(range(1000, 0, -20))
STEPS = {4: FOUR, 2: TWO, 1: ONE}  # the lists that students were trained on


def _matrix_game(**values: Any) -> ReleasedSampler:
    """What Matrix-Game 2's descendants share: 352 x 640 pixels, keys and mouse, chunks of three."""
    shared = {
        "chunk_frames": 3,
        "sink_frames": 0,
        "first_steps": values["steps"],
        "mouse": 2,
        "action_layers": 15,
        "action_frames": values["window_frames"],
        "rows": 44,
        "columns": 80,
        "frames_per_second": 12.0,
    }
    return ReleasedSampler(**shared | values)


# Windows and sinks add up to the frames of a training clip (21; minWM 20): within it nothing is
# left out, and later no frame meets an age that training has not shown.
RECIPES = {
    "framewise-4step": ReleasedSampler(
        about="Causal-Forcing framewise/causal_forcing.pt",
        steps=FOUR, first_steps=FOUR, chunk_frames=1, window_frames=18, sink_frames=3,
    ),
    "framewise-2step": ReleasedSampler(
        about="Causal-Forcing causal-forcing++/framewise-2step.pt",
        steps=TWO, first_steps=FOUR, chunk_frames=1, window_frames=18, sink_frames=3,
    ),
    "framewise-1step": ReleasedSampler(
        about="Causal-Forcing causal-forcing++/framewise-1step.pt",
        steps=ONE, first_steps=FOUR, chunk_frames=1, window_frames=18, sink_frames=3,
    ),
    "chunkwise-4step": ReleasedSampler(
        about="Causal-Forcing chunkwise/causal_forcing.pt and longvideo.pt",
        steps=FOUR, first_steps=FOUR, chunk_frames=3, window_frames=18, sink_frames=3,
    ),
    "action2v": ReleasedSampler(
        about="minWM Wan21/Action2V/dmd/model.pt (and its other stages)",
        steps=FOUR, first_steps=FOUR, chunk_frames=4, window_frames=20, sink_frames=0,
        cameras=True,
    ),
    "teacher-framewise": ReleasedSampler(
        about="Causal-Forcing framewise/ar_diffusion.pt, without guidance",
        steps=FIFTY, first_steps=FIFTY, chunk_frames=1, window_frames=18, sink_frames=3,
        renoise=False,
    ),
    "teacher-chunkwise": ReleasedSampler(
        about="Causal-Forcing chunkwise/ar_diffusion.pt, without guidance",
        steps=FIFTY, first_steps=FIFTY, chunk_frames=3, window_frames=18, sink_frames=3,
        renoise=False,
    ),
    "bidirectional": ReleasedSampler(
        about="Wan2.1-T2V as Alibaba released it, a whole clip of 81 frames at a time, no guidance",
        steps=FIFTY, first_steps=FIFTY, chunk_frames=21, window_frames=21, sink_frames=0,
        renoise=False,
    ),
    # Matrix-Game 2 plays with the window that it was distilled with. Of ForgeWM's third stage the
    # author's own pipeline shows whole clips of 21 frames; 9 and 6 are nearest to its training.
    "matrix-game2": _matrix_game(
        about="Matrix-Game-2.0 base_distilled_model/base_distill.safetensors",
        steps=THREE, window_frames=6, keys=4,
    ),
    "matrix-game2-gta": _matrix_game(
        about="Matrix-Game-2.0 gta_distilled_model/gta_keyboard2dim.safetensors",
        steps=THREE, window_frames=4, keys=2,
    ),
    "matrix-game2-templerun": _matrix_game(
        about="Matrix-Game-2.0 templerun_distilled_model/templerun_7dim_onlykey.safetensors",
        steps=FOUR, window_frames=6, keys=7, mouse=0,
    ),
    "forgewm": _matrix_game(
        about="ForgeWM stage3/model.pt", steps=FOUR, window_frames=9, action_frames=6, keys=6,
    ),
    "forgewm-clip": _matrix_game(
        about="ForgeWM stage3/model.pt as its own pipeline shows it, clips of 21 latent frames",
        steps=FOUR, window_frames=21, action_frames=15, keys=6, is_other=True,
    ),
    "forgewm-consistency": _matrix_game(
        about="ForgeWM stage2/model.pt", networks=("generator_ema",),
        steps=FOUR, window_frames=21, keys=6, action_layers=30,
    ),
    "forgewm-teacher": _matrix_game(
        about="ForgeWM stage1/model.pt, without guidance",
        steps=FIFTY, window_frames=21, keys=6, action_layers=30, renoise=False,
    ),
    "forgewm-bidirectional": _matrix_game(
        about="ForgeWM stage0/model.pt and Matrix-Game-2.0 base_model, whole clips, no guidance",
        steps=FIFTY, chunk_frames=21, window_frames=21, keys=6, action_layers=30, renoise=False,
    ),
}  # fmt: skip
