"""Stored trajectories: exact levels, play's own path, the same shards after a kill."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import make_lively
from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, write_episodes
from worldmodel.config import ConfigError, to_toml
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import next_frames
from worldmodel.storage.checkpoint import CheckpointError, load_tensors
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.system.limits import MOST_TENSORS
from worldmodel.training import shards as module
from worldmodel.training.teacher_forcing import PackedClip
from worldmodel.training.torch_streams import host_stream
from worldmodel.training.train_loop import CONFIG, STATE, UnfinishedError
from worldmodel.training.trajectories import (
    OdeTrajectories,
    TrajectoryShards,
    follow,
    write_trajectories,
)

SIGMAS = (1.0, 0.9375, 0.625)


def make_config(root: Path) -> OdeTrajectories:
    return OdeTrajectories(
        stage="ode_trajectories",
        data=root / "data",
        autoencoder=root / "runs" / "autoencoder",
        teacher=root / "runs" / "teacher",
        actions=SPEC,
        model=MODEL,
        clips=10,
        frames=6,
        sigmas=SIGMAS,
        steps=3,
        shard=4,
        batch=3,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Data and the two runs that trajectories need, with random weights."""
    write_episodes(tmp_path / "data", count=2)
    torch.manual_seed(0)
    models = {
        "autoencoder": (Autoencoder(AUTOENCODER), {"stage": "autoencoder", "model": AUTOENCODER}),
        "teacher": (make_lively(WorldTransformer(MODEL)), {"stage": "teacher", "model": MODEL}),
    }
    for name, (model, table) in models.items():
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        shape = to_toml(table["model"])
        (run / CONFIG).write_text(f'stage = "{name}"\n\n[model]\n{shape}', encoding="utf-8")
        tensors = {f"ema.{key}": value for key, value in model.state_dict().items()}
        save_tensors(run / STATE, tensors, {"step": 1, "seconds": 0.0})
    return tmp_path


def test_the_student_s_levels_are_met_exactly(root: Path) -> None:
    config = make_config(root)
    assert set(SIGMAS) < set(config.grid)
    assert config.grid[0] == 1.0
    assert config.grid[-1] == 0.0
    assert all(a - b > 1e-3 for a, b in zip(config.grid, config.grid[1:], strict=False))
    with pytest.raises(ConfigError, match=r"must fall from 1\.0 and stay above 0"):
        replace(config, sigmas=(1.0, 0.5, 0.0))


def test_a_trajectory_ends_where_the_teacher_s_sampler_does(root: Path) -> None:
    """Stored states lie on the path of play's own sampler, from the same noise."""
    torch.manual_seed(0)
    teacher = make_lively(WorldTransformer(MODEL)).requires_grad_(requires_grad=False)
    config = make_config(root)
    clean, actions = torch.randn(2, 6, *MODEL.latent_shape), torch.randn(2, 6, 4)
    clip = PackedClip(clean, clean, torch.zeros(2, 6), actions, actions)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    states = follow(teacher, clip, noise, config)
    assert states.shape == (2, len(SIGMAS) + 1, 6, *MODEL.latent_shape)
    assert torch.equal(states[:, 0], noise)
    sampler = SamplerConfig(sigmas=tuple(config.grid), renoise=False)
    drawn = next_frames(teacher, sampler, clean, actions)
    torch.testing.assert_close(states[:, -1], drawn, atol=1e-5, rtol=1e-4)


def test_a_killed_run_writes_the_shards_that_are_missing_and_no_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = make_config(root), root / "runs" / "ode_trajectories"
    write_trajectories(config, root / "runs" / "whole")
    written: list[Path] = []

    def save(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path)
        save_tensors(path, tensors, header)

    monkeypatch.setattr(module, "save_tensors", save)
    with pytest.raises(KeyboardInterrupt):
        write_trajectories(config, folder)
    monkeypatch.undo()
    with pytest.raises(UnfinishedError, match=r"00001\.safetensors: missing"):
        TrajectoryShards(folder, config)
    first = (folder / "00000.safetensors").stat().st_mtime_ns
    summary = write_trajectories(config, folder)
    assert (folder / "00000.safetensors").stat().st_mtime_ns == first
    assert summary["clips"] == 10
    for number in range(3):
        name = f"{number:05d}.safetensors"
        whole, resumed = (load_tensors(f / name)[0] for f in (root / "runs" / "whole", folder))
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert len(load_tensors(folder / "00002.safetensors")[0]["states"]) == 2
    assert write_trajectories(config, folder) == summary  # nothing left to do
    other = replace(config, steps=5)
    write_trajectories(other, folder)
    assert (folder / "00000.safetensors").stat().st_mtime_ns > first


def test_rows_are_read_from_disk_as_they_were_written(root: Path) -> None:
    config, folder = make_config(root), root / "runs" / "ode_trajectories"
    write_trajectories(config, folder)
    shards = TrajectoryShards(folder, config)
    generator = torch.Generator().manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):  # as the loop reads them
        state, end, clean, actions = shards.draw(6, [0, 1, 2, 0, 1, 2], generator)
    host = host_stream(torch.Generator().manual_seed(3), "trajectories")
    index = torch.randint(config.clips, (6,), generator=host).tolist()
    for row, (clip, level) in enumerate(zip(index, [0, 1, 2, 0, 1, 2], strict=True)):
        tensors, _ = load_tensors(folder / f"{clip // 4:05d}.safetensors")
        assert torch.equal(state[row], tensors["states"][clip % 4, level].float())
        assert torch.equal(end[row], tensors["states"][clip % 4, -1].float())
        assert torch.equal(clean[row], tensors["clean"][clip % 4].float())
        assert torch.equal(actions[row], tensors["actions"][clip % 4])


@pytest.mark.parametrize("harm", ["header", "tensors", "shape", "rows", "cut"])
def test_a_shard_that_claims_too_much_is_refused_by_name(root: Path, harm: str) -> None:
    config, folder = make_config(root), root / "runs" / "ode_trajectories"
    write_trajectories(config, folder)
    shards, whole = TrajectoryShards(folder, config), load_tensors(folder / "00000.safetensors")[0]
    for path in shards.paths:
        if harm == "header":  # 64 MB of nothing
            path.write_bytes(struct.pack("<Q", 64 << 20) + b"{}" + b" " * (65 << 20))
        elif harm == "cut":
            path.write_bytes(path.read_bytes()[:-9])
        elif harm == "tensors":
            more = {str(i): torch.zeros(0) for i in range(MOST_TENSORS)}
            save_tensors(path, {**whole, **more}, {})
        elif harm == "shape":
            save_tensors(path, {**whole, "states": torch.zeros(4, 4, 9, 9)}, {})
        else:
            save_tensors(path, {name: tensor[:0] for name, tensor in whole.items()}, {})
    with pytest.raises(CheckpointError, match=r"0000\d\.safetensors: clip .*run the stage"):
        shards.draw(2, [0, 1], torch.Generator().manual_seed(0))
