"""Weights that hold values which are no numbers are refused, whatever file they are in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worlds.make_world import make_world
from tests.worlds.wan.wan_tiny import make_wan_world, plan, save_student, save_taehv, save_vae
from worldmodel.action import IDLE
from worldmodel.config import to_toml
from worldmodel.storage.checkpoint import CheckpointError, holds_numbers, refuse_broken
from worldmodel.world import WorldFaultError, step
from worldmodel.worlds.find import open_world
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.importer import import_files
from worldmodel.worlds.wan.world import WanWorld
from worldmodel.worlds.wan.world_file import TAEHV, TRANSFORMER, read_wan_world
from worldmodel.worlds.world_folder import AUTOENCODER, WORLD_FILE, sha256_of

SETTINGS = RunSettings(device="cpu", dtype="float32", threads=1)
BROKEN = "holds values that are not numbers"


def break_file(path: Path, value: float = torch.nan) -> None:
    """One value of one matrix."""
    tensors = load_file(path)
    name = next(name for name, t in tensors.items() if t.ndim > 1 and t.is_floating_point())
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", [TRANSFORMER, TAEHV])
def test_a_wan_world(name: str, value: float, tmp_path: Path) -> None:
    folder = make_wan_world(tmp_path / "world")
    break_file(folder / name, value)
    file = read_wan_world(folder)
    told = replace(file, sha256={**file.sha256, name: sha256_of(folder / name)})
    (folder / WORLD_FILE).write_text(to_toml(told), encoding="utf-8")
    with pytest.raises(CheckpointError, match=BROKEN):
        open_world(str(folder), SETTINGS)


@pytest.mark.parametrize("save", [save_student, save_taehv, save_vae])
def test_a_released_file_makes_no_world(save: Callable[[Path], Path], tmp_path: Path) -> None:
    path = save(tmp_path / "given.pt")
    content = torch.load(path, weights_only=True)
    tensors = content.get("generator_ema", content)
    next(t for t in tensors.values() if t.ndim > 1).view(-1)[0] = torch.nan
    torch.save(content, path)
    files = [path] if save is save_student else [save_student(tmp_path / "model.pt"), path]
    with pytest.raises(CheckpointError, match=f"given.pt: .*{BROKEN}"):
        import_files(files, tmp_path / "world", plan())
    assert not (tmp_path / "world").exists()


def test_a_native_world(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "world")
    break_file(folder / AUTOENCODER)
    text = (folder / WORLD_FILE).read_text(encoding="utf-8")
    before = [line for line in text.splitlines() if AUTOENCODER in line]
    new = f'"{AUTOENCODER}" = "{sha256_of(folder / AUTOENCODER)}"'
    (folder / WORLD_FILE).write_text(text.replace(before[-1], new), encoding="utf-8")
    with pytest.raises(CheckpointError, match=BROKEN):
        open_world(str(folder), SETTINGS)


def test_latents_that_are_no_numbers_are_no_black_frame(tmp_path: Path) -> None:
    world = open_world(str(make_wan_world(tmp_path / "world")), SETTINGS)
    assert isinstance(world, WanWorld)
    world.reset(0, seed=0)
    weight = next(world.parts.transformer.parameters())
    weight.data.view(-1)[0] = torch.nan

    def play() -> None:
        for _ in range(8):
            step(world, IDLE)

    with pytest.raises(WorldFaultError, match="its latents hold values that are not numbers"):
        play()


def test_large_numbers_are_numbers_and_float8_has_none_too() -> None:
    large = torch.full((4,), 3e38)
    assert holds_numbers(large), "their sum is none, but they are"
    small = torch.ones(4).to(torch.float8_e4m3fn)
    assert holds_numbers(small)
    refuse_broken({"a": large, "b": small, "c": torch.arange(3)}, "file")
    small[1] = torch.tensor(torch.nan).to(torch.float8_e4m3fn)
    with pytest.raises(CheckpointError, match="file: b holds"):
        refuse_broken({"a": large, "b": small}, "file")
