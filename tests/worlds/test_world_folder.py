from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worlds.make_world import make_world
from worldmodel.config import ConfigError, to_toml
from worldmodel.state_spec import StateNumber, StateSpec
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.storage.files import FileWriteError
from worldmodel.worlds.find import find_world, open_world
from worldmodel.worlds.world_folder import (
    TRANSFORMER,
    WorldError,
    check_weights,
    read_world_file,
    save_world_folder,
    sha256_of,
)


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "world.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_world_reads_back_as_it_was_saved(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    world = read_world_file(folder)
    check_weights(folder, world)
    assert world.name == "tiny"
    assert world.starts == {"0.safetensors": "place 0", "1.safetensors": "place 1"}


def test_a_world_says_what_its_state_is_and_one_without_stays_as_it_was(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    plain, without = read_world_file(folder), (folder / "world.toml").read_text()
    assert plain.state is None
    assert "[state]" not in without
    spec = StateSpec(
        {
            "x": StateNumber(kind="position", unit="map units", low=-160.0, high=1120.0),
            "view.heading": StateNumber(kind="heading", unit="degrees", high=360.0),
        }
    )
    (folder / "world.toml").write_text(to_toml(replace(plain, state=spec)))
    assert "[state.x]" in (folder / "world.toml").read_text()
    again = read_world_file(folder)
    assert again == replace(plain, state=spec)
    assert again.state is not None
    assert again.state.names == spec.names
    edit(folder, 'kind = "position"', 'kind = "place"')
    with pytest.raises(ConfigError, match=r"world\.toml: state\.x: kind = 'place': choose from"):
        read_world_file(folder)


def test_truncated_weights_are_named_before_they_are_loaded(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    path = folder / TRANSFORMER
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WorldError, match=r"transformer\.safetensors: its sha256 is .* truncated"):
        open_world(str(folder))
    path.unlink()
    with pytest.raises(WorldError, match=r"transformer\.safetensors: missing"):
        open_world(str(folder))


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    path, before = folder / TRANSFORMER, sha256_of(folder / TRANSFORMER)
    tensors = load_file(path)
    tensors["unembed.bias"] = torch.zeros(9)
    save_file(tensors, path)
    edit(folder, before, sha256_of(path))
    with pytest.raises(CheckpointError, match=r"unembed\.bias is 9 in the file, 4 in the model"):
        open_world(str(folder))


def test_an_unknown_key_or_a_contradiction_in_world_toml_is_named(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    edit(folder, "licence = ", "license = ")
    with pytest.raises(ConfigError, match=r"world\.toml: unknown key 'license'"):
        read_world_file(folder)
    edit(folder, "license = ", "licence = ")
    edit(folder, "format = 2", "format = 9")
    with pytest.raises(ConfigError, match=r"format = 9: this version reads format 2"):
        read_world_file(folder)
    edit(folder, "format = 9", "format = 2")
    edit(folder, "latent_width = 4", "latent_width = 8")
    with pytest.raises(ConfigError, match="the autoencoder makes latents"):
        read_world_file(folder)


def test_a_world_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    edit(folder, 'name = "tiny"', 'name = "../tiny"')
    with pytest.raises(ConfigError, match=r"the name '\.\./tiny' may hold letters"):
        read_world_file(folder)


def test_play_needs_no_teacher_but_its_own_starts(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    (folder / "teacher.safetensors").unlink()
    check_weights(folder, read_world_file(folder))
    (folder / "starts" / "1.safetensors").write_bytes(b"another start")
    with pytest.raises(WorldError, match=r"starts/1\.safetensors: its sha256"):
        check_weights(folder, read_world_file(folder))


def test_an_unknown_world_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"unknown world 'atlantis'; there are: "):
        find_world("atlantis")
    with pytest.raises(WorldError, match="not a world"):
        find_world(str(tmp_path))


def test_a_failed_save_leaves_the_old_world_playable(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    world = read_world_file(folder)
    with pytest.raises(FileWriteError, match="cannot be written"):
        save_world_folder(folder, world, {"a": b"file", "a/b": b"not a folder"})
    check_weights(folder, read_world_file(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("here", [False, True])
def test_a_world_replaces_no_folder_of_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, here: bool
) -> None:
    made = make_world(tmp_path / "tiny")
    world = read_world_file(made)
    mine = tmp_path / "mine"
    mine.mkdir()
    save_world_folder(mine, world, {})  # an empty folder may become one, a world another one
    save_world_folder(mine, world, {})
    (mine / "world.toml").rename(mine / "thesis.txt")
    monkeypatch.chdir(mine)
    with pytest.raises(FileWriteError, match="mine: holds files and is no world; all of them"):
        save_world_folder(Path() if here else mine, world, {})
    assert (mine / "thesis.txt").is_file()
    with pytest.raises(FileWriteError, match=r"thesis\.txt: is no folder"):
        save_world_folder(mine / "thesis.txt", world, {})


def test_a_world_written_anew_keeps_what_somebody_put_into_its_folder(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    (folder / "clips").mkdir()
    (folder / "clips" / "mine.mp4").write_bytes(b"mine")
    (folder / "clips" / "all").symlink_to(tmp_path)
    (folder / "NOTICE").write_text("of the old world")
    world = read_world_file(folder)
    starts = [path.name for path in (folder / "starts").iterdir()]
    crashed = folder.with_name(f".{folder.name}.old")  # what a write that was killed has left
    crashed.mkdir()
    (crashed / "world.toml").write_text((folder / "world.toml").read_text())
    (crashed / "older.mp4").write_bytes(b"mine, too")
    save_world_folder(folder, world, {TRANSFORMER: b"new", "clips/here.txt": b"new"})
    assert (folder / TRANSFORMER).read_bytes() == b"new"
    assert (folder / "clips" / "mine.mp4").read_bytes() == b"mine"
    assert (folder / "clips" / "all").is_symlink()
    assert (folder / "older.mp4").read_bytes() == b"mine, too"
    assert starts
    assert not (folder / "starts").exists(), "the old world's own parts go"
    assert not (folder / "NOTICE").exists()
    assert not crashed.exists()

    (folder / "world.toml").write_text("broken = [")
    (folder / TRANSFORMER).write_bytes(b"whose?")
    save_world_folder(folder, world, {})
    assert (folder / "clips" / "mine.mp4").exists()
    assert (folder / TRANSFORMER).read_bytes() == b"whose?"
