"""Wan's stages: what picks a clip has nothing to do with what else is drawn for it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.independence import (
    Watch,
    assert_independent,
    assert_no_seed_twice,
    assert_same_shares,
    unblended,
    watch,
    watch_training,
    with_sizes,
)
from tests.training.wan.tiny import FRAMES, LOOP, Root, write_walks
from worldmodel.model.configs import SamplerConfig
from worldmodel.training.run_stage import make_stage
from worldmodel.training.self_play import Exit
from worldmodel.training.wan import dmd, ode, student, teacher
from worldmodel.training.wan.clips import LatentClips
from worldmodel.training.wan.forward import WanClip
from worldmodel.training.wan.stage import WanStage
from worldmodel.training.wan.stage_config import WanClips
from worldmodel.wan.lora import LoraConfig

__all__ = ["watch"]  # the fixture
BATCHES, MICRO = 400, 4
CLIPS = 1000  # as many as there are levels: then each clip had a level of its own for ever
DRAWN = {  # what a stage draws; it is seen by all means
    "teacher": {"place", "silent", "level", "noise"},
    "bidirectional": {"place", "silent", "level", "noise"},
    "student": {"place", "level", "noise"},
    "ode": {"place", "level"},
    "dmd": {"place", "first", "rest", "level", "noise"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """Latents of a few clips; every stage begins with the same random weights."""
    root = Root(tmp_path_factory.mktemp("streams"))
    write_walks(root.folder / "walks", count=2)
    root.run(root.latents())
    root.run(root.trajectories(clips=4, steps=1, teacher=root.folder / "start.safetensors"))
    return root


@pytest.fixture
def shown(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> list[WanClip]:
    """The clips as they are drawn, the last one kept."""
    shown: list[WanClip] = []
    real = LatentClips.read, LatentClips.draw

    def read(self: LatentClips, numbers: Sequence[int], frames: int) -> WanClip:
        watch.see(place=torch.tensor(numbers))
        return real[0](self, numbers, frames)

    def draw(self: LatentClips, *chosen: Any) -> WanClip:
        clip = real[1](self, *chosen)
        watch.see(silent=(clip.conditions.text == clip.conditions.nothing).all(dim=(1, 2)))
        shown[:] = [clip]
        return clip

    monkeypatch.setattr(LatentClips, "read", read)
    monkeypatch.setattr(LatentClips, "draw", draw)
    return shown


def eyes(watch: Watch, shown: list[WanClip], monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of every network."""

    def packed(_: Any, clip: WanClip, noisy: Tensor, sigmas: Tensor, __: Any) -> Tensor:
        watch.see(level=sigmas[..., -1])
        if shown:  # else they are states of trajectories
            watch.see(noise=with_sizes(unblended(noisy, clip.clean[:, None], sigmas)))
        return torch.zeros_like(noisy)

    def whole(_: Any, noisy: Tensor, sigmas: Tensor, *__: Any) -> Tensor:
        noise = unblended(noisy, shown[0].clean, sigmas)
        watch.see(level=sigmas[:, -1], noise=with_sizes(noise))
        return torch.zeros_like(noisy)

    def self_play(*given: Any) -> Tensor:
        leave = given[4]
        assert isinstance(leave, Exit)
        watch.see(first=torch.tensor(leave.first), rest=torch.tensor(leave.rest))
        return shown[0].clean

    for module in (teacher, student, ode):
        monkeypatch.setattr(module, "packed_velocity", packed)
    for module in (teacher, dmd):
        monkeypatch.setattr(module, "whole_velocity", whole)
    monkeypatch.setattr(dmd, "self_play", self_play)


def make(root: Root, name: str) -> WanStage[Any]:
    start, levels = root.folder / "start.safetensors", (1.0, 0.9, 0.8, 0.5, 0.0)
    clips = WanClips(batch=4, frames=FRAMES, prompt_dropout=0.3)
    sampler = SamplerConfig(sigmas=levels, first_sigmas=levels, renoise=True)
    lora = LoraConfig(rank=2, alpha=4.0)  # whose small matrices are drawn too
    changes: dict[str, dict[str, Any]] = {
        "student": {"teacher": start, "levels": 8},
        "ode": {"teacher": start},
        "dmd": {"student": start, "real": start, "sampler": sampler},
    }
    config = getattr(root, name)(clips=clips, lora=lora, **changes.get(name, {}))
    stage = make_stage(config, root.runs / name)
    assert isinstance(stage, WanStage)
    if name != "ode":  # whose trajectories are of the first clips
        stage.data.places = (stage.data.places * CLIPS)[:CLIPS]
    return stage


@pytest.mark.parametrize("name", DRAWN)
def test_a_stage_draws_everything_independently(
    name: str,
    root: Root,
    tmp_path: Path,
    watch: Watch,
    shown: list[WanClip],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a batch, of one micro batch and the next, of one step and the next; no seed twice."""
    stage = make(root, name)
    eyes(watch, shown, monkeypatch)
    micro = 1 if name == "dmd" else MICRO  # whose batches have their exit in common
    watch_training(stage, LOOP, tmp_path, watch, BATCHES, micro)
    assert watch.columns.keys() == DRAWN[name]
    assert_independent(watch.columns, (1, MICRO))
    assert len(watch.seeds) > BATCHES
    assert_no_seed_twice(watch.seeds)


@pytest.mark.parametrize("name", ["bidirectional", "teacher"])
def test_a_clip_is_seen_at_another_level_each_time(
    name: str,
    root: Root,
    tmp_path: Path,
    watch: Watch,
    shown: list[WanClip],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a thousand clips it was one and the same for ever, and words came with low levels."""
    stage = make(root, name)
    eyes(watch, shown, monkeypatch)
    watch_training(stage, LOOP, tmp_path, watch, 500)
    seen = watch.columns
    levels = seen["level"].view(*seen["place"].shape, -1)[..., 0]
    drawn: dict[float, list[float]] = {}
    for place, level in zip(seen["place"].flatten(), levels.flatten(), strict=True):
        drawn.setdefault(float(place), []).append(float(level))
    again = [len(set(found)) == len(found) for found in drawn.values() if len(found) > 1]
    assert len(again) > 400
    assert sum(again) > 0.95 * len(again)
    assert_same_shares(seen["place"], seen["silent"], 0.3)
    assert_same_shares(levels, seen["silent"], 0.3)


def test_a_trajectory_begins_with_noise_of_its_own(
    root: Root, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Tensor] = []

    def follow_path(_: Callable[..., Tensor], noise: Tensor, *__: Any) -> Tensor:
        begun.append(noise)
        return noise[:, None]

    monkeypatch.setattr(ode, "follow_path", follow_path)
    start = root.folder / "start.safetensors"
    for seed in (0, 1):
        root.run(root.trajectories(clips=4, teacher=start, seed=seed), f"seed_{seed}")
    assert len(begun) == 8
    alike = torch.corrcoef(torch.stack([noise.flatten() for noise in begun])) - torch.eye(8)
    assert alike.abs().max() < 5 / begun[0].numel() ** 0.5
    assert_no_seed_twice(watch.seeds)
