from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from worldmodel.model.transformer import WorldTransformer
from worldmodel.storage.checkpoint import CheckpointError, load_tensors, load_weights
from worldmodel.storage.files import FileWriteError
from worldmodel.storage.save_tensors import save_tensors


def test_tensors_and_header_read_back(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.arange(3)}, {"step": 7, "names": ["x"]})
    tensors, header = load_tensors(path)
    assert tensors["a"].tolist() == [0, 1, 2]
    assert header == {"step": 7, "names": ["x"]}


def test_weights_of_another_shape_are_named(tmp_path: Path, tiny_model: WorldTransformer) -> None:
    path = tmp_path / "w.safetensors"
    state = tiny_model.state_dict()
    state["unembed.weight"] = torch.zeros(5, 5)
    save_tensors(path, state, {})
    with pytest.raises(CheckpointError, match=r"unembed\.weight is 5 x 5 in the file, 3 x 32"):
        load_weights(WorldTransformer(TINY), path)
    del state["unembed.weight"]
    save_tensors(path, state, {})
    with pytest.raises(CheckpointError, match=r"1 of \d+ tensors are missing, first unembed"):
        load_weights(WorldTransformer(TINY), path)
    save_tensors(path, {**tiny_model.state_dict(), "more": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match="does not have, first more"):
        load_weights(WorldTransformer(TINY), path)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.bool, torch.int64])
def test_whole_numbers_are_no_weights(
    tmp_path: Path, tiny_model: WorldTransformer, kind: torch.dtype
) -> None:
    path = tmp_path / "w.safetensors"
    state = tiny_model.state_dict()
    state["unembed.weight"] = (state["unembed.weight"] * 100).to(kind)
    save_tensors(path, state, {})
    name = str(kind).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"unembed\.weight holds whole numbers \({name}\)"):
        load_weights(WorldTransformer(TINY), path)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_any_precision_are_read(
    tmp_path: Path, tiny_model: WorldTransformer, kind: torch.dtype
) -> None:
    path = tmp_path / "w.safetensors"
    state = {name: tensor.to(kind) for name, tensor in tiny_model.state_dict().items()}
    save_tensors(path, state, {})
    model = WorldTransformer(TINY)
    load_weights(model, path)
    weight = model.state_dict()["unembed.weight"]
    assert torch.equal(weight, state["unembed.weight"].float())


def test_a_truncated_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.zeros(1000)}, {})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"w\.safetensors: not a whole safetensors file"):
        load_tensors(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_tensors(path)
    with pytest.raises(CheckpointError, match="No such file"):
        load_tensors(tmp_path / "none.safetensors")


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, {})
    (tmp_path / "blocked").write_text("a file, not a folder")
    with pytest.raises(FileWriteError, match="cannot be written"):
        save_tensors(tmp_path / "blocked" / "w.safetensors", {"a": torch.zeros(2)}, {})
    assert load_tensors(path)[0]["a"].tolist() == [1, 1]
    assert not list(tmp_path.glob("*.part*"))
