"""Worlds of Matrix-Game 2 and ForgeWM: import, keys and mouse, pictures, play, states."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
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
    save_picture,
    save_student,
    size,
    student_tensors,
)
from worldmodel.__main__ import main
from worldmodel.action import IDLE, Action
from worldmodel.config import UserError, to_toml
from worldmodel.game.controls import Controls, describe
from worldmodel.gym_env import WorldEnv
from worldmodel.gym_env.vector_env import WorldVectorEnv
from worldmodel.wan.model_config import PictureConfig
from worldmodel.wan.pictures import CHANGING, PictureCondition, load_pictures
from worldmodel.wan.transformer import WanTransformer
from worldmodel.world import Frame, step
from worldmodel.worlds.find import open_world
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.importer import import_files
from worldmodel.worlds.wan.row_control import RowControl
from worldmodel.worlds.wan.start import check_picture
from worldmodel.worlds.wan.world import WanWorld
from worldmodel.worlds.wan.world_file import (
    IMAGE_ENCODER,
    PICTURES,
    TAEHV,
    TRANSFORMER,
    VAE,
    read_wan_world,
)
from worldmodel.worlds.world_folder import WORLD_FILE

SETTINGS = RunSettings(device="cpu", dtype="float32", threads=1)
FORWARD = Action(frozenset({"KeyW"}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_matrix_world(tmp_path_factory.mktemp("matrix") / "world")


@pytest.fixture(scope="module")
def world(folder: Path) -> WanWorld:
    return WanWorld.load(folder, SETTINGS)


def play(world: WanWorld, actions: list[Action], start: int = 0, seed: int = 0) -> list[Frame]:
    return [world.reset(start, seed), *(step(world, action) for action in actions)]


def differ(one: list[Frame], other: list[Frame]) -> list[int]:
    return [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if not np.array_equal(a, b)]


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
    assert (world.window.block_frames, world.actions.frames) == (3, 12)
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
    ("recipe", "steps", "block"),
    [("forgewm-teacher", 50, 3), ("forgewm-consistency", 4, 3), ("forgewm-bidirectional", 50, 21)],
)
def test_stages_with_an_action_module_in_every_layer_are_named(
    tmp_path: Path, recipe: str, steps: int, block: int
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
    assert (world.sampler.steps, world.window.block_frames) == (steps, block)
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


KEYS_OF_THREE, KEYS_OF_FIRST = (f"blocks.{n}.action_model.keyboard_embed.0.weight" for n in (3, 0))
MOUSE = "blocks.0.action_model.mouse_mlp.0.weight"


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


def test_words_are_refused_where_a_picture_is_read(tmp_path: Path, folder: Path) -> None:
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


def rows(
    world: WanWorld, actions: list[Action], blocks: int = 2
) -> tuple[list[float], list[float]]:
    """The last row of keys and of the mouse that a block is told after some frames."""
    control = RowControl(world.file)
    control.next(3)
    for action in actions:
        control.feed(action)
    for _ in range(blocks - 1):
        keys, mouse = control.next(3)
    return keys[0, -1, -1].tolist(), [] if mouse is None else mouse[0, -1, -1].tolist()


def test_keys_and_mouse_are_told_as_they_were_trained(world: WanWorld) -> None:
    """W, S, A, D; the mouse is up, right; a tap and a small move count for the whole block."""
    assert world.file.controls is not None
    assert world.file.controls.keys == ("KeyW", "KeyS", "KeyA", "KeyD")
    one = [IDLE] * 5 + [Action(frozenset({"KeyS", "KeyD"}), (0.6, -0.3))] + [IDLE] * 6
    keys, mouse = rows(world, one)
    assert keys == [0.0, 1.0, 0.0, 1.0]
    assert mouse == pytest.approx([0.3 / 12 / 50, 0.6 / 12 / 50])
    assert rows(world, [IDLE] * 12) == ([0.0] * 4, [0.0, 0.0])
    looked = rows(world, [Action(frozenset({"KeyI", "KeyL"}))])[1]
    assert looked == pytest.approx([0.1, 0.1])
    fast = rows(world, [Action(mouse=(5.0, 5.0))] * 12 + [Action(frozenset({"KeyL"}))])[1]
    assert fast == pytest.approx([-0.1, 0.1])  # held to what training has shown
    flick = world.actions.known(Action(mouse=(30.0, 0.0)))  # within one frame
    assert rows(world, [flick])[1] == pytest.approx([0.0, 0.05])


def test_the_first_rows_of_a_block_are_those_that_the_player_has_done(world: WanWorld) -> None:
    """The window of a block's first latent frame ends with three of its rows, as in the log."""
    control = RowControl(world.file)
    first, _ = control.next(3)
    assert first.shape == (1, 3, 12, 4)
    assert not first.any()
    control.feed(FORWARD)
    keys = control.next(3)[0][0, :, :, 0]
    assert keys[0].tolist() == [0.0] * 9 + [1.0] * 3
    assert keys[1].tolist() == [0.0] * 5 + [1.0] * 7
    assert keys[2].tolist() == [0.0] + [1.0] * 11
    after = control.next(3)[0][0, :, :, 0]
    assert after[0].tolist() == [1.0] * 9 + [0.0] * 3


def test_gta_steers_and_temple_run_presses_one_key(tmp_path: Path) -> None:
    gta = WanWorld.load(make_matrix_world(tmp_path / "gta", "matrix-game2-gta"), SETTINGS)
    assert rows(gta, [Action(frozenset({"KeyW", "KeyD"}))]) == (
        [1.0, 0.0],
        [0.0, pytest.approx(0.1)],
    )
    assert rows(gta, [Action(frozenset({"KeyS", "KeyA"}))])[1] == pytest.approx([0.0, -0.1])
    run = WanWorld.load(make_matrix_world(tmp_path / "run", "matrix-game2-templerun"), SETTINGS)
    assert rows(run, [IDLE]) == ([1.0] + [0.0] * 6, [])
    assert rows(run, [Action(frozenset({"KeyW"}))])[0] == [0.0, 1.0] + [0.0] * 5
    assert rows(run, [Action(frozenset({"KeyD", "KeyS"}))])[0] == [0.0, 0.0, 1.0] + [0.0] * 4
    assert not run.actions.uses_mouse
    names = dict(zip(run.actions.buttons, run.actions.names, strict=True))
    assert names["KeyC"] == "turn right"


def test_taps_that_a_block_has_no_room_for_wait_for_the_next_one(tmp_path: Path) -> None:
    """Of temple run's keys one is down in a block: what was pressed after it comes later."""
    run = WanWorld.load(make_matrix_world(tmp_path / "run", "matrix-game2-templerun"), SETTINGS)
    jump, side = Action(frozenset({"KeyW"})), Action(frozenset({"KeyA"}))
    control = RowControl(run.file)
    control.next(3)
    told = []
    for done in ([side, IDLE, jump], [jump], [], []):
        for action in done:
            control.feed(action)
        told.append(control.next(3)[0][0, -1, -1].argmax().item())
    assert told == [5, 1, 0, 0]  # left side, jump, then nothing
    play(run, [side, jump, *[IDLE] * 7])
    state = run.save_state()
    expected = [step(run, IDLE) for _ in range(26)]
    assert json.loads(bytes(state.arrays["session"]))["waiting"] == ["KeyW"]
    play(run, [side, *[IDLE] * 8])
    assert differ([step(run, IDLE) for _ in range(26)], expected)
    run.load_state(state)
    assert differ([step(run, IDLE) for _ in range(26)], expected) == []


def test_play_follows_keys_and_mouse_from_the_next_block_on(world: WanWorld) -> None:
    assert world.actions.frames == 12
    idle = play(world, [IDLE] * 32)
    assert {frame.shape for frame in idle} == {(32, 48, 3)}
    assert differ(play(world, [IDLE] * 32), idle) == []
    tapped = play(world, [IDLE] * 2 + [FORWARD] + [IDLE] * 29)
    assert min(differ(tapped, idle)) == 9  # the first block shows 9 frames
    later = play(world, [IDLE] * 9 + [Action(mouse=(0.3, 0.0))] + [IDLE] * 22)
    assert min(differ(later, idle)) == 21
    assert differ(play(world, [IDLE] * 8, start=1), idle[:9]) == list(range(9))
    assert differ(play(world, [IDLE] * 8, seed=1), idle[:9]) == list(range(9))


def test_f1_tells_what_the_keys_do(folder: Path) -> None:
    told = {what: key for key, what in describe(read_wan_world(folder).actions, Controls())}
    assert {"forward", "back", "left", "right", "look up", "turn right"} <= told.keys()
    assert "W" in told["forward"]


def test_a_gymnasium_env_plays_it(world: WanWorld) -> None:
    """An action is told to the block that is drawn next, as in play."""
    env = WorldEnv(world)
    nothing = np.zeros_like(env.action_space.sample())
    forward = nothing.copy()
    forward[0] = 1
    frames = [
        [env.reset(seed=0)[0], *(env.step(action)[0] for _ in range(9))]
        for action in (nothing, forward)
    ]
    assert frames[0][0].shape == (32, 48, 3)
    assert differ(*frames) == [9]


def test_a_batch_of_sessions_is_what_each_sees_alone(world: WanWorld) -> None:
    """Over a wrapped window, from two pictures, with keys and mouse of their own."""
    envs = WorldVectorEnv(2, world)
    still = np.zeros_like(envs.action_space.sample())
    rng = np.random.default_rng(0)
    actions = [still, *(rng.integers(0, 2, still.shape).astype(still.dtype) for _ in range(40))]
    _, info = envs.reset(seed=5)
    assert set(info["start"]) == {0, 1}
    together = [envs.reset(seed=5)[0], *(envs.step(action)[0] for action in actions)]
    assert not np.array_equal(together[-1][0], together[-1][1])
    alone = WorldEnv(world)
    for number in range(2):
        frames = [alone.reset(seed=5 + number)[0]]
        frames += [alone.step(action[number])[0] for action in actions]
        difference = np.abs(np.stack(frames).astype(int) - np.stack(together)[:, number])
        assert difference.max() <= 1  # the rounding of another batch size


def test_a_long_session_keeps_its_memory(world: WanWorld) -> None:
    world.reset(0, 0)
    cache = world.session.rollout.cache
    before = cache.bytes
    for _ in range(12 * 4):
        step(world, FORWARD)
    assert world.session.rollout.cache.bytes == before
    assert cache.now == 15
    assert len(world.session.rollout.recent) == 0  # nothing is read again under other words


@pytest.mark.parametrize("frames", [5, 70])
def test_a_state_goes_on_bit_for_bit_with_its_own_picture(
    tmp_path: Path, world: WanWorld, frames: int
) -> None:
    """Also in a world that has other pictures now."""
    actions = [FORWARD if i % 7 < 3 else Action(mouse=(0.4, 0.1)) for i in range(frames + 14)]
    play(world, actions[:frames], start=1)
    state = world.save_state()
    expected = [step(world, action) for action in actions[frames:]]
    kinds = {name.split(".")[1] for name in state.arrays if name.startswith("cache.")}
    assert kinds == {"moved", "slot", "keys", "mouse"}
    assert json.loads(bytes(state.arrays["session"]))["history"] == [0, 0]
    play(world, [FORWARD] * 3)
    world.load_state(state)
    assert differ([step(world, action) for action in actions[frames:]], expected) == []
    other = tmp_path / "other"
    files = [save_student(tmp_path / "m.bin"), wan_tiny.save_taehv(tmp_path / "t.pth")]
    torch.manual_seed(11)
    import_files([*files, save_encoded(tmp_path / "q.safetensors", ("else", "x"))], other, plan())
    elsewhere = WanWorld.load(other, SETTINGS)
    elsewhere.load_state(replace(state, identity=elsewhere.identity))
    assert differ([step(elsewhere, action) for action in actions[frames:]], expected) == []


def test_a_picture_of_the_user_s_own_begins_a_session(tmp_path: Path) -> None:
    """Encoded when play begins, or when it is imported: the same session."""
    folder, picture = tmp_path / "world", save_picture(tmp_path / "p.png")
    files = [save_student(tmp_path / "m.safetensors"), *save_encoders(tmp_path)]
    import_files(files, folder, plan())
    assert {path.name for path in folder.iterdir()} >= {IMAGE_ENCODER, VAE, TRANSFORMER}
    with pytest.raises(UserError, match="begins with a picture and has none"):
        WanWorld.load(folder, SETTINGS)
    own = WanWorld.load(folder, replace(SETTINGS, start=str(picture)))
    assert own.starts == ["p.png"]
    frames = play(own, [FORWARD] * 14)
    import_files(
        [wan_tiny.save_vae(tmp_path / "v2.pth")], folder, replace(plan(), pictures=(picture,))
    )
    assert list(load_pictures(folder / PICTURES)) == ["p.png"]
    kept = WanWorld.load(folder, SETTINGS)
    assert kept.starts == read_wan_world(folder).captions == ["p.png"]
    # Import computes on all cores, which rounds otherwise.
    again = play(kept, [FORWARD] * 14)
    assert max(int(abs(a.astype(int) - b).max()) for a, b in zip(again, frames, strict=True)) <= 1
    other = WanWorld.load(folder, replace(SETTINGS, start=str(save_picture(tmp_path / "q.png", 1))))
    assert other.starts == ["q.png", "p.png"]
    assert differ(play(other, [FORWARD] * 14), frames) == list(range(15))
    (folder / IMAGE_ENCODER).unlink()
    (folder / VAE).rename(folder / "gone")
    wan_tiny.save_taehv(tmp_path / "t.pth")
    import_files([tmp_path / "t.pth"], folder, plan())
    assert play(WanWorld.load(folder, SETTINGS), [IDLE])[0].shape == (32, 48, 3)
    with pytest.raises(UserError, match="has no encoders for pictures"):
        WanWorld.load(folder, replace(SETTINGS, start=str(picture)))


def test_a_picture_without_encoders_says_what_is_missing(tmp_path: Path) -> None:
    wanted = replace(plan(), pictures=(save_picture(tmp_path / "p.png"),))
    student = save_student(tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=r"needs Wan2\.1_VAE\.pth"):
        import_files([student], tmp_path / "world", wanted)
    with pytest.raises(UserError, match="needs models_clip"):
        import_files([student, wan_tiny.save_vae(tmp_path / "v.pth")], tmp_path / "world", wanted)
    assert not (tmp_path / "world").exists()


def test_a_picture_that_was_encoded_for_another_size_is_told(tmp_path: Path) -> None:
    files = [save_student(tmp_path / "m.bin"), wan_tiny.save_taehv(tmp_path / "t.pth")]
    files.append(save_encoded(tmp_path / "p.safetensors"))
    with pytest.raises(UserError, match=r"hall: encoded as .*another size"):
        import_files(files, tmp_path / "world", replace(plan(), columns=8))
    import_files(files[:2], tmp_path / "world", replace(plan(), columns=8))
    files[2].rename(tmp_path / "world" / PICTURES)
    with pytest.raises(UserError, match=r"hall: encoded as .*another size"):
        WanWorld.load(tmp_path / "world", SETTINGS)
    long = PictureCondition(torch.zeros(257, 80), torch.zeros(CHANGING + 1, 16, 4, 8))
    with pytest.raises(UserError, match="31 latent frames"):
        check_picture(read_wan_world(tmp_path / "world"), long, "hall")


def test_an_image_to_video_model_without_keys_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = WanTransformer(replace(size(), layers=1, actions=None))
    torch.save(model.state_dict(), tmp_path / "i2v.pt")
    with pytest.raises(UserError, match="without keys or mouse"):
        import_files([tmp_path / "i2v.pt"], tmp_path / "world", plan())


def test_a_released_file_plays_with_what_lies_beside_it(tmp_path: Path) -> None:
    """At the real size of its latents, so it is not drawn here."""
    path = save_student(tmp_path / "anything.bin")
    save_encoders(tmp_path)
    with pytest.raises(UserError, match=r"expected|missing|not the"):
        open_world(str(path), SETTINGS)  # its encoders are of tiny sizes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('keys = ["KeyW", "KeyS", "KeyA", "KeyD"]', 'keys = ["KeyW"]'), "names 1 keys"),
        (("idle = -1", "idle = 4"), "there are 4 keys"),
        (('"KeyI", "KeyK", "KeyJ", "KeyL"]', '"KeyI", "KeyK", "KeyJ"]'), "pair up"),
        (('start_pictures = ["hall", "field"]', 'start_pictures = ["\\u0001"]'), "printable"),
        (("mouse = 2", "mouse = 3"), "3 numbers of the mouse"),
        (("rows_per_latent = 4", "rows_per_latent = 2"), "2 rows of actions"),
        (("prompts = false", "prompts = true"), "no words"),
    ],
)
def test_a_world_file_that_fits_no_model_is_told(
    tmp_path: Path, folder: Path, change: tuple[str, str], told: str
) -> None:
    text = (folder / WORLD_FILE).read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / WORLD_FILE).write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(UserError, match=told):
        read_wan_world(tmp_path)


def test_a_file_imports_and_plays_without_a_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands that a person types: import, then headless play with a recording."""
    folder = make_matrix_world(tmp_path / "world")
    monkeypatch.chdir(tmp_path)
    play_it = ["play", "--world", str(folder), "--device", "cpu", "--dtype", "float32"]
    play_it += ["--threads", "1"]
    assert main([*play_it, "--headless", "--frames", "30", "--record", "take"]) == 0
    assert main([*play_it, "--headless", "--replay", "take.jsonl"]) == 0
    assert "31 of 31 frames identical" in capsys.readouterr().out
    assert (folder / TAEHV).is_file()
