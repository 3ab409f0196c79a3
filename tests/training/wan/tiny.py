"""A tiny Wan, a tiny walk, and the configs of all stages on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.worlds.wan.wan_tiny import lively, make_wan_world, save_vae, save_words
from worldmodel.action import Action
from worldmodel.config import to_toml
from worldmodel.model.configs import SamplerConfig
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import save_episode
from worldmodel.training.run_stage import run_stage
from worldmodel.training.stage import LoopConfig
from worldmodel.training.wan.export import WanExport
from worldmodel.training.wan.latents import WanLatents
from worldmodel.training.wan.ode import WanOdeTrajectories
from worldmodel.training.wan.stage_config import (
    Preview,
    WanBidirectionalTraining,
    WanClips,
    WanDmdTraining,
    WanModel,
    WanOdeTraining,
    WanStudentTraining,
    WanTeacherTraining,
)
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.worlds.wan.world_file import CameraConfig

SIZE = WanConfig(
    width=32,
    heads=2,
    layers=2,
    feed_forward=48,
    text_width=12,
    text_tokens=8,
    time_features=16,
    latent_channels=16,
    cameras=True,
)
CAMERA = CameraConfig(
    focal=(0.5, 0.9),
    motions={"KeyW": (0.0, 0.0, 0.08, 0.0, 0.0), "KeyL": (0.0, 0.0, 0.0, 3.0, 0.0)},
)
FRAMES = 4  # latent
LOOP = LoopConfig(
    steps=30,
    learning_rate=3e-3,
    betas=(0.9, 0.99),
    warmup_steps=2,
    decay_fraction=0.0,
    dtype="float32",
    log_every=1,
    save_every=10,
    sample_every=1000,
    ema_decay=0.9,
)
TWO = SamplerConfig(sigmas=(1.0, 0.8, 0.0), renoise=True)


def write_walks(folder: Path, count: int = 3, frames: int = 27, captions: bool = True) -> Path:
    """Episodes of a bar that wanders over the picture while two keys are held in turns."""
    for number in range(count):
        rng = np.random.default_rng(number)
        pictures = np.full((frames, 32, 48, 3), 60, np.uint8)
        for f, picture in enumerate(pictures):
            picture[:, (3 * f + 7 * number) % 44 :][:, :4] = 220
            picture[f % 32, :, 1] = 160
        held = [frozenset({"KeyW"} if f % 8 < 4 else {"KeyL"}) for f in range(frames)]
        actions = [Action(h, (float(rng.normal()), 0.0)) for h in held]
        path = folder / f"walk{number}.safetensors"
        save_episode(
            path,
            Episode(
                frames=pictures,
                actions=actions,
                frames_per_second=16.0,
                buttons=("KeyW", "KeyL"),
            ),
        )
        if captions and number != 1:
            path.with_suffix(".txt").write_text("a forest" if number else "a desert")
    return folder


class Root:
    """A folder with everything that stages begin with; configs of stages in it."""

    def __init__(self, folder: Path, size: WanConfig = SIZE) -> None:
        self.folder, self.runs = folder, folder / "runs"
        (folder / "size.toml").write_text(to_toml(size), encoding="utf-8")
        torch.manual_seed(0)
        weights = lively(WanTransformer(size), 1.0)
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / "start.safetensors")
        save_words(folder / "words.safetensors")
        save_vae(folder / "vae.pth")
        make_wan_world(folder / "base", recipe=None, cameras=True)
        self.vae_world = add_vae(folder / "base", folder / "vae.pth")
        self.model = WanModel(
            kind="wan",
            size=folder / "size.toml",
            rows=4,
            columns=6,
            window_frames=3,
            sink_frames=1,
        )
        self.common: dict[str, Any] = {
            "data": self.runs / "latents",
            "model": self.model,
            "clips": WanClips(batch=2, frames=FRAMES),
            "loop": LOOP,
        }

    def latents(self, **changes: Any) -> WanLatents:
        config = WanLatents(
            stage="latents",
            data=self.folder / "walks",
            vae=self.folder / "base",
            frames=FRAMES,
            rows=4,
            columns=6,
            text_width=12,
            caption="a forest",
            prompts=self.folder / "words.safetensors",
            camera=CAMERA,
        )
        return replace(config, **changes)

    def teacher(self, **changes: Any) -> WanTeacherTraining:
        values = {**self.common, "start": self.folder / "start.safetensors", **changes}
        return WanTeacherTraining(stage="teacher", **values)

    def bidirectional(self, **changes: Any) -> WanBidirectionalTraining:
        values = {**self.common, "start": self.folder / "start.safetensors", **changes}
        return WanBidirectionalTraining(stage="bidirectional", **values)

    def student(self, **changes: Any) -> WanStudentTraining:
        values = {**self.common, "teacher": self.runs / "teacher", "levels": 4, **changes}
        return WanStudentTraining(stage="student", **values)

    def trajectories(self, **changes: Any) -> WanOdeTrajectories:
        config = WanOdeTrajectories(
            stage="ode_trajectories",
            data=self.runs / "latents",
            teacher=self.runs / "teacher",
            model=self.model,
            clips=3,
            frames=FRAMES,
            sigmas=(1.0, 0.8),
            steps=3,
            shard=2,
            dtype="float32",
        )
        return replace(config, **changes)

    def ode(self, **changes: Any) -> WanOdeTraining:
        values = {
            **self.common,
            "teacher": self.runs / "teacher",
            "trajectories": self.runs / "ode_trajectories",
            **changes,
        }
        return WanOdeTraining(stage="ode", **values)

    def dmd(self, **changes: Any) -> WanDmdTraining:
        values = {
            **self.common,
            "student": self.runs / "student",
            "real": self.runs / "bidirectional",
            "sampler": TWO,
            "critic_learning_rate": 1e-3,
            "critic_updates": 2,
            **changes,
        }
        return WanDmdTraining(stage="dmd", **values)

    def world(self, **changes: Any) -> WanExport:
        values: dict[str, Any] = {
            "title": "A tiny walk",
            "base": self.folder / "base",
            "run": self.runs / "dmd",
            "sampler": TWO,
            **changes,
        }
        return WanExport(stage="wan_world", **values)

    def run(self, config: Any, name: str = "") -> dict[str, Any]:
        """As the command does it: through the TOML file."""
        path = self.folder / f"{name or config.stage}.toml"
        path.write_text(to_toml(config), encoding="utf-8")
        return run_stage(path, self.runs / (name or config.stage), threads=1)


def add_vae(world: Path, vae: Path) -> Path:
    """The world with an autoencoder beside its decoder."""
    from tests.worlds.wan.wan_tiny import plan
    from worldmodel.worlds.wan.importer import import_files

    import_files([vae], world, plan(None))
    return world


def preview(root: Root, clips: int = 2) -> Preview:
    return Preview(sampler=TWO, clips=clips, vae=root.folder / "base")


def means(losses: Sequence[float], part: int = 4) -> tuple[float, float]:
    """Of the first and of the last quarter."""
    few = max(1, len(losses) // part)
    return sum(losses[:few]) / few, sum(losses[-few:]) / few
