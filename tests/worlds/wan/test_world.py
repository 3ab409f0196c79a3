import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.worlds.wan.wan_tiny import (
    WORDS,
    make_wan_world,
    plan,
    save_student,
    save_taehv,
    save_vae,
    save_words,
)
from worldmodel.action import IDLE, Action, Prompt
from worldmodel.config import UserError, to_toml
from worldmodel.gym_env.vector_env import WorldVectorEnv
from worldmodel.storage.images import fit
from worldmodel.wan.streaming_decoder import StreamingDecoder
from worldmodel.wan.wan_rollout import WanRollout
from worldmodel.world import Frame, step
from worldmodel.worlds.find import open_world
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.camera_control import Drive
from worldmodel.worlds.wan.description import MINWM_CAMERA
from worldmodel.worlds.wan.importer import import_files
from worldmodel.worlds.wan.world import WanWorld
from worldmodel.worlds.wan.world_file import read_wan_world
from worldmodel.worlds.world_folder import WORLD_FILE

SETTINGS = RunSettings(device="cpu", dtype="float32", threads=1)
FORWARD = Action(frozenset({"KeyW"}))


@pytest.fixture(scope="module")
def text_world(tmp_path_factory: pytest.TempPathFactory) -> WanWorld:
    folder = make_wan_world(tmp_path_factory.mktemp("text") / "world")
    return WanWorld.load(folder, SETTINGS)


@pytest.fixture(scope="module")
def camera_world(tmp_path_factory: pytest.TempPathFactory) -> WanWorld:
    folder = make_wan_world(tmp_path_factory.mktemp("cameras") / "world", None, cameras=True)
    return WanWorld.load(folder, SETTINGS)


def play(world: WanWorld, actions: list[Action], start: int = 0, seed: int = 0) -> list[Frame]:
    return [world.reset(start, seed), *(step(world, action) for action in actions)]


def differ(one: list[Frame], other: list[Frame]) -> list[int]:
    """The numbers of the frames that are not the same."""
    return [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if not np.array_equal(a, b)]


def test_frames_are_those_of_the_world_and_the_same_for_the_same_seed(
    text_world: WanWorld,
) -> None:
    frames = play(text_world, [IDLE] * 9)
    assert {frame.shape for frame in frames} == {(32, 48, 3)}
    assert frames[0].dtype == np.uint8
    assert differ(play(text_world, [IDLE] * 9), frames) == []
    assert differ(play(text_world, [IDLE] * 9, seed=1), frames) == list(range(10))
    assert differ(play(text_world, [IDLE] * 9, start=1), frames) == list(range(10))


def test_each_latent_frame_is_decoded_once_and_remembered_once(
    text_world: WanWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Tensor] = []
    decode = StreamingDecoder.decode

    def counted(stream: StreamingDecoder, latent: Tensor) -> Tensor:
        decoded.append(latent)
        return decode(stream, latent)

    monkeypatch.setattr(StreamingDecoder, "decode", counted)
    play(text_world, [IDLE] * 8)
    assert len(decoded) == 3
    assert text_world.session.rollout.cache.now == 3


def test_words_steer_from_the_next_latent_frame_on(text_world: WanWorld) -> None:
    plain = play(text_world, [IDLE] * 12)
    said = play(text_world, [IDLE] * 5 + [Action(prompt=Prompt("a desert"))] + [IDLE] * 6)
    assert differ(said, plain) == list(range(9, 13))
    renewed = [IDLE] * 5 + [Action(prompt=Prompt("a desert", renew=True))] + [IDLE] * 6
    assert differ(play(text_world, renewed), said) == list(range(9, 13))


def test_a_key_says_its_words_when_it_goes_down(text_world: WanWorld) -> None:
    key = Action(frozenset({"Digit2"}))
    held = play(text_world, [IDLE] * 4 + [key] * 8)
    said = play(text_world, [IDLE] * 4 + [Action(prompt=Prompt("a desert"))] + [IDLE] * 7)
    assert differ(held, said) == []
    assert differ(play(text_world, [IDLE] * 12), held) == list(range(5, 13))
    rain = play(text_world, [Action(frozenset({"Digit1"}))] + [IDLE] * 3)
    assert differ(rain, play(text_world, [Action(prompt=Prompt(WORDS[1]))] + [IDLE] * 3)) == []


def test_a_batch_of_sessions_that_words_steer_is_refused(text_world: WanWorld) -> None:
    with pytest.raises(UserError, match="each session needs a WorldEnv of its own"):
        WorldVectorEnv(2, text_world)


def test_words_without_an_embedding_say_what_is_known(text_world: WanWorld) -> None:
    plain = play(text_world, [IDLE] * 4)
    assert text_world.take_notice() == ""
    assert differ(play(text_world, [Action(prompt=Prompt("the moon"))] + [IDLE] * 3), plain) == []
    assert "no embedding of this prompt" in (notice := text_world.take_notice())
    assert "'a desert'" in notice
    assert text_world.take_notice() == ""


def test_a_camera_follows_keys_and_mouse(camera_world: WanWorld) -> None:
    idle = play(camera_world, [IDLE] * 16)
    assert camera_world.actions.frames == 16  # four latent frames, drawn together
    for action in (FORWARD, Action(frozenset({"KeyW", "KeyA"})), Action(mouse=(0.5, 0.0))):
        moved = play(camera_world, [action] * 16)
        assert differ(moved, idle)
        assert min(differ(moved, idle)) >= 13
    assert camera_world.session.drive.path.pose[:3, 3].abs().max() == 0


def test_keys_add_up_and_mouse_travel_is_spread_over_the_chunk() -> None:
    drive = Drive(MINWM_CAMERA, chunk_frames=4)
    for frame in range(16):
        buttons = frozenset({"KeyW", "KeyD"}) if frame == 3 else frozenset[str]()
        drive.feed(Action(buttons, (0.75, -0.25)))
    cameras = drive.cameras()
    assert cameras.shape == (1, 4, 4, 4)
    pose = drive.path.pose
    yaw = math.degrees(math.atan2(pose[0, 2], pose[2, 2]))
    assert yaw == pytest.approx(12.0, abs=0.2)  # 16 x 0.75 degrees, beside 4 degrees of pitch
    assert pose[0, 3] > 0.25
    assert pose[2, 3] > 0.25
    still = drive.cameras()
    assert torch.equal(still[:, 0], still[:, 3])
    held_to = Drive(MINWM_CAMERA, chunk_frames=4, most_degrees=12.0)
    for _ in range(3):
        held_to.feed(Action(mouse=(12.0, 0.0)))
    held_to.cameras()
    pose = held_to.path.pose
    assert math.degrees(math.atan2(pose[0, 2], pose[2, 2])) == pytest.approx(12.0)


def test_long_walks_re_anchor_and_go_on(
    camera_world: WanWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchors: list[Tensor] = []
    re_anchor = WanRollout.re_anchor

    def counted(rollout: WanRollout, motion: Tensor) -> None:
        anchors.append(motion)
        re_anchor(rollout, motion)

    monkeypatch.setattr(WanRollout, "re_anchor", counted)
    camera_world.reset(0, 0)
    for _ in range(16 * 9):
        step(camera_world, FORWARD)
    assert anchors
    assert camera_world.session.drive.path.pose[:3, 3].norm() < 2.0


def test_a_picture_begins_a_session_under_the_prompt(tmp_path: Path) -> None:
    folder = make_wan_world(tmp_path / "world")
    import_files([save_vae(tmp_path / "v.pth")], folder, plan(None))
    picture = tmp_path / "p.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8))
    settings = RunSettings(dtype="float32", threads=1, start=str(picture), prompt="a desert")
    world = WanWorld.load(folder, settings)
    assert world.starts[:2] == ["p.png", "a desert"]
    frames = play(world, [IDLE] * 4)
    assert world.session.rollout.cache.now == 2
    assert differ(play(world, [IDLE] * 4, start=1), frames) == list(range(5))
    assert world.session.rollout.drawn == 2  # from words, the first frame is drawn too


def test_a_clip_begins_with_its_last_frames(tmp_path: Path) -> None:
    from worldmodel.storage.episode import Episode
    from worldmodel.storage.episodes import save_episode

    clip = np.random.default_rng(0).integers(0, 255, (12, 32, 48, 3), np.uint8)
    episode = Episode(frames=clip, actions=[IDLE] * 12, frames_per_second=16.0, buttons=("KeyW",))
    path = tmp_path / "clip.safetensors"
    save_episode(path, episode)
    folder = make_wan_world(tmp_path / "world")
    world = WanWorld.load(folder, RunSettings(dtype="float32", threads=1, start=str(path)))
    world.reset(0, 0)
    assert world.session.rollout.cache.now == 3  # 1 + 4 + 4 frames


def test_pictures_are_cropped_and_never_stretched() -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 255
    fitted = fit(wide, 20, 20)
    assert fitted.shape == (20, 20, 3)
    assert fitted.min() > 190  # white to the edges
    assert fit(wide, 5, 20).max() == 255


def test_a_released_file_plays_with_what_lies_beside_it(tmp_path: Path) -> None:
    path = save_student(tmp_path / "anything.bin")
    with pytest.raises(UserError, match="no decoder"):
        open_world(str(path), SETTINGS)
    whole = save_taehv(tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.pth: not a whole file .*: no decoder"):
        open_world(str(path), SETTINGS)


def test_a_world_without_a_decoder_says_what_to_import(tmp_path: Path) -> None:
    import_files([save_student(tmp_path / "m.pt")], tmp_path / "world", plan())
    with pytest.raises(UserError, match=r"no decoder; import taew2_1\.pth"):
        open_world(str(tmp_path / "world"), SETTINGS)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_number_of_steps_can_be_chosen(tmp_path: Path, steps: int) -> None:
    folder = make_wan_world(tmp_path / "world")
    settings = RunSettings(dtype="float32", threads=1, steps=steps)
    world = WanWorld.load(folder, settings)
    assert world.sampler.steps == steps
    assert world.first_sampler.steps == 4
    assert f"{steps} steps (4 at first)" in world.running_on
    json.dumps(world.identity)


def test_three_steps_are_none_that_a_student_knows(tmp_path: Path) -> None:
    folder = make_wan_world(tmp_path / "world")
    with pytest.raises(UserError, match="choose from 1, 2, 4"):
        WanWorld.load(folder, RunSettings(dtype="float32", threads=1, steps=3))


def test_a_truncated_file_is_noticed(tmp_path: Path) -> None:
    folder = make_wan_world(tmp_path / "world")
    path = folder / "transformer.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"its sha256 is .* the file is truncated"):
        open_world(str(folder), SETTINGS)


def test_world_toml_reads_back_as_it_was_written(tmp_path: Path) -> None:
    folder = make_wan_world(tmp_path / "world", None, cameras=True)
    world = read_wan_world(folder)
    assert (folder / WORLD_FILE).read_text(encoding="utf-8") == to_toml(world)
    broken = to_toml(world).replace('"KeyJ", ', "")
    (folder / WORLD_FILE).write_text(broken, encoding="utf-8")
    with pytest.raises(UserError, match=r"pair up"):
        read_wan_world(folder)


def test_every_kind_beside_a_file_is_found_by_its_contents(tmp_path: Path) -> None:
    from worldmodel.worlds.wan.parts import find_beside

    path = save_student(tmp_path / "x.pt")
    save_taehv(tmp_path / "Wan2.1_VAE.pth")
    save_vae(tmp_path / "taew2_1.pth")
    save_words(tmp_path / "a.safetensors")
    (tmp_path / "junk.pt").write_bytes(b"nothing")
    beside, (broken,) = find_beside(path)
    found = {kind: other.name for kind, other in beside.items()}
    assert "junk.pt: holds something other than weights" in broken
    assert found == {
        "taehv": "Wan2.1_VAE.pth", "vae": "taew2_1.pth", "prompts": "a.safetensors"
    }  # fmt: skip
