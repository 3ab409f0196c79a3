"""A whole evaluation of a world: every part, said as it begins and kept as it ends.

All comparisons run the real game on seeds from `--seed` upwards, which no training uses, or read
episodes that were recorded of it (`real_play`); those cannot be played on, so long play and the
world's own starts are measured with the game alone. The inverse-dynamics model that reads actions
is trained here, on other real frames.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom
from worldmodel.evaluation.drift import (
    STREAMS,
    WINDOW,
    Drift,
    DriftWindow,
    Play,
    measure_drift,
    record_long_play,
)
from worldmodel.evaluation.facts import (
    drift_facts,
    next_facts,
    real_facts,
    rollout_facts,
    start_facts,
)
from worldmodel.evaluation.inverse_dynamics import (
    ActionReading,
    InverseDynamics,
    features_of,
    read_actions,
    train_inverse_dynamics,
)
from worldmodel.evaluation.kept_parts import KeptParts, say_nothing
from worldmodel.evaluation.quality import (
    HORIZONS,
    FreeRollout,
    NextFrame,
    Score,
    measure_next_frame,
    measure_rollout,
)
from worldmodel.evaluation.real_play import (
    APART,
    CLIPS,
    FRESH,
    LESSONS,
    LONG,
    NEXT,
    FromEpisodes,
    FromGame,
    Source,
)
from worldmodel.evaluation.reference_clips import Clips, check_state, game_of
from worldmodel.evaluation.start_pictures import FRAMES as START_FRAMES
from worldmodel.evaluation.start_pictures import FromStart, play_starts, save_starts
from worldmodel.evaluation.subject import Subjects, load_subjects
from worldmodel.metrics import Gaussian, frechet_distance
from worldmodel.system.printable import counted
from worldmodel.system.versions import code_version, installed_versions
from worldmodel.training.sample_grids import save_grid
from worldmodel.worlds.find import find_world
from worldmodel.worlds.run_settings import RunSettings, usual_threads

INVERSE_DYNAMICS_FRAMES = 160
INVERSE_DYNAMICS_CLIPS = 320
SEEN = 8  # frames of a clip that the model can read, at least


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured of one world."""

    world: str
    next_frame: NextFrame
    rollouts: dict[str, FreeRollout]
    real_frames: Tensor  # uint8 b g h w 3, what the rollouts stand for
    real_reading: ActionReading
    real_frechet: float
    drift: dict[str, Drift]
    starts: list[FromStart]
    turns: bool = True  # whether the mouse turns the view in this world
    is_quick: bool = False  # of the first table, whose amounts nobody chooses


@dataclass(frozen=True, slots=True)
class TrainedInverseDynamics:
    """What reads actions from frames, and real play as it sees it."""

    weights: dict[str, Tensor]
    reference: Gaussian


@dataclass(frozen=True, slots=True)
class RealPlay:
    """What the world is held against."""

    next_clips: Clips
    clips: Clips
    reading: ActionReading
    features: Tensor  # f d, of other real play


KINDS = (
    ActionReading,
    Clips,
    Drift,
    DriftWindow,
    FreeRollout,
    FromStart,
    Gaussian,
    TrainedInverseDynamics,
    NextFrame,
    RealPlay,
    Score,
)


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """How much of each part is measured, and with which seeds."""

    clips: int
    drift_frames: int
    seed: int
    teacher_steps: int
    next_clips: int = 320
    inverse_dynamics_clips: int = (
        INVERSE_DYNAMICS_CLIPS  # of real play, that the inverse-dynamics model learns from
    )
    inverse_dynamics_steps: int = 1200
    only_student: bool = False  # as it is played, without its other samplers and its teacher

    @classmethod
    def quick(cls, seed: int) -> "EvaluationPlan":
        """A first table in about two minutes; its inverse-dynamics model learns too little."""
        return cls(
            clips=6,
            drift_frames=0,
            seed=seed,
            teacher_steps=1,
            next_clips=32,
            inverse_dynamics_clips=6,
            inverse_dynamics_steps=3,
            only_student=True,
        )


def evaluate(
    name: str | None,
    plan: EvaluationPlan,
    out: Path | None = None,
    say: Callable[[str], None] = say_nothing,
    data: Path | None = None,
) -> Evaluation:
    """Measure a world against its real game, or against episodes of it in the folder `data`.

    Every part is said, and what it found is in the folder `out` when it ends: figures and pictures.
    """
    torch.set_num_threads(usual_threads())
    folder = find_world(name)
    subjects = load_subjects(folder, RunSettings(), plan.teacher_steps)
    file = subjects.file
    if data is not None:
        episodes = FromEpisodes(data, file, plan.seed)
        measuring = _Measuring(subjects, plan, episodes, folder, out, say)
        episodes.check(LESSONS, SEEN)  # before the model is taught for minutes
        episodes.check(CLIPS, measuring.past + SEEN)
        return measuring.measure()
    if not file.game:
        raise UserError(
            f"{file.name} names no real game that could be played beside it; --data FOLDER holds "
            "it against episodes that were recorded of it"
        )
    with Doom(game_of(file)) as game:
        check_state(file, game)
        source = FromGame(game, file.actions, plan.seed)
        return _Measuring(subjects, plan, source, folder, out, say).measure()


class _Measuring:
    """An evaluation on its way."""

    def __init__(
        self,
        subjects: Subjects,
        plan: EvaluationPlan,
        source: Source,
        folder: Path,
        out: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self.subjects, self.plan, self.source = subjects, plan, source
        self.folder, self.out = folder, out
        self.everyone = [subjects.student, *(() if plan.only_student else subjects.others)]
        self.spec = subjects.file.actions
        self.past = subjects.past
        self.frames = plan.drift_frames // WINDOW * WINDOW  # whole windows
        is_playable = source.game is not None
        self.plays: tuple[Play, ...] = ("idle", "random") if self.frames and is_playable else ()
        total = 4 + is_playable + len(self.everyone) + len(self.plays)
        self.parts = KeptParts(total, out, say, self._stamp(), KINDS)

    def measure(self) -> Evaluation:
        """All parts, one after the other; what an earlier call has kept is not measured again."""
        parts = self.parts
        parts.begin()
        parts.keep("world", self.subjects.file.name)
        inverse_dynamics, reference = self._learn_inverse_dynamics()
        real = parts.take(
            "real", "real play to measure against", lambda: self._real(inverse_dynamics)
        )
        reading, floor = real.reading, frechet_distance(real.features, reference)
        parts.keep("real", real_facts(reading, floor))
        near = parts.take(
            "next_frame",
            f"the next frame, {counted(len(self.everyone), 'sampler')}",
            lambda: measure_next_frame(self.subjects, self.everyone, real.next_clips),
        )
        parts.keep("next_frame", next_facts(near))
        rollouts = self._roll_out(real.clips, inverse_dynamics, reference)
        drift = self._drift(inverse_dynamics, reference)
        starts = self._starts()
        return Evaluation(
            world=self.subjects.file.name,
            next_frame=near,
            rollouts=rollouts,
            real_frames=real.clips.frames[:, self.past :],
            real_reading=reading,
            real_frechet=floor,
            drift=drift,
            starts=starts,
            turns=self.spec.look_left_right,
            is_quick=self.plan.only_student,
        )

    def _starts(self) -> list[FromStart]:
        """Play from the world's own starts beside the game, where there is one."""
        game, parts = self.source.game, self.parts
        if game is None:
            return []
        starts = parts.take(
            "starts",
            "from the world's own starts",
            lambda: play_starts(self.folder, self.subjects, game, START_FRAMES),
        )
        parts.keep("starts", start_facts(starts))
        if self.out is not None and starts:
            both = [frames for one in starts for frames in (one.world, one.real)]
            save_grid(self.out / "starts.png", [_stretched(frames[::8]) for frames in both])
            save_starts(starts, self.out, self.subjects.file.frames_per_second)
        return starts

    def _learn_inverse_dynamics(self) -> tuple[InverseDynamics, Gaussian]:
        """The inverse-dynamics model, and what real play looks like to it."""
        parts, plan = self.parts, self.plan
        label = f"real play to learn actions from, {counted(plan.inverse_dynamics_clips, 'clip')}"
        if parts.is_kept("inverse_dynamics"):
            parts.skip(label)
            lessons = None
        else:
            lessons = parts.take(
                "lessons",
                label,
                lambda: self.source.clips(
                    LESSONS, plan.inverse_dynamics_clips, INVERSE_DYNAMICS_FRAMES, SEEN
                ),
            )

        def learn() -> TrainedInverseDynamics:
            assert lessons is not None
            model = train_inverse_dynamics(lessons.pairs(), plan.inverse_dynamics_steps)
            return TrainedInverseDynamics(
                model.state_dict(), Gaussian.of(_features(model, lessons))
            )

        label = f"inverse dynamics learn, {counted(plan.inverse_dynamics_steps, 'step')}"
        kept = parts.take("inverse_dynamics", label, learn)
        if self.out is not None:
            parts.forget("lessons")
        shape = self.subjects.file.autoencoder
        model = InverseDynamics(len(self.spec.buttons), shape.frame_height, shape.frame_width)
        model.load_state_dict(kept.weights)
        return model.eval().requires_grad_(requires_grad=False), kept.reference

    def _real(self, inverse_dynamics: InverseDynamics) -> RealPlay:
        """What the world is held against."""
        plan = self.plan
        source, past = self.source, self.past
        fresh = source.clips(FRESH, plan.inverse_dynamics_clips // 2, INVERSE_DYNAMICS_FRAMES, SEEN)
        next_clips = source.clips(NEXT, plan.next_clips, past, past)
        clips = source.clips(CLIPS, plan.clips, past + max(HORIZONS), past + SEEN)
        reading = read_actions(inverse_dynamics, clips.pairs(self.past))
        return RealPlay(next_clips, clips, reading, _features(inverse_dynamics, fresh))

    def _stamp(self) -> str:
        """Changes with whatever a figure depends on."""
        facts = {
            "plan": asdict(self.plan),
            "world": dict(self.subjects.file.sha256),
            "sampler": asdict(self.subjects.file.sampler),
            "versions": installed_versions(),
            "code": code_version(),
            "data": self.source.stamp,
        }
        return json.dumps(facts, sort_keys=True)

    def _roll_out(
        self, clips: Clips, inverse_dynamics: InverseDynamics, reference: Gaussian
    ) -> dict[str, FreeRollout]:
        found: dict[str, FreeRollout] = {}
        for subject in self.everyone:
            measure = partial(
                measure_rollout,
                self.subjects,
                subject,
                clips,
                self.past,
                inverse_dynamics,
                reference,
            )
            name = f"rollout {subject.name}"
            found[subject.name] = self.parts.take(name, f"free rollouts, {subject.name}", measure)
            self.parts.keep("rollout", {k: rollout_facts(r) for k, r in found.items()})
            if self.out is not None:
                _save_rollouts(clips.frames[:, self.past :], found, self.out)
        return found

    def _drift(self, inverse_dynamics: InverseDynamics, reference: Gaussian) -> dict[str, Drift]:
        found: dict[str, Drift] = {}
        for play in self.plays:
            measure = partial(self._measure_drift, play, inverse_dynamics, reference)
            label = f"{play} play, {self.frames} frames"
            found[play] = self.parts.take(f"drift {play}", label, measure)
            self.parts.keep("drift", {k: drift_facts(drift) for k, drift in found.items()})
            if self.out is not None:
                _save_drift(play, found[play], self.out)
        return found

    def _measure_drift(
        self, play: Play, inverse_dynamics: InverseDynamics, reference: Gaussian
    ) -> Drift:
        visible, game = self.subjects.file.transformer.context_frames, self.source.game
        seed = self.plan.seed + LONG * APART
        assert game is not None, "episodes cannot be played on"
        long_play = record_long_play(game, self.spec, play, self.frames, seed, visible, STREAMS)
        return measure_drift(
            self.subjects, self.subjects.student, long_play, inverse_dynamics, reference
        )


def _features(inverse_dynamics: InverseDynamics, clips: Clips) -> Tensor:
    return torch.cat([features_of(inverse_dynamics, clip, stride=2) for clip in clips.frames])


def _save_rollouts(real: Tensor, rollouts: Mapping[str, FreeRollout], out: Path) -> None:
    rows = []
    for clip in range(min(6, len(real))):
        rows.append(real[clip, 3::4].numpy())
        rows += [rollout.frames[clip, 3::4].numpy() for rollout in rollouts.values()]
    save_grid(out / "rollouts.png", rows)


def _save_drift(play: str, drift: Drift, out: Path) -> None:
    pairs = []
    for made, seen in zip(drift.frames, drift.real_frames, strict=True):
        pairs += [made[::WINDOW].numpy(), seen[::WINDOW].numpy()]
    save_grid(out / f"drift_{play}.png", pairs)


def _stretched(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As many frames as all rows have: where the level ended, its last one stays."""
    missing = START_FRAMES // 8 + 1 - len(frames)
    return np.concatenate([frames, frames[-1:].repeat(missing, axis=0)])
