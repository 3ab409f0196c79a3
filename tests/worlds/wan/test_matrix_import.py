"""Released files of Matrix-Game 2 and ForgeWM: recognised, imported, refused with a reason."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worlds.wan import wan_tiny
from tests.worlds.wan.matrix_tiny import (
    KEYS,
    make_matrix_world,
    plan,
    save_encoded,
    save_encoders,
    save_student,
    size,
    student_tensors,
)
from worldmodel.config import UserError, to_toml
from worldmodel.wan.model_config import PictureConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.worlds.find import open_world
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.importer import import_files
from worldmodel.worlds.wan.world import WanWorld
from worldmodel.worlds.wan.world_file import (
    TRANSFORMER,
    read_wan_world,
)
from worldmodel.worlds.world_folder import WORLD_FILE

SETTINGS = RunSettings(device="cpu", dtype="float32", threads=1)


KEYS_OF_THREE, KEYS_OF_FIRST = (f"blocks.{n}.action_model.keyboard_embed.0.weight" for n in (3, 0))
MOUSE = "blocks.0.action_model.mouse_mlp.0.weight"


@pytest.mark.parametrize(
    ("recipe", "steps", "window", "action_window"),
    [
        ("matrix-game2", (1.0, 0.9088, 0.714, 0.0), 6, 6),
        ("matrix-game2-gta", (1.0, 0.9088, 0.714, 0.0), 4, 4),
        ("matrix-game2-templerun", (1.0, 0.9375, 0.8333, 0.625, 0.0), 6, 6),
        ("forgewm", (1.0, 0.9375, 0.8333, 0.625, 0.0), 9, 6),
    ],
)
def test_a_released_file_is_recognised_by_its_contents(
    tmp_path: Path, recipe: str, steps: tuple[float, ...], window: int, action_window: int
) -> None:
    """Neither a recipe nor a name says which variant it is."""
    world = read_wan_world(make_matrix_world(tmp_path / "world", recipe))
    assert world.recipe == recipe
    assert world.sampler.sigmas == world.first_sampler.sigmas
    assert world.sampler.sigmas == pytest.approx(steps, abs=1e-4)
    assert (world.window.window_frames, world.window.action_frames) == (window, action_window)
    assert (world.window.chunk_frames, world.actions.frames) == (3, 12)
    assert world.window.sink_frames == 0
    assert world.frames_per_second == 12.0
    assert world.captions == ["hall", "field"]
    written = load_file(tmp_path / "world" / TRANSFORMER)
    expected = student_tensors(KEYS[recipe])
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    card = (tmp_path / "world" / "CARD.md").read_text()
    assert f"{len(expected)} tensors" in card
    assert "KeyW" in card
    assert ("window 9, 6 of keys and mouse" in card) == (recipe == "forgewm")
    assert "Apache-2.0" in (tmp_path / "world" / "NOTICE").read_text()
    assert (tmp_path / "world" / WORLD_FILE).read_text(encoding="utf-8") == to_toml(world)


def test_the_sizes_of_real_latents_are_the_recipe_s(tmp_path: Path) -> None:
    real = replace(plan(), rows=0, columns=0)
    import_files([save_student(tmp_path / "m.safetensors")], tmp_path / "world", real)
    assert read_wan_world(tmp_path / "world").frame_size == (352, 640)


@pytest.mark.parametrize(
    ("recipe", "steps", "chunk"),
    [("forgewm-teacher", 50, 3), ("forgewm-consistency", 4, 3), ("forgewm-bidirectional", 50, 21)],
)
def test_stages_with_an_action_module_in_every_layer_are_named(
    tmp_path: Path, recipe: str, steps: int, chunk: int
) -> None:
    path = save_student(tmp_path / "model.pt", keys=6, layers=30, network="generator")
    told = r"model\.pt … --to WORLD --recipe NAME, .*: forgewm-consistency .*stage0"
    with pytest.raises(UserError, match=told):
        import_files([path], tmp_path / "world", plan())
    with pytest.raises(UserError, match=told):
        open_world(str(path), SETTINGS)
    import_files([path], tmp_path / "world", plan(recipe))
    world = read_wan_world(tmp_path / "world")
    card = (tmp_path / "world" / "CARD.md").read_text()
    assert f"that it is {recipe} was named" in card  # a wrong answer is not silent
    assert all(f"ForgeWM stage{number}" in card for number in (0, 1, 2))
    assert "tensors of generator" in card
    assert (world.sampler.steps, world.window.chunk_frames) == (steps, chunk)
    assert world.sampler.renoise == (recipe == "forgewm-consistency")


def test_a_file_that_holds_the_averaged_network_alone_is_a_student(tmp_path: Path) -> None:
    """ForgeWM's stage 2: its stages 0 and 1 hold the trained one, or both."""
    path = save_student(tmp_path / "model.pt", keys=6, layers=30)
    import_files([path], tmp_path / "world", plan())
    assert read_wan_world(tmp_path / "world").recipe == "forgewm-consistency"
    import_files([path], tmp_path / "other", plan("forgewm-teacher"))
    assert read_wan_world(tmp_path / "other").recipe == "forgewm-teacher"
    tensors = torch.load(path, weights_only=True)["generator_ema"]
    torch.save({"generator": tensors, "generator_ema": tensors}, path)
    with pytest.raises(UserError, match="do not say which kind"):
        import_files([path], tmp_path / "third", plan())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({KEYS_OF_THREE: None}, rf"1 missing \({KEYS_OF_THREE}\); the file is not whole, download"),
        ({KEYS_OF_FIRST: None}, rf"{KEYS_OF_FIRST} is missing; .*download"),
        ({"blocks.2.action_model.extra": (1,)}, r"1 unexpected \(blocks\.2\.act.*name another"),
        ({"blocks.20.action_model.extra": (1,)}, r"1 unexpected \(blocks\.20\.act.*name another"),
        ({MOUSE: (16, 128 + 25)}, r"takes 153 numbers, expected 128 .* multiple of 12"),
        ({MOUSE: (16, 128)}, r"takes 128 numbers, expected 128 .* multiple of 12"),
        ({KEYS_OF_FIRST: (8, 5)}, r"misshapen \(blocks\.1\.act.*8 x 4 float32, expected 8 x 5"),
        ({KEYS_OF_FIRST: (0, 4)}, r"is 0 x 4 float32, expected 2 axes, none of them empty"),
        ({"patch_embedding.weight": (128, 36, 1, 0, 0)}, "none of them empty"),
        (
            {"blocks.0.action_model.key_attn_q_norm.weight": (999,)},
            r"sizes that no transformer has",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told_and_what_to_do(
    tmp_path: Path, change: dict[str, tuple[int, ...] | None], told: str
) -> None:
    tensors = student_tensors()
    for name, shape in change.items():
        tensors.pop(name, None)
        tensors |= {} if shape is None else {name: torch.zeros(shape)}
    torch.save(tensors, tmp_path / "m.pt")
    with pytest.raises(UserError, match=r"m\.pt: .*" + told):
        import_files([tmp_path / "m.pt"], tmp_path / "world", plan())
    assert not (tmp_path / "world").exists()


def test_files_that_are_cut_of_whole_numbers_or_of_another_variant_are_told(tmp_path: Path) -> None:
    tensors, world = student_tensors(), tmp_path / "world"
    for path in (save_student(tmp_path / "m.safetensors"), save_student(tmp_path / "m.pt", 6)):
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(UserError, match=rf"{path.name}: not a whole .*"):
            import_files([path], world, plan())
    torch.save({name: tensor.to(torch.int8) for name, tensor in tensors.items()}, path)
    with pytest.raises(UserError, match=r"misshapen .* int8, expected .* float32.*; name another"):
        import_files([path], world, plan())
    with pytest.raises(UserError, match=r"gta: for these tensors \(4 keys, 2 .* 15 layers.*game2 "):
        import_files([save_student(path)], world, plan("matrix-game2-gta"))
    with pytest.raises(UserError, match="5 keys and 2 numbers of the mouse; expected 2, 4, 6, 7 k"):
        import_files([save_student(path, keys=5)], world, plan("forgewm"))
    save_student(path, layers=2)
    for recipe in (None, "matrix-game2-gta"):  # what only a person knows: another's is no choice
        with pytest.raises(UserError, match=r": matrix-game2 \([^;]*\)$"):
            import_files([path], world, plan(recipe))
    import_files([path], world, plan("matrix-game2"))


def test_parts_that_were_made_for_another_model_are_refused_at_import(tmp_path: Path) -> None:
    """Not when it is played, nor after minutes in which a picture was encoded."""
    wide = save_student(tmp_path / "wide.safetensors")
    torch.manual_seed(0)
    model = WanTransformer(replace(size(), picture=PictureConfig(width=160, tokens=257)))
    save_file({name: x.contiguous() for name, x in model.state_dict().items()}, wide)
    files = [wide, *save_encoders(tmp_path)]
    with pytest.raises(UserError, match=r"encoder gives 257 x 80 features .* reads 257 x 160"):
        import_files(files, tmp_path / "world", plan())
    with pytest.raises(UserError, match=r"b\.pth: a second vae"):
        import_files([*files, wan_tiny.save_vae(tmp_path / "b.pth")], tmp_path / "world", plan())
    assert not (tmp_path / "world").exists()


def test_words_are_refused_where_a_picture_is_read(tmp_path: Path) -> None:
    folder = make_matrix_world(tmp_path / "matrix")
    path = save_student(tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="a picture and no words"):
        import_files([path], tmp_path / "world", replace(plan(), openings=("a forest",)))
    with pytest.raises(UserError, match="reads a picture and no words"):
        WanWorld.load(folder, replace(SETTINGS, prompt="a forest"))
    with pytest.raises(UserError, match="a student of 3 steps"):
        WanWorld.load(folder, replace(SETTINGS, steps=2))
    words = wan_tiny.save_student(tmp_path / "t2v.pt")
    pictures = save_encoded(tmp_path / "p.safetensors")
    with pytest.raises(UserError, match="its model reads words"):
        import_files([words, pictures], tmp_path / "t2v", wan_tiny.plan())
