"""The whole recipe on tiny episodes, and what looks at a run of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, write_episodes
from worldmodel.config import to_toml
from worldmodel.model.configs import SamplerConfig
from worldmodel.training.autoencoder import AutoencoderTraining
from worldmodel.training.bidirectional import BidirectionalTraining, WholeClips
from worldmodel.training.consistency import StudentTraining
from worldmodel.training.decoder import DecoderTraining, OwnPlay
from worldmodel.training.dmd import DmdTraining, OwnRollouts
from worldmodel.training.export import WorldExport
from worldmodel.training.ode import OdeTraining
from worldmodel.training.run_stage import run_stage
from worldmodel.training.stage import CriticisedStage, LoopConfig, Stage
from worldmodel.training.teacher_forcing import ClipTraining, TeacherTraining
from worldmodel.training.train_loop import train
from worldmodel.training.train_state import TrainState
from worldmodel.training.trajectories import OdeTrajectories

LOOP = LoopConfig(
    steps=60,
    learning_rate=3e-3,
    warmup_steps=5,
    dtype="float32",
    log_every=5,
    save_every=20,
    sample_every=60,
    ema_decay=0.9,
)
SAMPLER = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)
CLIPS = ClipTraining(batch=8, frames=6, copies=2, noisy_history=0.3, own_history=0.3)


def autoencoder_training(root: Path, **loop: Any) -> AutoencoderTraining:
    """Of two episodes in `root`, which are unseen ones too."""
    data = write_episodes(root / "data", count=2)
    return AutoencoderTraining(
        stage="autoencoder",
        data=data,
        heldout=data,
        model=AUTOENCODER,
        loop=replace(LOOP, **loop),
        batch=4,
    )


STAGES = ("autoencoder", "decoder", "bidirectional", "teacher", "student", "ode", "dmd")


def run_recipe(root: Path) -> Path:
    """Run all stages once; the tests look at what they left."""
    data = write_episodes(root / "data")
    unseen = write_episodes(root / "unseen", count=4, first=100)
    latent: dict[str, Any] = {
        "heldout": unseen,
        "autoencoder": root / "runs" / "autoencoder",
        "actions": SPEC,
        "model": MODEL,
    }
    configs = {
        "autoencoder": AutoencoderTraining(
            stage="autoencoder",
            data=data,
            heldout=unseen,
            model=AUTOENCODER,
            loop=replace(LOOP, steps=240),
            batch=16,
            frame_stride=2,
        ),
        "teacher": TeacherTraining(
            stage="teacher",
            **latent,
            data=data,
            clips=CLIPS,
            loop=replace(LOOP, steps=120, muon_learning_rate=0.02),
        ),
        "student": StudentTraining(
            stage="student",
            **latent,
            data=data,
            teacher=root / "runs" / "teacher",
            clips=CLIPS,
            loop=replace(LOOP, steps=20),
            levels=4,
        ),
        "bidirectional": BidirectionalTraining(
            stage="bidirectional",
            **latent,
            data=data,
            clips=WholeClips(batch=8, frames=6, known=2),
            loop=replace(LOOP, steps=120, muon_learning_rate=0.02),
            start=root / "runs" / "teacher",
        ),
        "ode_trajectories": OdeTrajectories(
            stage="ode_trajectories",
            data=data,
            autoencoder=root / "runs" / "autoencoder",
            teacher=root / "runs" / "teacher",
            actions=SPEC,
            model=MODEL,
            clips=20,
            frames=6,
            sigmas=(1.0, 0.5),
            steps=4,
            shard=8,
            batch=5,
        ),
        "ode": OdeTraining(
            stage="ode",
            **latent,
            teacher=root / "runs" / "teacher",
            trajectories=root / "runs" / "ode_trajectories",
            batch=8,
            loop=replace(LOOP, steps=60),
        ),
        "dmd": DmdTraining(
            stage="dmd",
            **latent,
            data=data,
            student=root / "runs" / "student",
            real=root / "runs" / "bidirectional",
            rollouts=OwnRollouts(batch=4, frames=8, sampler=SAMPLER, idle=0.25, nearness=2.0),
            truth=0.5,
            loop=replace(LOOP, steps=24, learning_rate=1e-3, betas=(0.0, 0.999)),
            critic_learning_rate=1e-3,
            critic_updates=2,
        ),
        "decoder": DecoderTraining(
            stage="decoder",
            data=data,
            heldout=unseen,
            autoencoder=root / "runs" / "autoencoder",
            loop=replace(LOOP, steps=100, learning_rate=1e-3, sample_every=100),
            batch=16,
            discriminator_weight=0.01,  # on frames this small it soon wins
            own_play=OwnPlay(student=root / "runs" / "ode", sampler=SAMPLER, clips=8, frames=4),
        ),
        "world": WorldExport(
            stage="world",
            name="tiny",
            title="A bar",
            licence="none",
            notice=root / "NOTICE",
            student=root / "runs" / "dmd",
            decoder=root / "runs" / "decoder",
            sampler=SAMPLER,
            frames_per_second=10.0,
            starts={f"{data}/000.safetensors@3": "the bar"},
            start_frames=6,
            game={},
            made_by="a test",
        ),
    }
    (root / "NOTICE").write_text("nothing to say")
    for name, config in configs.items():
        (root / f"{name}.toml").write_text(to_toml(config), encoding="utf-8")
        folder = root / "world" if name == "world" else root / "runs" / name
        run_stage(root / f"{name}.toml", folder, threads=1)
    return root


def metrics(folder: Path, key: str) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line[key] for line in lines if key in line]


class KillAfter:
    """A stage that dies in the middle of a step."""

    def __init__(self, stage: Stage, steps: int) -> None:
        self.stage, self.steps = stage, steps
        self.student, self.ema = stage.student, stage.ema
        if isinstance(stage, CriticisedStage):
            self.critic = stage.critic

    def train(self, loop: LoopConfig, folder: Path) -> TrainState:
        return train(self, loop, folder)

    def compile(self) -> None:
        self.stage.compile()

    def loss(
        self, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if step == self.steps:
            raise KeyboardInterrupt
        return self.stage.loss(step, generator)

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        return self.stage.sample(folder, step)
