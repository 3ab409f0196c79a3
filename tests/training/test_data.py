from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tiny_data import AUTOENCODER, SPEC, write_episodes
from worldmodel.config import ConfigError
from worldmodel.episodes import EpisodeError, load_episode
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.training.data import LatentEpisodes, load_frames


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
    index = episodes.clip_index(4, 6, 1, torch.Generator().manual_seed(0))
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
