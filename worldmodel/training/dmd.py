"""Stage 3: asymmetric distribution matching distillation of a causal student.

The student plays on from a true start through the cached rollout of play (`self_play`). What it
has sampled, x, is noised to one level σ for the whole clip, and two bidirectional networks say what
it should have been: the frozen teacher, guided by the action, and a critic that knows the
student's play alone (DMD, arXiv 2311.18828, Eq. 7 and 8; DMD2, arXiv 2405.14867, §4; on
self-rollouts, Self Forcing, arXiv 2506.08009, §3.3; from a causal start, arXiv 2602.02214):

    x_σ  = (1 − σ) x + σ ε,                    f(x_σ) = x_σ − σ v(x_σ, σ)
    g    = (f_critic − f_real) / mean |x − f_real|,      f_real = f_u + w (f_c − f_u)
    L_θ  = ½ mean (x − sg(x − g))²             so that ∂L/∂x = g / numel
    L_ψ  = mean (v_critic(x_σ, σ) − (ε − x))²  several steps for each one of the student

Neither network knows what really came next, and the student forgets how exactly it once followed
the player. With `truth` τ a sampled frame of age a also has

    L_τ  = ½ τ 2^(−a / 4) mean (x − x_true)²

for of its first moments the past and the actions tell nearly all, of later ones ever less.

Clips of `frames` frames are cut from the rollout anywhere. Near its start they begin with true
frames, which stay clean and tell both networks where the player is; further on they have none, and
what counts is whether play of minute two still looks like play at all: that is what holds a
long rollout together. Frames before the clip are sampled without gradient. In a share of rollouts
the player lets go: a small error of a still frame returns in the next one, so it is standing still
that runs away first, and players in the data rarely stand for long.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, load_config, require_no_less, require_positive
from worldmodel.model.action_encoder import unconditional
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.context import Device
from worldmodel.model.transformer import WorldTransformer
from worldmodel.random_streams import choices
from worldmodel.training.bidirectional import (
    BidirectionalTraining,
    whole_velocity,
)
from worldmodel.training.latent_stage import LatentStage
from worldmodel.training.matching import DistributionMatching, PlayedClips, Truth
from worldmodel.training.runs import load_transformer
from worldmodel.training.self_play import Exit, let_go, let_go_of, self_play
from worldmodel.training.stage import Critic, LoopConfig
from worldmodel.training.train_loop import CONFIG

TRUTH_HALF_LIFE = 4  # frames of play after which what really came counts half


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnRollouts:
    """How the student plays while it learns."""

    batch: int
    frames: int  # sampled at most, after the true ones
    sampler: SamplerConfig  # of play
    idle: float = 0.0  # share of rollouts in which the player lets go of everything
    nearness: float = 1.0  # 1: clips are cut from anywhere alike; more: nearer the start

    def __post_init__(self) -> None:
        require_positive(self, "batch", "frames")
        if not 0 <= self.idle <= 1:
            raise ConfigError(f"idle ({self.idle}) must be between 0 and 1")
        if self.nearness < 1:
            raise ConfigError(f"nearness ({self.nearness}) must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class DmdTraining:
    """Everything that the stage `dmd` reads from its TOML file."""

    stage: Literal["dmd"]
    data: Path
    heldout: Path
    autoencoder: Path  # the run of the stage `autoencoder`
    student: Path  # a run of the stage `student` or `ode` (or `teacher`): what it begins with
    real: Path  # a run of the stage `bidirectional`: the real score, and the critic's beginning
    actions: ActionSpec
    model: ModelConfig
    rollouts: OwnRollouts
    loop: LoopConfig  # its steps count the critic's too
    critic_learning_rate: float
    critic_muon_learning_rate: float = 0.0
    critic_updates: int = 5  # for each one of the student
    guidance: float = 3.0  # w
    level_shift: float = 5.0  # of σ
    least_level: float = 0.02  # σ is held between this and one minus this
    truth: float = 0.0  # τ, how much what really came next counts

    def __post_init__(self) -> None:
        require_positive(self, "critic_updates")
        require_no_less(self, 0, "critic_learning_rate", "critic_muon_learning_rate")
        if not 0 < self.least_level < 0.5 or self.level_shift <= 0:
            raise ConfigError(
                f"least_level ({self.least_level}) must be between 0 and 0.5, level_shift "
                f"({self.level_shift}) above 0"
            )
        if self.truth < 0:
            raise ConfigError(f"truth ({self.truth}) must not be negative")


class DmdStage(DistributionMatching[WorldTransformer, Tensor], LatentStage):
    """The student and its average, the frozen teacher, the critic."""

    def __init__(self, config: DmdTraining, folder: Path, device: Device = "cpu") -> None:
        LatentStage.__init__(self, config, device)
        self.config = self.levels = config
        self.forward, self.renoise = whole_velocity, config.rollouts.sampler.renoise
        real = load_config(BidirectionalTraining, config.real / CONFIG)
        self.clips = real.clips
        self._check(real)
        self.data = self.encode(config.data, folder)
        self.reading = self.data.reading
        self.begin(config.student)
        self.real = load_transformer(config.real, real.model).to(device)
        self.fake = copy.deepcopy(self.real).requires_grad_(requires_grad=True)
        self.critic = Critic(
            self.fake,
            config.critic_updates,
            config.critic_learning_rate,
            config.critic_muon_learning_rate,
        )

    @property
    def past(self) -> int:
        """True frames before the first sampled one: what play is primed with."""
        return self.config.model.sink_frames + self.config.model.context_frames

    def unconditional(self, played: PlayedClips[Tensor]) -> Tensor:
        """Conditions b f z of a clip, as of one that nobody steers."""
        return unconditional(played.conditions)

    def play(self, step: int, generator: torch.Generator) -> PlayedClips[Tensor]:
        """Roll the student out and cut a clip, anywhere from its true start to its end.

        One place and one exit for all batches of a step, on whatever process: the number of passes
        follows from them, and processes that gather weights must pass as often as one another.
        They are drawn on the host, so that no shape waits for a GPU.
        """
        rollouts, clips, chunk = self.config.rollouts, self.clips, self.config.model.chunk_frames
        host = choices(self.config.loop.seed, self.config.stage, step, "rollout")
        leave = Exit.draw(rollouts.sampler, host)
        starts = (rollouts.frames + clips.known - clips.frames) // chunk
        # Of the clip, counted from the known frames.
        begin = chunk * int((starts + 1) * host.random() ** rollouts.nearness)
        length = begin + clips.frames - clips.known  # frames to draw
        latents, actions = self.data.clips(
            rollouts.batch,
            self.past + rollouts.frames,
            self.config.model.sink_frames,
            generator,
        )
        seen = self.config.model.seen_features
        actions = let_go(actions, self.past, rollouts.idle, seen)
        true = latents[:, : self.past], actions[:, : self.past]
        sampled = self_play(
            self.student,
            rollouts.sampler,
            true,
            actions[:, self.past : self.past + length],
            leave,
            range(max(0, begin - clips.known) // chunk, length // chunk),
            generator,
        )
        first = self.past - clips.known + begin
        whole = torch.cat((true[0], sampled), dim=1)[:, first:]
        known = max(0, clips.known - begin)
        acts = actions[:, first : first + clips.frames]
        truth = None
        if self.config.truth:
            ages = torch.arange(begin - clips.known, length, device=whole.device)
            weight = self.config.truth * 0.5 ** (ages / TRUTH_HALF_LIFE)
            conditional = ~let_go_of(len(whole), rollouts.idle, whole.device)
            truth = Truth(latents[:, first : first + clips.frames], conditional[:, None] * weight)
        known_frames = torch.full((len(whole),), known, device=whole.device)
        return PlayedClips(whole, acts, known_frames, truth)

    def _check(self, real: BidirectionalTraining) -> None:
        """Refuse a real score of other latents or actions, and clips that no rollout holds."""
        config, chunk = self.config, self.config.model.chunk_frames
        if real.autoencoder.resolve() != config.autoencoder.resolve():
            raise ConfigError(
                f"{config.real} scores the latents of {real.autoencoder}; this student draws "
                f"those of {config.autoencoder}"
            )
        if real.actions != config.actions:
            raise ConfigError(f"{config.real} has learned other [actions] than this config names")
        if not real.clips.action_dropout and config.guidance != 1.0:
            raise ConfigError(
                f"guidance = {config.guidance} needs a model `real` trained with action_dropout; "
                f"{config.real} was not"
            )
        lengths = (config.rollouts.frames, real.clips.known, real.clips.frames)
        if any(length % chunk for length in lengths):
            raise ConfigError(
                f"rollouts.frames ({lengths[0]}), and known ({lengths[1]}) and frames "
                f"({lengths[2]}) of {config.real} must be multiples of chunk_frames ({chunk})"
            )
        if lengths[0] + lengths[1] < lengths[2]:
            raise ConfigError(
                f"rollouts.frames ({lengths[0]}) and the {lengths[1]} known ones are fewer than "
                f"the {lengths[2]} frames of the clips that {config.real} scores"
            )
        if real.clips.known > config.model.context_frames:
            raise ConfigError(
                f"{config.real} is shown {real.clips.known} known frames, play is primed with "
                f"{config.model.context_frames}"
            )
