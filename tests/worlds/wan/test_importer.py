import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worlds.wan.wan_tiny import (
    make_wan_world,
    plan,
    save_student,
    save_taehv,
    save_vae,
    save_words,
    transformer_tensors,
)
from worldmodel.__main__ import main
from worldmodel.config import UserError
from worldmodel.game.menu.library import Library
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.wan.prompts import load_prompts
from worldmodel.wan.samplers import RECIPES
from worldmodel.wan.transformer_keys import diffusers_name
from worldmodel.worlds.find import open_world
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.importer import import_files
from worldmodel.worlds.wan.world_file import PROMPTS, TAEHV, TRANSFORMER, VAE, read_wan_world
from worldmodel.worlds.world_folder import sha256_of

SETTINGS = RunSettings(device="cpu", dtype="float32", threads=1)
WARPED = (1.0, 0.9375, 0.8333, 0.625, 0.0)


def test_a_training_checkpoint_becomes_a_world_with_its_exact_weights(tmp_path: Path) -> None:
    folder = make_wan_world(tmp_path / "world")
    world = read_wan_world(folder)
    written = load_file(folder / TRANSFORMER)
    expected = transformer_tensors()
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    assert {name: sha256_of(folder / name) for name in world.sha256} == world.sha256
    assert world.sha256.keys() == {TRANSFORMER, TAEHV, PROMPTS}
    assert (folder / "NOTICE").is_file()
    assert "model.pt" in (folder / "CARD.md").read_text()
    assert list(tmp_path.glob(".world*")) == []


@pytest.mark.parametrize(
    ("recipe", "steps", "chunk", "frames"),
    [
        ("framewise-4step", WARPED, 1, 4),
        ("framewise-2step", (1.0, 0.8333, 0.0), 1, 4),
        ("framewise-1step", (1.0, 0.0), 1, 4),
        ("chunkwise-4step", WARPED, 3, 12),
    ],
)
def test_a_recipe_gives_the_sampler_of_training(
    tmp_path: Path, recipe: str, steps: tuple[float, ...], chunk: int, frames: int
) -> None:
    world = read_wan_world(make_wan_world(tmp_path / "world", recipe))
    assert world.sampler.sigmas == pytest.approx(steps, abs=1e-4)
    assert world.first_sampler.sigmas == pytest.approx(WARPED, abs=1e-4)
    assert (world.window.chunk_frames, world.actions.frames) == (chunk, frames)
    assert world.window.slots == 21


def test_a_camera_branch_needs_no_recipe(tmp_path: Path) -> None:
    world = read_wan_world(make_wan_world(tmp_path / "world", None, cameras=True))
    assert world.recipe == "action2v"
    assert world.transformer.cameras
    assert world.camera is not None
    assert world.camera.focal == pytest.approx((0.50505, 0.89787), abs=1e-5)
    assert world.window.slots == 20


def test_what_the_tensors_cannot_say_must_be_named(tmp_path: Path) -> None:
    path = save_student(tmp_path / "framewise-2step.pt")
    with pytest.raises(UserError, match=r"--recipe NAME.*names: framewise-4step \(.*chunkwi"):
        import_files([path], tmp_path / "world", plan(None))
    with pytest.raises(UserError, match="--recipe action2v: for these tensors there are"):
        import_files([path], tmp_path / "world", plan("action2v"))
    assert not (tmp_path / "world").exists()


def test_diffusers_names_give_the_same_world(tmp_path: Path) -> None:
    theirs = {diffusers_name(name): t for name, t in transformer_tensors().items()}
    save_file(theirs, tmp_path / "a.safetensors")
    import_files([tmp_path / "a.safetensors"], tmp_path / "world", plan("bidirectional"))
    written = load_file(tmp_path / "world" / TRANSFORMER)
    assert all(torch.equal(written[k], t) for k, t in transformer_tensors().items())


def test_all_that_is_wrong_is_listed_and_nothing_is_written(tmp_path: Path) -> None:
    tensors = transformer_tensors()
    del tensors["blocks.0.ffn.2.bias"]
    tensors["blocks.0.extra"] = torch.zeros(1)
    tensors["head.modulation"] = torch.zeros(1, 3, 128)
    torch.save({"generator": {f"model.{k}": v for k, v in tensors.items()}}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError) as raised:
        import_files([tmp_path / "m.pt"], tmp_path / "world", plan())
    for part in ("1 missing (blocks.0.ffn.2.bias)", "1 unexpected (blocks.0.extra)", "1 x 3 x 128"):
        assert part in str(raised.value)
    assert not (tmp_path / "world").exists()


def test_parts_can_be_added_later(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    import_files([save_student(tmp_path / "m.pt")], folder, plan())
    before = sha256_of(folder / TRANSFORMER)
    import_files([save_vae(tmp_path / "v.pth")], folder, plan(None))
    import_files([save_words(tmp_path / "w.bin")], folder, plan(None))
    world = read_wan_world(folder)
    assert world.sha256.keys() == {TRANSFORMER, VAE, PROMPTS}
    assert sha256_of(folder / TRANSFORMER) == before == world.sha256[TRANSFORMER]
    assert world.recipe == "framewise-2step"
    assert set(world.source) == {"transformer", "vae", "prompts"}
    assert "a desert" in load_prompts(folder / PROMPTS)


def test_a_failed_import_leaves_the_old_world_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_wan_world(tmp_path / "world")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worldmodel.worlds.wan.importer.save_tensors", full_disk)
    with pytest.raises(UserError, match="No space left"):
        import_files([save_taehv(tmp_path / "t.pth")], folder, plan(None))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.glob(".world*")] == []


def test_without_a_transformer_there_is_no_world(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no transformer among these files"):
        import_files([save_taehv(tmp_path / "t.pth")], tmp_path / "world", plan())
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is no Wan world"):
        import_files([save_student(tmp_path / "m.pt")], tmp_path / "mine", plan())


def test_weights_are_kept_in_the_dtype_that_was_asked_for(tmp_path: Path) -> None:
    half = replace(plan(), dtype=torch.bfloat16)
    import_files([save_student(tmp_path / "m.pt")], tmp_path / "world", half)
    written = load_file(tmp_path / "world" / TRANSFORMER)
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}


def test_the_command_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(save_student(tmp_path / "m.pt"))
    to = str(tmp_path / "world")
    assert main(["import", path, "--to", to]) == 2
    assert "--recipe" in capsys.readouterr().err
    command = ["import", path, "--to", to, "--recipe", "framewise-1step", "--prompt", "a forest"]
    assert main([*command, "--key", "Digit1=+ Rain."]) == 0
    assert "transformer: m.pt, " in capsys.readouterr().out
    world = read_wan_world(tmp_path / "world")
    assert world.prompts.keys == {"Digit1": "+ Rain."}
    assert world.frame_size == (480, 832)
    assert main([*command, "--key", "Digit1"]) == 2


def test_recipes_hold_whole_chunks() -> None:
    """But for GTA's, which was distilled with a window that ends within a chunk."""
    cut = {name for name, r in RECIPES.items() if r.window_frames % r.chunk_frames}
    assert cut == {"matrix-game2-gta"}
    for recipe in RECIPES.values():
        assert recipe.sink_frames % recipe.chunk_frames == 0
        assert recipe.sampler.steps == len(recipe.steps)


def test_a_changed_file_is_told_at_the_next_start_and_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_wan_world(tmp_path / "world")
    assert main(["worlds", "--check", str(folder)]) == 0
    assert "3 files are what" in capsys.readouterr().out
    path = folder / TRANSFORMER
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the same size, and still a whole safetensors file
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"transformer.safetensors: its sha256 is .* copy it again"):
        open_world(str(folder), SETTINGS)
    assert main(["worlds", "--check", str(folder)]) == 2
    assert "its sha256 is" in capsys.readouterr().err


def test_files_are_hashed_at_a_start_only_where_they_were_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, hashed = make_wan_world(tmp_path / "world"), []

    def note(path: Path) -> str:
        hashed.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr("worldmodel.worlds.world_folder.sha256_of", note)
    open_world(str(folder), SETTINGS)
    assert hashed == []
    (folder / TRANSFORMER).touch()  # as a copy of the folder would have it
    open_world(str(folder), SETTINGS)
    assert hashed == [TRANSFORMER]
    import_files([save_vae(tmp_path / "v.pth")], folder, plan(None))  # which hides nothing
    open_world(str(folder), SETTINGS)
    assert hashed == [TRANSFORMER] * 2


def test_openings_and_keys_can_be_added_later(tmp_path: Path) -> None:
    folder = make_wan_world(tmp_path / "world")
    more = replace(plan(None), title="Weather", openings=("a desert",), keys={"Digit3": "a forest"})
    world = import_files([save_words(tmp_path / "w.safetensors")], folder, more)
    assert world.title == "Weather"
    assert world.prompts.opening == ("a desert",)
    assert world.actions.buttons == ("Digit1", "Digit2", "Digit3")
    assert world.actions.names[2] == world.prompts.keys["Digit3"] == "a forest"
    with pytest.raises(UserError, match=r"--recipe framewise-1step: world has the recipe"):
        import_files([tmp_path / "w.safetensors"], folder, plan("framewise-1step"))


KILLED = """
import os, signal, sys
import worldmodel.worlds.wan.importer as importing
from worldmodel.__main__ import main

def killed(path, *_, **__):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("SIGTERM did not end it")

importing.save_tensors = killed
sys.exit(main(sys.argv[1:]))
"""


def test_an_interrupt_leaves_nothing_half_made(tmp_path: Path) -> None:
    student, world = save_student(tmp_path / "m.pt", cameras=True), tmp_path / "world"
    command = [sys.executable, "-c", KILLED, "import", str(student), "--to", str(world)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (143, "worldmodel: ended by SIGTERM\n")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_words_that_nothing_can_say_are_told_at_the_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, folder = save_student(tmp_path / "m.pt", cameras=True), tmp_path / "world"
    command = ["import", str(student), "--to", str(folder), "--prompt", "a castle"]
    assert main(command) == 0
    assert "'a castle' cannot be said yet: name --text-encoder" in capsys.readouterr().out


def test_an_imported_world_is_listed_and_shown_in_the_menu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_wan_world(tmp_path / "world")
    elsewhere = Library(folder)  # played, but not among the shipped ones
    elsewhere.look()
    elsewhere.close()
    monkeypatch.setattr("worldmodel.worlds.find.shipped_worlds", lambda: tmp_path)
    assert main(["worlds"]) == 0
    told = capsys.readouterr().out
    assert "48x32, 16 frames/s, 2 denoising steps" in told
    assert "start 1: a desert" in told
    listed = Library(None)
    listed.look()
    listed.close()
    for found in (elsewhere.worlds[0], listed.worlds[0]):
        assert (found.name, found.frame_size) == ("world", (32, 48))
        assert [start.caption for start in found.starts] == ["a forest", "a desert"]
