"""A recipe: everything that a world is made of, in one TOML file (docs/training/recipe.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from worldmodel.config import (
    ConfigError,
    build_config,
    read_toml,
    require_at_most,
    require_no_less,
    require_positive,
)
from worldmodel.model.configs import SamplerConfig
from worldmodel.storage.files import is_name, plain
from worldmodel.system.limits import MOST_COUNTED
from worldmodel.system.printable import shown

# What a recipe may train, in any order in which each finds what it needs.
NEEDS: dict[str, tuple[str, ...]] = {
    "autoencoder": (),
    "teacher": ("autoencoder",),
    "teacher_longer": ("teacher",),  # the same stage goes on from its weights, with other settings
    "bidirectional": ("autoencoder",),
    "student": ("teacher",),
    "dmd": ("teacher", "bidirectional"),  # from the student, if there is one
    "decoder": ("autoencoder",),
    "events": ("autoencoder",),
}
TEACHERS = ("teacher_longer", "teacher")  # what others learn from: the first that a recipe has
DRAWS = ("dmd", "student", *TEACHERS)  # what can be played: the first that a recipe has
INTERPOLATION = "interpolation"  # takes no time; `[play] dmd_share` asks for it


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """How much of the game is recorded, by one process per core."""

    frames: int  # to train on
    heldout: int  # to measure on, of other seeds
    size: tuple[int, int]  # width, height of the frames
    episode_frames: int = 600  # of the longest episode
    minutes: float = 2.0  # that it takes, the check included: a guess, for the plan

    def __post_init__(self) -> None:
        require_positive(self, "frames", "heldout", "episode_frames")
        if min(self.size) < 1 or self.minutes < 0:
            raise ConfigError(
                f"size {list(self.size)} must be at least 1 x 1, minutes ({self.minutes}) at least "
                "0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Play:
    """How the world is played: what its `world.toml` will say."""

    sampler: SamplerConfig
    starts: int = 7  # places to begin, chosen among held-out episodes
    start_frames: int = 13
    palette: bool = False  # frames in the game's own colours, where it has few (`model.palette`)
    dmd_share: float = 1.0  # of what `dmd` changed in the weights it began with (`interpolation`)

    def __post_init__(self) -> None:
        require_positive(self, "starts", "start_frames")
        if not 0 < self.dmd_share <= 1:
            raise ConfigError(f"dmd_share ({self.dmd_share}) must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measuring:
    """A short evaluation against the real game at the end; 0 clips: none."""

    FORMERLY: ClassVar[dict[str, str]] = {
        "judge_clips": "inverse_dynamics_clips",
        "judge_steps": "inverse_dynamics_steps",
    }
    clips: int = 16
    next_clips: int = 64
    inverse_dynamics_clips: int = 96
    inverse_dynamics_steps: int = 400
    teacher_steps: int = 8
    drift_frames: int = 0
    minutes: float = 2.0  # that it takes: a guess, for the plan

    def __post_init__(self) -> None:
        require_no_less(self, 0, "clips", "drift_frames", "minutes")
        counts = ("next_clips", "inverse_dynamics_clips", "inverse_dynamics_steps", "teacher_steps")
        require_positive(self, *counts)
        require_at_most(self, MOST_COUNTED, "clips", "drift_frames", *counts)


@dataclass(frozen=True, slots=True)
class StagePart:
    """One `[[stages]]` table: a stage to train and its share of the time."""

    stage: str
    share: float  # of the minutes that are left to training; 0: it has steps of its own
    settings: Mapping[str, Any]  # what its config says beyond what all share


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that the command `make` reads."""

    name: str
    title: str
    licence: str
    notice: Path
    minutes: float  # for all of it
    record: Recording
    autoencoder: dict[str, Any]  # `AutoencoderConfig` without the frame's size
    model: dict[str, Any]  # `ModelConfig` without what follows from the game and the autoencoder
    stages: tuple[dict[str, Any], ...]
    play: Play
    evaluate: Measuring = field(default_factory=Measuring)
    doom: dict[str, Any] | None = None  # `levels`, and the rest of `DoomConfig`; or else
    gym: dict[str, Any] | None = None  # `GymConfig`, and the `player`
    actions: dict[str, Any] | None = None  # None: what the game says

    def __post_init__(self) -> None:
        if (self.doom is None) == (self.gym is None):
            raise ConfigError("expected one game, [doom] or [gym]")
        if not self.minutes > 0:
            raise ConfigError(f"minutes = {self.minutes}: must be above 0")
        if not is_name(self.name):
            raise ConfigError(
                f"name = {shown(self.name)}: it becomes a folder's, expected no path, for "
                f"instance {plain(self.name)}"
            )
        before: list[str] = []
        for part in self.parts:
            if missing := [need for need in NEEDS[part.stage] if need not in before]:
                raise ConfigError(f"the stage {part.stage} needs {missing[0]} before it")
            if part.stage in before:
                raise ConfigError(f"the stage {part.stage} is there twice")
            before.append(part.stage)
        if not any(stage in before for stage in DRAWS):
            raise ConfigError("a world needs the stages autoencoder and teacher at least")
        if self.play.dmd_share < 1 and "dmd" not in before:
            raise ConfigError(f"dmd_share = {self.play.dmd_share} needs the stage dmd")

    @property
    def parts(self) -> list[StagePart]:
        """The stages in the order in which they are trained."""
        found = []
        for number, table in enumerate(self.stages, start=1):
            rest = dict(table)
            stage, share = rest.pop("stage", None), rest.pop("share", 0.0)
            if not isinstance(stage, str) or stage not in NEEDS:
                raise ConfigError(f"stage {number}: {shown(stage)}; choose from {', '.join(NEEDS)}")
            loop = rest.get("loop", {})
            if not isinstance(loop, Mapping):
                raise ConfigError(f"the stage {stage}: loop = {shown(loop)}: expected a table")
            if not isinstance(share, int | float) or bool(share > 0) == bool(loop.get("steps")):
                raise ConfigError(
                    f"the stage {stage}: expected a share of the minutes above 0, or steps in "
                    "its loop"
                )
            found.append(StagePart(stage, float(share), rest))
        return found

    @property
    def played_stage(self) -> str:
        """The stage whose transformer is played."""
        if self.play.dmd_share < 1:
            return INTERPOLATION
        stages = {part.stage for part in self.parts}
        return next(stage for stage in DRAWS if stage in stages)


def read_recipe(path: Path, *, rehearse: bool = False) -> Recipe:
    """Read a recipe; to rehearse, the same one with everything small."""
    from worldmodel.recipe.rehearsal import shrink

    table = read_toml(path)
    recipe = build_config(Recipe, table, str(path))  # what is wrong is told of the file as it is
    return build_config(Recipe, shrink(table), str(path)) if rehearse else recipe
