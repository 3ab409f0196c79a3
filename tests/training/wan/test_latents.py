"""Recordings, episodes and videos become latents, once, and whole or not at all."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file

from tests.training.wan.tiny import CAMERA, FRAMES, SIZE, Root, write_walks
from worldmodel.action import IDLE, Action
from worldmodel.config import ConfigError, UserError
from worldmodel.storage.checkpoint import CheckpointError, load_tensors
from worldmodel.storage.episode import EpisodeError
from worldmodel.storage.episodes import load_episode
from worldmodel.storage.footage import Timed, nearest
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.training.sample_grids import save_clip
from worldmodel.training.train_loop import UnfinishedError
from worldmodel.training.wan import latents as stage
from worldmodel.training.wan.clips import Index, LatentClips
from worldmodel.training.wan.latents import write_latents
from worldmodel.training.wan.load_weights import load_autoencoder
from worldmodel.training.wan.sources import PixelClip, read_clips
from worldmodel.wan.camera import CameraMotion, CameraPath
from worldmodel.wan.prompts import load_prompts

LENGTH = 1 + 4 * (FRAMES - 1)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path)
    write_walks(tmp_path / "walks")
    return made


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.glob("*.safetensors")}


def test_each_clip_is_what_the_autoencoder_makes_of_its_frames(root: Root) -> None:
    summary = root.run(root.latents())
    assert (summary["clips"], summary["sources"]) == (6, 3)
    data = LatentClips(root.runs / "latents", SIZE)
    assert data.index.shape == (FRAMES, 16, 4, 6)
    vae, words = (
        load_autoencoder(root.folder / "base"),
        load_prompts(root.folder / "words.safetensors"),
    )
    captions = {0: "a desert", 1: "a forest", 2: "a forest"}
    for number in range(len(data)):
        name, row = data.places[number]
        walk = int(name.removeprefix("walk")[0])
        episode = load_episode(root.folder / "walks" / f"walk{walk}.safetensors")
        frames = torch.from_numpy(episode.frames[row * LENGTH : (row + 1) * LENGTH].copy())
        video = rearrange(frames, "t h w c -> 1 c t h w").float() / 127.5 - 1
        clip = data.read([number], FRAMES)
        expected = rearrange(vae.encode(video), "b c f h w -> b f c h w")
        torch.testing.assert_close(clip.clean, expected, rtol=2e-3, atol=2e-3)
        told = words[captions[walk]]
        assert torch.equal(clip.conditions.text[0, : len(told)], told)
        assert not clip.conditions.text[0, len(told) :].any()
        short = data.read([number], 2)
        assert torch.equal(short.clean, clip.clean[:, :2])


def test_held_keys_and_the_mouse_move_cameras_as_in_play(root: Root) -> None:
    """A key held in any of a latent frame's four frames counts for all of it; travel adds up."""
    frames = np.zeros((9, 8, 8, 3), np.uint8)
    forward, turn = Action(frozenset({"KeyW"})), Action(mouse=(2.0, -1.0))
    done: list[tuple[Action, ...]] = [(forward,)] * 9
    done[1:5] = [(IDLE,), (forward,), (turn,), (turn, IDLE)]
    done[5:9] = [(IDLE,)] * 4
    seen = PixelClip(frames, tuple(done)).cameras(CAMERA, 4)
    path = CameraPath(CAMERA.focal)
    expected = [path.projection()]
    for motion in (CameraMotion(forward=0.08, yaw=4.0, pitch=2.0), CameraMotion()):
        path.walk(motion)
        expected.append(path.projection())
    torch.testing.assert_close(seen, torch.cat(expected, dim=1)[0])
    root.run(root.latents())
    cameras = LatentClips(root.runs / "latents", SIZE).read([1], FRAMES).conditions.cameras
    assert (cameras[0, 0] != cameras[0, 1]).any()


def test_a_killed_run_goes_on_with_the_first_source_that_is_missing(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = root.latents(), tmp_path / "out"
    write_latents(config, tmp_path / "whole")
    real, calls = stage._encode, []

    def dies(*arguments: object) -> object:
        calls.append(arguments[3])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(stage, "_encode", dies)
    with pytest.raises(KeyboardInterrupt):
        write_latents(config, folder)
    with pytest.raises(UnfinishedError, match="run the stage `latents`"):
        Index.read(folder)
    first = contents(folder)
    assert len(first) == 1
    write_latents(config, folder)
    assert len(calls) == 4  # the second source once more, then the third
    done = contents(folder)
    assert {name: done[name] for name in first} == first
    assert done.keys() == contents(tmp_path / "whole").keys()
    for name in done:
        one, other = (load_tensors(place / name) for place in (folder, tmp_path / "whole"))
        assert one[1] == other[1]
        assert all(torch.equal(tensor, other[0][key]) for key, tensor in one[0].items())
    write_latents(config, folder)
    assert contents(folder) == done
    assert len(calls) == 4


def test_what_has_changed_is_done_again_and_what_is_gone_goes(root: Root, tmp_path: Path) -> None:
    config, folder, walks = root.latents(), tmp_path / "out", root.folder / "walks"
    write_latents(config, folder)
    before = contents(folder)
    (walks / "walk1.txt").write_text("a desert")
    (walks / "walk2.safetensors").unlink()
    (walks / "walk2.txt").unlink()
    write_latents(config, folder)
    after = contents(folder)
    changed = {name for name in after if before[name] != after[name]}
    assert {name.partition("-")[0] for name in after} == {"walk0", "walk1"}
    assert {name.partition("-")[0] for name in changed} == {"walk1"}
    write_latents(replace(config, camera=None), folder)
    assert not set(contents(folder).items()) & set(after.items())
    part = next(folder.glob("walk0-*.safetensors"))
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="clip 0 cannot be read"):
        LatentClips(folder, SIZE).read([0], FRAMES)
    write_latents(replace(config, camera=None), folder)
    LatentClips(folder, SIZE).read([0], FRAMES)
    part.unlink()
    with pytest.raises(CheckpointError, match="1 of 2 files"):
        LatentClips(folder, SIZE)


def test_a_video_is_a_source_whatever_its_rate(root: Root, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    pictures = np.repeat(np.arange(0, 200, 4, dtype=np.uint8), 32 * 48 * 3).reshape(50, 32, 48, 3)
    save_clip(folder / "grey.mp4", pictures, 30.0)
    summary = root.run(root.latents(data=folder, camera=None), "latents")
    assert summary["clips"] == 2  # 50 frames at 30 a second are 27 at 16
    clips = list(read_clips(folder / "grey.mp4", 16.0, LENGTH, LENGTH))
    shades = [int(frame.mean()) for clip in clips for frame in clip.frames]
    wanted = [4 * round(n * 30 / 16) for n in range(len(shades))]
    assert np.abs(np.array(shades) - wanted).max() <= 3
    many = list(read_clips(folder / "grey.mp4", 16.0, LENGTH, 4))
    assert len(many) == 4
    assert np.array_equal(many[1].frames[:-4], many[0].frames[4:])
    few = list(read_clips(folder / "grey.mp4", 16.0, 5, 9))
    assert [int(clip.frames[0].mean() // 4) for clip in few] == pytest.approx([0, 17, 34], abs=1)


def test_frames_that_are_left_out_leave_what_was_done_in_them() -> None:
    frame = np.zeros((1, 1, 3), np.uint8)
    keys = [Action(frozenset({f"Digit{n}"})) for n in range(7)]
    found = list(nearest((Timed(i / 30, frame, (key,)) for i, key in enumerate(keys)), 10.0))
    assert [len(done) for _, done in found] == [1, 3, 3]
    few = (Timed(i / 10, frame, (key,)) for i, key in enumerate(keys[:3]))
    slower = list(nearest(few, 20.0))
    assert len(slower) >= 5
    assert sum(len(done) for _, done in slower) == 3


def test_words_that_stand_for_none_and_dropout(root: Root) -> None:
    root.run(root.latents(unprompted="a forest + rain"))
    data = LatentClips(root.runs / "latents", SIZE)
    words = load_prompts(root.folder / "words.safetensors")["a forest + rain"]
    assert torch.equal(data.nothing[: len(words)], words)
    silent = [
        bool((clip.conditions.text[b] == data.nothing).all())
        for seed in range(50)
        for clip in (data.draw(2, 1, 0.3, torch.Generator().manual_seed(seed)),)
        for b in range(2)
    ]
    assert 0.15 < sum(silent) / len(silent) < 0.45
    told = data.draw(2, 1, 0.0, torch.Generator().manual_seed(0)).unconditional.conditions
    assert torch.equal(told.text[1], data.nothing)
    assert data.reading.frames_per_second > 0


def test_what_cannot_become_latents_is_told(root: Root, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'a castle': no embedding"):
        root.run(root.latents(caption="a castle"))
    with pytest.raises(UserError, match="none of the 3 sources is as long"):
        root.run(root.latents(frames=30))
    with pytest.raises(UserError, match="has 12 channels, text_width says 13"):
        root.run(root.latents(text_width=13))
    with pytest.raises(EpisodeError, match="no such folder"):
        root.run(root.latents(data=tmp_path / "nowhere"))
    (root.folder / "walks" / "walk1.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"walk1\.txt: byte 2 is no text"):
        root.run(root.latents())
    (root.folder / "walks" / "walk1.txt").unlink()
    root.run(root.latents())
    with pytest.raises(ConfigError, match="has no cameras"):
        LatentClips(root.runs / "latents", replace(SIZE, cameras=False))
    with pytest.raises(ConfigError, match="embeddings of 12 channels"):
        LatentClips(root.runs / "latents", replace(SIZE, text_width=16))
    index = root.runs / "latents" / "index.json"
    index.write_text(json.dumps({"format": 1}))
    with pytest.raises(CheckpointError, match="not an index"):
        LatentClips(root.runs / "latents", SIZE)


def test_no_more_than_a_batch_is_in_memory(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read one by one: whole files never are."""
    root.run(root.latents())
    data = LatentClips(root.runs / "latents", SIZE)
    name = data.places[0][0]
    whole = load_file(root.runs / "latents" / name)["latents"]
    assert len(whole) == 2
    asked: list[str] = []
    real = data._files.get

    class Watched:
        def __init__(self, file: object) -> None:
            self.file = file

        def get_slice(self, key: str) -> object:
            return self.file.get_slice(key)  # type: ignore[attr-defined]  # safetensors' handle

        def get_tensor(self, key: str) -> object:
            asked.append(key)
            return self.file.get_tensor(key)  # type: ignore[attr-defined]  # safetensors' handle

    monkeypatch.setattr(data._files, "get", lambda path: Watched(real(path)))
    data.draw(3, FRAMES, 0.0, torch.Generator().manual_seed(0))
    assert set(asked) == {"prompt.00000"}


@pytest.mark.parametrize("harm", ["header", "latents", "cameras"])
def test_a_file_of_latents_that_claims_too_much_is_refused_by_name(root: Root, harm: str) -> None:
    root.run(root.latents())
    data = LatentClips(root.runs / "latents", SIZE)
    path = data.folder / data.places[0][0]
    tensors, header = load_tensors(path)
    if harm == "header":  # 64 MB of nothing
        path.write_bytes(struct.pack("<Q", 64 << 20) + b"{}" + b" " * (65 << 20))
    else:
        rows = len(tensors[harm])
        save_tensors(path, {**tensors, harm: torch.zeros(rows, FRAMES, 9, 99)}, header)
    with pytest.raises(CheckpointError, match=r"clip 0 cannot be read \(.*run the stage `latents`"):
        data.read([0], FRAMES)
