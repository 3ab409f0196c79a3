from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tiny_data import AUTOENCODER, SPEC, write_episodes
from worldmodel.action import Action
from worldmodel.config import ConfigError
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.storage.episode import EpisodeError
from worldmodel.storage.episodes import load_episode, save_episode
from worldmodel.storage.recording import FrameRow, Header, Recorder
from worldmodel.training.clips import LatentEpisodes, check_change, load_frames
from worldmodel.training.torch_streams import host_stream


@pytest.fixture
def episodes(tmp_path: Path) -> LatentEpisodes:
    folder = write_episodes(tmp_path / "data", count=3, length=20)
    torch.manual_seed(0)
    autoencoder = Autoencoder(AUTOENCODER).eval()
    return LatentEpisodes.encode(folder, autoencoder, SPEC, tmp_path / "latents.safetensors")


def test_a_clip_never_crosses_from_one_episode_into_the_next(episodes: LatentEpisodes) -> None:
    generator = torch.Generator().manual_seed(0)
    index = episodes.clip_index(500, 7, 1, generator)
    which = torch.bucketize(index, episodes.starts[1:-1], right=True)
    assert (which == which[:, :1]).all()
    assert (index[:, 1:].diff(dim=1) == 1).all()


def test_sinks_come_from_just_before_or_from_long_before(episodes: LatentEpisodes) -> None:
    index = episodes.clip_index(500, 7, 1, torch.Generator().manual_seed(0))
    gap = index[:, 1] - index[:, 0]
    assert (gap >= 1).all()
    assert 0.4 < (gap == 1).float().mean() < 0.8
    assert gap.max() > 5


def test_latents_are_encoded_once_and_again_for_another_autoencoder(tmp_path: Path) -> None:
    folder = write_episodes(tmp_path / "data", count=1, length=20)
    cache = tmp_path / "latents.safetensors"
    torch.manual_seed(0)
    one, other = Autoencoder(AUTOENCODER).eval(), Autoencoder(AUTOENCODER).eval()
    first = LatentEpisodes.encode(folder, one, SPEC, cache)
    stamp = cache.stat().st_mtime_ns
    again = LatentEpisodes.encode(folder, one, SPEC, cache)
    assert cache.stat().st_mtime_ns == stamp
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(LatentEpisodes.encode(folder, other, SPEC, cache).latents, first.latents)


def test_other_episodes_of_the_same_size_are_encoded_anew(tmp_path: Path) -> None:
    folder = write_episodes(tmp_path / "data", count=1, length=20)
    torch.manual_seed(0)
    model = Autoencoder(AUTOENCODER).eval()
    first = LatentEpisodes.encode(folder, model, SPEC, tmp_path / "latents.safetensors")
    write_episodes(tmp_path / "more", count=1, length=20, first=5)
    (tmp_path / "more" / "005.safetensors").replace(folder / "000.safetensors")
    again = LatentEpisodes.encode(folder, model, SPEC, tmp_path / "latents.safetensors")
    assert not torch.equal(first.latents, again.latents)


def test_frames_and_latents_stay_on_disk(tmp_path: Path, episodes: LatentEpisodes) -> None:
    """What is drawn is what the files say; what was written before is read and not made again."""
    frames = load_frames(tmp_path / "data", 7, 8, 16, tmp_path)
    paths = sorted((tmp_path / "data").glob("*.safetensors"))
    real = np.concatenate([load_episode(path).frames[::7] for path in paths])
    assert np.array_equal(frames.numpy(), real)
    (file,) = tmp_path.glob("*.frames")
    before = file.stat().st_mtime_ns
    assert torch.equal(load_frames(tmp_path / "data", 7, 8, 16, tmp_path), frames)
    assert file.stat().st_mtime_ns == before
    (rows,) = tmp_path.glob("*.rows")
    assert rows.stat().st_size == episodes.latents.nbytes
    mapped = Path("/proc/self/maps")
    if mapped.exists():  # Linux says what is mapped and not read in
        assert {rows.name, file.name} <= {Path(line).name for line in mapped.read_text().split()}
    latents, actions = episodes.clips(4, 6, 1, torch.Generator().manual_seed(0))
    host = host_stream(torch.Generator().manual_seed(0), "clips")
    index = episodes.clip_index(4, 6, 1, host)
    assert torch.equal(latents, episodes.latents[index].float())
    assert torch.equal(actions, episodes.actions[index])
    assert episodes.reading.frames == 24
    assert episodes.reading.frames_per_second > 0


def test_a_file_of_latents_that_is_not_whole_is_made_again(tmp_path: Path) -> None:
    folder = write_episodes(tmp_path / "data", count=2, length=20)
    torch.manual_seed(0)
    model, cache = Autoencoder(AUTOENCODER).eval(), tmp_path / "latents.safetensors"
    first = LatentEpisodes.encode(folder, model, SPEC, cache).latents.clone()
    (rows,) = tmp_path.glob("*.rows")
    rows.unlink()  # as after a kill between the two files
    assert torch.equal(LatentEpisodes.encode(folder, model, SPEC, cache).latents, first)


def test_episodes_that_do_not_fit_are_named(tmp_path: Path, episodes: LatentEpisodes) -> None:
    with pytest.raises(EpisodeError, match=r"000\.safetensors: frames are 16 x 8, .* 64 x 48"):
        load_frames(tmp_path / "data", 1, 48, 64, tmp_path)
    with pytest.raises(EpisodeError, match="no such folder"):
        load_frames(tmp_path / "nothing", 1, 8, 16, tmp_path)
    with pytest.raises(ConfigError, match="no episode is as long as a clip of 99 frames"):
        episodes.clips(1, 99, 1, torch.Generator())


def record(name: Path, source: Path, rate: float = 10.0) -> None:
    """What playing would leave of an episode: a video and its rows."""
    episode = load_episode(source)
    header = Header(
        settings={},
        identity={},
        seed=0,
        start=0,
        first_frame=0,
        frames_per_second=rate,
        frame_size=(8, 16),
        buttons=SPEC.buttons,
    )
    recorder = Recorder(name, header)
    for f, (frame, action) in enumerate(zip(episode.frames, episode.actions, strict=True)):
        recorder.write(frame, FrameRow(index=f, time=f / rate, action=action))
    recorder.finish()
    recorder.wait()


def test_recordings_of_play_are_episodes_among_others(tmp_path: Path) -> None:
    folder = write_episodes(tmp_path / "data", count=2, length=20)
    record(folder / "played", folder / "000.safetensors")
    torch.manual_seed(0)
    autoencoder = Autoencoder(AUTOENCODER).eval()
    found = LatentEpisodes.encode(folder, autoencoder, SPEC, tmp_path / "latents.safetensors")
    assert found.starts.tolist() == [0, 20, 40, 60]
    assert torch.equal(found.actions[:20], found.actions[40:])
    gap = (found.latents[:20].float() - found.latents[40:].float()).square().mean().sqrt()
    assert gap < 0.1 * found.latents.float().std()  # what the video's compression does
    assert load_frames(folder, 1, 8, 16, tmp_path).shape == (60, 8, 16, 3)


def test_recordings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = write_episodes(tmp_path / "data", count=2, length=20)
    autoencoder, cache = Autoencoder(AUTOENCODER).eval(), tmp_path / "latents.safetensors"
    record(folder / "fast", folder / "000.safetensors", rate=20.0)
    with pytest.raises(EpisodeError, match=r"fast\.jsonl has 20 frames/s, .*000\.\w+ has 10; "):
        LatentEpisodes.encode(folder, autoencoder, SPEC, cache)
    (folder / "fast.jsonl").unlink()
    episode = load_episode(folder / "001.safetensors")
    pressed = replace(
        episode,
        actions=[*episode.actions[:-1], Action(frozenset({"Space"}))],
        buttons=("KeyA", "KeyD", "Space"),
    )
    save_episode(folder / "001.safetensors", pressed)
    with pytest.raises(EpisodeError, match=r"001\.\w+: Space is pressed in it, but .* KeyA, KeyD;"):
        LatentEpisodes.encode(folder, autoencoder, SPEC, cache)
    other = Autoencoder(replace(AUTOENCODER, frame_width=32)).eval()
    with pytest.raises(EpisodeError, match="frames are 16 x 8, expected 32 x 8"):
        LatentEpisodes.encode(folder, other, SPEC, cache)


def test_a_frame_change_far_from_the_latents_is_refused_with_the_right_one(
    episodes: LatentEpisodes,
) -> None:
    later = [f for f in range(60) if f % 20]
    changes = [episodes.latents[f].float() - episodes.latents[f - 1].float() for f in later]
    right = float(torch.stack(changes).square().mean().sqrt())
    check_change(2 * right, episodes)
    with pytest.raises(ConfigError, match=rf"change by {right:.2f}; write that"):
        check_change(10 * right, episodes)
