"""Worlds of Matrix-Game 2 and ForgeWM: import, keys and mouse, pictures, play, states."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worlds.wan import wan_tiny
from tests.worlds.wan.matrix_tiny import (
    make_matrix_world,
    plan,
    save_encoded,
    save_encoders,
    save_picture,
    save_student,
    size,
)
from worldmodel.__main__ import main
from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.game.controls import Controls, describe
from worldmodel.gym_env import WorldEnv
from worldmodel.gym_env.vector_env import WorldVectorEnv
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


def rows(
    world: WanWorld, actions: list[Action], chunks: int = 2
) -> tuple[list[float], list[float]]:
    """The last row of keys and of the mouse that a chunk is told after some frames."""
    control = RowControl(world.file)
    control.next(3)
    for action in actions:
        control.feed(action)
    for _ in range(chunks - 1):
        keys, mouse = control.next(3)
    return keys[0, -1, -1].tolist(), [] if mouse is None else mouse[0, -1, -1].tolist()


def test_keys_and_mouse_are_told_as_they_were_trained(world: WanWorld) -> None:
    """W, S, A, D; the mouse is up, right; a tap and a small move count for the whole chunk."""
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


def test_the_first_rows_of_a_chunk_are_those_that_the_player_has_done(world: WanWorld) -> None:
    """The window of a chunk's first latent frame ends with three of its rows, as in the log."""
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


def test_taps_that_a_chunk_has_no_room_for_wait_for_the_next_one(tmp_path: Path) -> None:
    """Of temple run's keys one is down in a chunk: what was pressed after it comes later."""
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


def test_play_follows_keys_and_mouse_from_the_next_chunk_on(world: WanWorld) -> None:
    assert world.actions.frames == 12
    idle = play(world, [IDLE] * 32)
    assert {frame.shape for frame in idle} == {(32, 48, 3)}
    assert differ(play(world, [IDLE] * 32), idle) == []
    tapped = play(world, [IDLE] * 2 + [FORWARD] + [IDLE] * 29)
    assert min(differ(tapped, idle)) == 9  # the first chunk shows 9 frames
    later = play(world, [IDLE] * 9 + [Action(mouse=(0.3, 0.0))] + [IDLE] * 22)
    assert min(differ(later, idle)) == 21
    assert differ(play(world, [IDLE] * 8, start=1), idle[:9]) == list(range(9))
    assert differ(play(world, [IDLE] * 8, seed=1), idle[:9]) == list(range(9))


def test_f1_tells_what_the_keys_do(folder: Path) -> None:
    told = {what: key for key, what in describe(read_wan_world(folder).actions, Controls())}
    assert {"forward", "back", "left", "right", "look up", "turn right"} <= told.keys()
    assert "W" in told["forward"]


def test_a_gymnasium_env_plays_it(world: WanWorld) -> None:
    """An action is told to the chunk that is drawn next, as in play."""
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
