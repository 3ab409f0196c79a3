"""Several processes train as one does: the same losses, the same weights, also after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import make_lively
from tests.training import tiny_data
from tests.training.tiny_data import AUTOENCODER, SPEC, draw, write_episodes
from worldmodel.action import IDLE
from worldmodel.config import to_toml
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.context import TeacherForcing
from worldmodel.model.kv_cache import KVCache
from worldmodel.model.transformer import Block, WorldTransformer
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import save_episode
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.training.bidirectional import BidirectionalTraining, WholeClips
from worldmodel.training.consistency import StudentTraining
from worldmodel.training.dmd import DmdTraining, OwnRollouts
from worldmodel.training.processes import checkpoint_blocks
from worldmodel.training.run_stage import run_stage
from worldmodel.training.stage import LoopConfig
from worldmodel.training.teacher_forcing import ClipTraining, TeacherTraining
from worldmodel.training.train_loop import CONFIG, STATE

MODEL = replace(tiny_data.MODEL, frame_change=0.05)  # as an untrained autoencoder's latents change
# Sums of gradients are rounded in another order; nothing else differs.
TOLERANCE = 2e-3
LOOP = LoopConfig(
    steps=8,
    learning_rate=1e-3,
    muon_learning_rate=0.01,
    warmup_steps=2,
    dtype="float32",
    log_every=1,
    save_every=3,
    sample_every=8,
    ema_decay=0.9,
    micro_batches=2,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, networks with random weights (a student, a bidirectional one), configs to train."""
    root = tmp_path_factory.mktemp("processes")
    data = write_episodes(root / "data", count=4)
    (root / "still").mkdir()
    still = Episode(
        frames=np.stack([draw(3)] * 60),
        actions=[IDLE] * 60,
        frames_per_second=10.0,
        buttons=SPEC.buttons,
    )
    # Nothing moves in it, so nobody can tell that an autoencoder of random weights shows nothing.
    save_episode(root / "still" / "000.safetensors", still)
    runs = root / "runs"
    latent: dict[str, Any] = {
        "data": data,
        "heldout": root / "still",
        "autoencoder": runs / "autoencoder",
        "actions": SPEC,
        "model": MODEL,
    }
    teacher = TeacherTraining(
        stage="teacher",
        **latent,
        clips=ClipTraining(batch=4, frames=6, own_history=0.5),
        loop=LOOP,
    )
    bidirectional = BidirectionalTraining(
        stage="bidirectional",
        **latent,
        clips=WholeClips(batch=4, frames=6, known=2),
        loop=replace(LOOP, steps=1),
    )
    student = StudentTraining(  # whose average answers in every step
        stage="student",
        **latent,
        teacher=runs / "bidirectional",
        clips=ClipTraining(batch=4, frames=6),
        loop=LOOP,
        levels=4,
    )
    dmd = DmdTraining(
        stage="dmd",
        **latent,
        student=runs / "bidirectional",
        real=runs / "bidirectional",
        rollouts=OwnRollouts(
            batch=2, frames=6, sampler=SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)
        ),
        loop=LOOP,
        critic_learning_rate=1e-3,
        critic_updates=2,
    )
    torch.manual_seed(0)
    for name, model in {
        "autoencoder": Autoencoder(AUTOENCODER),
        "bidirectional": WorldTransformer(MODEL),
    }.items():
        (runs / name).mkdir(parents=True)
        weights = (
            make_lively(model) if isinstance(model, WorldTransformer) else model
        ).state_dict()
        tensors = {f"ema.{key}": value for key, value in weights.items()}
        save_tensors(runs / name / STATE, tensors, {"step": 1, "seconds": 0.0})
    (runs / "autoencoder" / CONFIG).write_text(
        f'stage = "autoencoder"\n\n[model]\n{to_toml(AUTOENCODER)}', encoding="utf-8"
    )
    (runs / "bidirectional" / CONFIG).write_text(to_toml(bidirectional), encoding="utf-8")
    for name, config in {"teacher": teacher, "student": student, "dmd": dmd}.items():
        (root / f"{name}.toml").write_text(to_toml(config), encoding="utf-8")
    return root


def start(config: Path, folder: Path) -> "subprocess.Popen[bytes]":
    """Two processes on this machine's CPU, each with one thread."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    job = ["-m", "worldmodel", "train", str(config), "--folder", str(folder)]
    return subprocess.Popen(
        [*command, *job, "--device", "cpu", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: "subprocess.Popen[bytes]") -> str:
    said = process.communicate(timeout=120)[0].decode(errors="replace")
    assert process.returncode == 0, said
    return said


def curve(folder: Path, key: str) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line[key] for line in lines if key in line]


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Weights as a whole; where a gradient is all but zero, Adam makes much of its rounding."""
    for key, tensor in expected.items():
        if key.startswith(("student.", "ema.", "critic.")):
            distance = (found[key] - tensor).norm() / (tensor.norm() + 1e-3)
            assert float(distance) < 5 * TOLERANCE, key


@pytest.mark.parametrize("name", ["teacher", "student", "dmd"])
def test_two_processes_give_the_losses_and_weights_of_one(name: str, root: Path) -> None:
    """The same config, so the same global batch; both players of a stage that has two."""
    config, one, two = root / f"{name}.toml", root / "one" / name, root / "two" / name
    run_stage(config, one, threads=1)
    finish(start(config, two))
    for key in ("loss", "critic_loss", "gradient_norm") if name == "dmd" else ("loss",):
        assert curve(two, key) == pytest.approx(curve(one, key), rel=TOLERANCE), key
    assert len(curve(two, "loss")) == (2 if name == "dmd" else 8)
    alone, together = (load_tensors(folder / STATE) for folder in (one, two))
    assert alone[0].keys() == together[0].keys()
    assert_near(together[0], alone[0])
    assert list((two / "samples").glob("*.png"))


def test_two_processes_that_are_stopped_go_on_as_two_or_as_one(root: Path) -> None:
    config = root / "longer.toml"
    text = (root / "teacher.toml").read_text().replace("steps = 8", "steps = 400", 1)
    config.write_text(text.replace("sample_every = 8", "sample_every = 1000"))
    stopped = root / "stopped"
    process = start(config, stopped)
    log = stopped / "metrics.jsonl"
    deadline = time.monotonic() + 90
    while not (log.exists() and len(log.read_text().splitlines()) > 4):
        assert process.poll() is None, process.communicate()[0].decode()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0].decode(errors="replace")
    assert process.returncode != 0
    header = json.loads((stopped / "sharded" / "latest.json").read_text())
    assert 4 < header["step"] < 400, said[-2000:]
    assert load_tensors(stopped / STATE)[1]["step"] == header["step"]
    (stopped / STATE).unlink()  # as after a kill: the parts alone are left
    end = header["step"] + 3
    for file in (config, stopped / CONFIG):
        file.write_text(file.read_text().replace("steps = 400", f"steps = {end}", 1))
    shutil.copytree(stopped, root / "alone")
    finish(start(config, stopped))
    run_stage(config, root / "alone", threads=1)
    assert len(curve(stopped, "loss")) == end
    together, alone = (load_tensors(folder / STATE)[0] for folder in (stopped, root / "alone"))
    assert_near(together, alone)


def test_activations_that_are_computed_twice_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain, frugal = make_lively(WorldTransformer(MODEL)), make_lively(WorldTransformer(MODEL))
    frugal.load_state_dict(plain.state_dict())
    checkpoint_blocks(frugal)
    latents, actions = torch.randn(2, 12, *MODEL.latent_shape), torch.randn(2, 12, 4)
    sigmas, context = torch.rand(2, 12), TeacherForcing(MODEL, 6)
    calls: list[list[int]] = []
    for model in (plain, frugal):
        calls.append([])
        block = model.blocks[0]
        assert isinstance(block, Block)
        block.expand.register_forward_hook(lambda *_, c=calls[-1]: c.append(1))
        model(latents, sigmas, actions, context).square().mean().backward()
    assert [len(c) for c in calls] == [1, 2]
    for one, other in zip(plain.parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    cache = KVCache(MODEL, batch=2)  # has moved on when the gradient is taken: computed once
    frugal(latents[:, :1], sigmas[:, :1], actions[:, :1], cache).sum().backward()
    assert len(calls[1]) == 3
