import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.system.limits import LARGEST_HEADER, MOST_OPCODES, MOST_SHARDS, MOST_TENSORS
from worldmodel.wan.weight_files import difference, load_strict, read_tensors, unwrap

WEIGHTS = {"a.weight": torch.arange(12.0).view(3, 4), "a.bias": torch.arange(3.0)}


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)


class Hostile:
    """Unpickled by an ordinary unpickler, it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "shards"])
def test_the_same_tensors_come_from_every_kind_of_file_whatever_its_name(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "weights.bin"
    if kind == "zip":
        torch.save(OrderedDict(WEIGHTS), path)
    elif kind == "legacy":
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    elif kind == "safetensors":
        save_file(WEIGHTS, path)
    else:
        shards = {name: f"{number}.safetensors" for number, name in enumerate(WEIGHTS)}
        for name, shard in shards.items():
            save_file({name: WEIGHTS[name]}, tmp_path / shard)
        path.write_text(json.dumps({"metadata": {}, "weight_map": shards}, indent=2))
    assert same(read_tensors(path), WEIGHTS)


def test_a_training_checkpoint_gives_its_averaged_weights_without_wrappers(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    averaged = {f"model._fsdp_wrapped_module.{name}": value for name, value in WEIGHTS.items()}
    plain = {f"model.{name}": torch.zeros_like(value) for name, value in WEIGHTS.items()}
    torch.save({"generator": plain, "generator_ema": averaged, "step": 7}, path)
    assert same(read_tensors(path), WEIGHTS)
    torch.save({"generator": averaged, "critic": plain, "critic_optimizer": {"state": {}}}, path)
    assert same(read_tensors(path), WEIGHTS)


@pytest.mark.parametrize(
    "prefix",
    [
        "model.diffusion_model.", "diffusion_model.", "module.", "_orig_mod.", "model.",
        "module._orig_mod.", "_orig_mod.module.", "model.module.diffusion_model.",
        "generator.model.", "vae.", "first_stage_model.",
    ],
)  # fmt: skip
def test_prefixes_of_other_programs_come_off(tmp_path: Path, prefix: str) -> None:
    for name in ("x.safetensors", "x.pt"):
        named = {f"{prefix}{name}": value for name, value in WEIGHTS.items()}
        save_file(named, tmp_path / name) if name != "x.pt" else torch.save(named, tmp_path / name)
        assert same(read_tensors(tmp_path / name), WEIGHTS)


def test_of_a_whole_pipeline_the_network_is_taken() -> None:
    """What ComfyUI saves in one file; with anything unknown among it, nothing is left out."""
    other = torch.zeros(3)
    named = {f"model.diffusion_model.{name}": value for name, value in WEIGHTS.items()}
    beside = {"vae.conv1.weight": other, "text_encoders.umt5xxl.shared.weight": other}
    assert same(unwrap({**named, **beside}, "x"), WEIGHTS)
    assert unwrap({**named, **beside, "alien": other}, "x").keys() >= {"alien", *beside}


def test_a_prefix_that_only_some_names_have_is_part_of_the_names() -> None:
    tensors = {"model.a": torch.zeros(1), "b": torch.zeros(1)}
    assert unwrap(tensors, "x").keys() == tensors.keys()


def test_names_that_fall_together_without_wrappers_are_refused() -> None:
    with pytest.raises(CheckpointError, match="two tensors are called a "):
        unwrap({"a": torch.zeros(1), "_orig_mod.a": torch.zeros(1)}, "x")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_pickle_executes_nothing(tmp_path: Path, legacy: bool) -> None:
    path, target = tmp_path / "model.pt", tmp_path / "made"
    torch.save({**WEIGHTS, "x": Hostile(target)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="other than weights, and nothing of it was run"):
        read_tensors(path)
    path.write_bytes(pickle.dumps(Hostile(target)))
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        read_tensors(path)
    assert not target.exists()
    torch.load(_saved(tmp_path / "again.pt", Hostile(target)), weights_only=False)
    assert target.exists()  # the trap does work


def _saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt: (cannot be read: N|n)o such file"):
        read_tensors(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(tmp_path)
    path = _saved(tmp_path / "model.pt", WEIGHTS)
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[:-200], whole[: len(whole) // 2], b"\x80\x02", b"GIF89a...."):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.pt: not a whole"):
            read_tensors(path)
    save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"model\.pt: not a whole safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize(
    "content",
    ['{"a": 1}', '{"weight_map": 3}', "{", '{"weight_map": {"a": "../other.safetensors"}}'],
)
def test_an_index_that_is_none_or_leads_elsewhere_is_refused(tmp_path: Path, content: str) -> None:
    save_file(WEIGHTS, tmp_path / "other.safetensors")
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "index.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match="not an index"):
        read_tensors(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "old"])
def test_a_name_of_kilobytes_is_refused_before_torch_takes_seconds_to_tell_of_it(
    tmp_path: Path, legacy: bool
) -> None:
    path = tmp_path / "model.pt"
    model = {"x" * 20_000: torch.ones(2)}
    torch.save(model, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="a name of 20000 letters"):
        read_tensors(path)


def test_something_else_than_weights_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Path("elsewhere")))
    with pytest.raises(CheckpointError, match="something other than weights, and nothing"):
        read_tensors(path)


def test_an_archive_that_unpacks_to_more_than_itself_is_refused(tmp_path: Path) -> None:
    stored, path = _saved(tmp_path / "a.pt", WEIGHTS), tmp_path / "b.pt"
    with zipfile.ZipFile(stored) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    with pytest.raises(CheckpointError, match="is compressed"):
        read_tensors(path)


def test_a_tensor_that_shows_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.pt", {"a": torch.zeros(1).expand(10**9)})
    with pytest.raises(CheckpointError, match="a claims 1000000000 float32, more than the file"):
        read_tensors(path)


@pytest.mark.parametrize("content", [{"optimizer": {"lr": 1.0}}, [1, 2], {}, 3])
def test_a_file_without_weights_says_what_it_found(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match="no weights; found"):
        read_tensors(_saved(tmp_path / "a.pt", content))


def test_loading_lists_all_that_is_missing_unexpected_and_misshapen() -> None:
    wrong = {"a.weight": torch.zeros(4, 3), "b.bias": torch.zeros(3)}
    module = Wide()
    before = module.a.weight.clone()
    with pytest.raises(CheckpointError) as raised:
        load_strict(module, wrong, "x.pt")
    assert str(raised.value) == (
        "x.pt: these are not the 2 tensors of the model: 1 missing (a.bias); "
        "1 unexpected (b.bias); "
        "1 misshapen (a.weight is 4 x 3 float32, expected 3 x 4 float32); "
        "name another file, or get it again"
    )
    assert torch.equal(module.a.weight, before)
    numbers = {**WEIGHTS, "a.bias": torch.zeros(3, dtype=torch.int8)}
    assert difference(module, numbers).misshapen
    with pytest.raises(CheckpointError, match=r"missing \(a.bias\); the file is not whole, downl"):
        load_strict(module, {"a.weight": WEIGHTS["a.weight"]}, "x.pt")
    load_strict(module, WEIGHTS, "x.pt")
    assert torch.equal(module.a.weight, WEIGHTS["a.weight"])


def test_a_module_on_meta_takes_the_mapped_tensors_themselves(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = Wide()
    half = {name: value.bfloat16() for name, value in WEIGHTS.items()}
    tensors = read_tensors(_saved(tmp_path / "a.pt", half))
    load_strict(module, tensors, "a.pt")
    assert module.a.weight.dtype == torch.bfloat16
    assert module.a.weight.data_ptr() == tensors["a.weight"].data_ptr()


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: dict[str, object] = {}
    endless["model"] = endless
    with pytest.raises(CheckpointError, match="no weights; found a dict"):
        read_tensors(_saved(tmp_path / "a.pt", endless))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="not a file"):
        read_tensors(tmp_path / "a.pt")


def test_many_tensors_that_share_little_are_refused_and_tied_ones_are_read(tmp_path: Path) -> None:
    shared = torch.zeros(1000)
    tied = _saved(tmp_path / "tied.pt", {"a": shared, "b": shared})
    assert read_tensors(tied).keys() == {"a", "b"}
    many = {f"a{i}": shared[i:] for i in range(100)}
    with pytest.raises(CheckpointError, match="95 times what the file holds"):
        read_tensors(_saved(tmp_path / "a.pt", many))


def test_a_header_of_countless_empty_tensors_is_refused(tmp_path: Path) -> None:
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"a{i}": entry for i in range(MOST_TENSORS + 1)}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="65537 tensors, at most 65536"):
        read_tensors(path)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", LARGEST_HEADER + 1) + b"{")
        file.truncate(LARGEST_HEADER + 100)
    with pytest.raises(CheckpointError, match="a header of 32 MB, at most 32 MB"):
        read_tensors(path)


@pytest.mark.parametrize("archive", [False, True])
def test_a_pickle_of_countless_steps_is_refused(tmp_path: Path, archive: bool) -> None:
    path, steps = tmp_path / "a.pt", b"\x80\x02" + b"}" * (MOST_OPCODES + 1) + b"."
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", steps)
    else:
        path.write_bytes(steps)
    with pytest.raises(CheckpointError, match="more than 2000000 steps"):
        read_tensors(path)


@pytest.mark.parametrize("shard", ["", ".", "\ud800", "x" * 300, "\x1b[2J", 3, ["a"], "../a"])
def test_a_shard_of_an_impossible_name_is_refused(tmp_path: Path, shard: object) -> None:
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError) as raised:
        read_tensors(path)
    assert str(raised.value).isprintable()


def test_an_index_of_countless_shards_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"weight_map": {f"{i}": f"{i}" for i in range(MOST_SHARDS + 1)}}))
    with pytest.raises(CheckpointError, match="1001 shards"):
        read_tensors(path)


def test_nobody_is_told_to_run_what_a_file_holds(tmp_path: Path) -> None:
    """Which is what torch says."""
    with pytest.raises(CheckpointError) as raised:
        read_tensors(_saved(tmp_path / "a.pt", {"a": Hostile(tmp_path / "made")}))
    assert "weights_only" not in str(raised.value)
    assert "was run (posix.mkdir)" in str(raised.value) or "was run (nt.mkdir)" in str(raised.value)


def test_a_tensors_name_commands_no_terminal(tmp_path: Path) -> None:
    tensors = read_tensors(_saved(tmp_path / "a.pt", {"\x1b[2J\u202ea": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match=r"1 unexpected \(\?\[2J\?a\)"):
        load_strict(Wide(), tensors, "a.pt")
