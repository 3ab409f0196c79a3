"""What the stages read from their TOML files where `[model] kind = "wan"`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from worldmodel.config import (
    ConfigError,
    load_config,
    require_at_most,
    require_no_less,
    require_positive,
)
from worldmodel.model.configs import SamplerConfig
from worldmodel.system.limits import MOST_BATCH
from worldmodel.training.stage import LoopConfig
from worldmodel.wan.lora import LoraConfig
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.samplers import SHIFT


@dataclass(frozen=True, kw_only=True, slots=True)
class WanModel:
    """Which transformer, on latents of which size, and what a chunk of them sees."""

    FORMERLY: ClassVar[dict[str, str]] = {"block_frames": "chunk_frames"}
    kind: Literal["wan"]
    size: Path  # the TOML file of a `WanConfig`, for instance configs/wan/wan-1.3b.toml
    rows: int  # of latents
    columns: int
    chunk_frames: int = 1  # drawn together; 1 is frame-wise
    window_frames: int = 18
    sink_frames: int = 3
    action_frames: int = 0  # the window of attention to keys and mouse; 0: the same

    @property
    def window(self) -> WindowConfig:
        """The window as `WindowConfig`, which play takes too."""
        return WindowConfig(
            rows=self.rows,
            columns=self.columns,
            chunk_frames=self.chunk_frames,
            window_frames=self.window_frames,
            sink_frames=self.sink_frames,
            action_frames=self.action_frames,
        )

    def load_size(self) -> WanConfig:
        """The shape of the weights, as the file `size` has it."""
        return load_config(WanConfig, self.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class WanClips:
    """How training clips are cut and made noisy."""

    batch: int
    frames: int  # latent frames, from a clip's beginning; at most what the latents have
    prompt_dropout: float = 0.1  # share of clips without their words, so that words can guide
    shift: float = SHIFT  # of the 1 000 noise levels

    def __post_init__(self) -> None:
        require_positive(self, "batch", "frames")
        require_at_most(self, MOST_BATCH, "batch")
        if not 0 <= self.prompt_dropout <= 1 or self.shift <= 0:
            raise ConfigError(
                f"prompt_dropout ({self.prompt_dropout}) must be between 0 and 1, shift "
                f"({self.shift}) above 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What is drawn to look at while a stage trains."""

    sampler: SamplerConfig
    clips: int = 2  # the first of the unseen ones
    frames: int = 0  # of each; 0: as many as clips of training have
    vae: Path | None = None  # a file or a world; without it there are figures only


@dataclass(frozen=True, kw_only=True, slots=True)
class WanTraining:
    """What every stage reads. A `start` is a world, a file of weights or a finished run."""

    stage: str
    data: Path  # the run of the stage `latents`
    model: WanModel
    clips: WanClips
    loop: LoopConfig
    heldout: Path | None = None  # another, of clips that are not trained on
    lora: LoraConfig | None = None  # none: all weights are trained
    preview: Preview | None = None

    def __post_init__(self) -> None:
        window, size = self.model.window, self.model.load_size()
        window.tokens(size)
        if self.clips.frames % window.chunk_frames:
            raise ConfigError(
                f"[clips] frames ({self.clips.frames}) must be a multiple of chunk_frames "
                f"({window.chunk_frames})"
            )
        if self.preview and self.preview.frames % window.chunk_frames:
            raise ConfigError(
                f"[preview] frames ({self.preview.frames}) must be a multiple of chunk_frames "
                f"({window.chunk_frames})"
            )
        if self.loop.muon_learning_rate:
            raise ConfigError(
                "muon_learning_rate is for networks trained from nothing; leave it out for Wan"
            )
        if self.loop.compile:
            raise ConfigError("compile = true is not offered for Wan yet; set it to false")


@dataclass(frozen=True, kw_only=True, slots=True)
class WanTeacherTraining(WanTraining):
    """The stage `teacher`: the next chunk from a clean past, at any noise level."""

    stage: Literal["teacher"]
    start: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class WanBidirectionalTraining(WanTraining):
    """The stage `bidirectional`: whole clips, later frames seen too; the real score of `dmd`."""

    stage: Literal["bidirectional"]
    start: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class WanStudentTraining(WanTraining):
    """The stage `student`: consistency distillation of the teacher."""

    stage: Literal["student"]
    teacher: Path
    levels: int = 48  # N
    level_shift: float = SHIFT
    guidance: float = 3.0  # of the teacher on the prompt

    def __post_init__(self) -> None:
        super(WanStudentTraining, self).__post_init__()  # slots make a new class
        require_positive(self, "levels")
        if self.levels < 2:
            raise ConfigError(f"levels ({self.levels}) must be at least 2")


@dataclass(frozen=True, kw_only=True, slots=True)
class WanOdeTraining(WanTraining):
    """The stage `ode`: a regression on stored trajectories of the teacher."""

    stage: Literal["ode"]
    teacher: Path
    trajectories: Path  # the run of the stage `ode_trajectories`


@dataclass(frozen=True, kw_only=True, slots=True)
class WanDmdTraining(WanTraining):
    """The stage `dmd`: the student learns from its own play."""

    stage: Literal["dmd"]
    student: Path  # a run of `student` or `ode`: what it begins with
    real: Path  # a run of `bidirectional`, or a released bidirectional model: the real score
    sampler: SamplerConfig  # of play
    critic_learning_rate: float
    real_size: Path | None = None  # where `real` is of another size than the student
    critic: Path | None = None  # what the critic begins with; none: `real`, at its size
    critic_updates: int = 5
    guidance: float = 4.0
    level_shift: float = SHIFT
    least_level: float = 0.02

    def __post_init__(self) -> None:
        super(WanDmdTraining, self).__post_init__()  # slots make a new class
        require_positive(self, "critic_updates")
        require_no_less(self, 0, "critic_learning_rate")
        if not 0 < self.least_level < 0.5 or self.level_shift <= 0:
            raise ConfigError(
                f"least_level ({self.least_level}) must be between 0 and 0.5, level_shift "
                f"({self.level_shift}) above 0"
            )
        plain = self.sampler.guidance == 1.0 and self.sampler.context_sigma == 0
        if not plain or self.sampler.latent_step or self.sampler.cache_from_last_step:
            raise ConfigError(
                "[sampler] of a Wan student has sigmas, first_sigmas and renoise only: play of Wan "
                "worlds does nothing else"
            )
        if (self.real_size is None) != (self.critic is None):
            raise ConfigError(
                "real_size and critic belong together: a real score of another size leaves the "
                "critic without weights to begin with, and one of the same size lends its own"
            )
