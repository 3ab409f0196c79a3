"""Worlds whose weights were packed at the import."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worlds.wan.wan_tiny import plan, save_student, save_taehv, save_words
from worldmodel.__main__ import main
from worldmodel.action import IDLE
from worldmodel.config import UserError
from worldmodel.training.wan.load_weights import weights_at
from worldmodel.wan.float8 import FLOAT8
from worldmodel.wan.weight_files import read_tensors
from worldmodel.world import step
from worldmodel.worlds.find import open_world
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.importer import import_files
from worldmodel.worlds.wan.parts import load_transformer
from worldmodel.worlds.wan.world_file import TRANSFORMER, read_wan_world


def test_weights_can_be_packed_as_float8_and_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, large, small = save_student(tmp_path / "m.pt"), tmp_path / "large", tmp_path / "small"
    beside = [save_taehv(tmp_path / "t.pth"), save_words(tmp_path / "w.safetensors")]
    import_files([student, *beside], large, replace(plan(), dtype=torch.bfloat16))
    world = import_files([student, *beside], small, replace(plan(), dtype=FLOAT8))
    assert "its matrices as float8" in world.source["transformer"]["tensors"]
    sizes = [(folder / TRANSFORMER).stat().st_size for folder in (large, small)]
    assert sizes[1] < 0.8 * sizes[0]  # a tiny model has much beside its matrices
    assert main(["worlds", "--check", str(small)]) == 0
    assert "3 files are what small says they are" in capsys.readouterr().out
    frames = []
    for folder in (large, small):
        played = open_world(str(folder), RunSettings(device="cpu", dtype="bfloat16", threads=1))
        seen = [played.reset(0, seed=0), *(step(played, IDLE) for _ in range(12))]
        frames.append(np.stack(seen).astype(float))
        assert ("weights in float8" in played.running_on) == (folder == small)
    assert 0 < np.abs(frames[0] - frames[1]).mean() < 0.1 * frames[0].std()
    state = played.save_state()
    expected = [step(played, IDLE) for _ in range(6)]
    again = open_world(str(small), RunSettings(device="cpu", dtype="bfloat16", threads=1))
    again.load_state(state)
    assert all(np.array_equal(step(again, IDLE), frame) for frame in expected)


def test_packed_weights_are_neither_imported_again_nor_trained(tmp_path: Path) -> None:
    files = [save_student(tmp_path / "m.pt"), save_taehv(tmp_path / "t.pth")]
    files.append(save_words(tmp_path / "w.safetensors"))
    import_files(files, tmp_path / "small", replace(plan(), dtype=FLOAT8))
    weights = tmp_path / "small" / TRANSFORMER
    with pytest.raises(UserError, match="packed as float8 are played, not imported again"):
        import_files([weights], tmp_path / "other", plan())
    with pytest.raises(UserError, match="packed as float8 are played, not trained"):
        weights_at(tmp_path / "small")
    world = read_wan_world(tmp_path / "small")
    where, mps = str(weights), torch.device("mps")
    with pytest.raises(UserError, match="mps knows no float8"):
        load_transformer(read_tensors(weights), world, where, mps, torch.float32)
    broken = {n: t for n, t in read_tensors(weights).items() if n != "blocks.0.ffn.0.scale"}
    with pytest.raises(UserError, match=r"1 missing \(blocks\.0\.ffn\.0\.scale\)"):
        load_transformer(broken, world, where, torch.device("cpu"), torch.float32)
