from pathlib import Path

import pytest
import torch

from tests.training.tiny_data import AUTOENCODER, SPEC, write_episodes
from worldmodel.config import ConfigError
from worldmodel.episodes import EpisodeError
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


def test_episodes_that_do_not_fit_are_named(tmp_path: Path, episodes: LatentEpisodes) -> None:
    with pytest.raises(EpisodeError, match=r"000\.safetensors: frames are 16 x 8, .* 64 x 48"):
        load_frames(tmp_path / "data", 1, 48, 64)
    with pytest.raises(EpisodeError, match="no such folder"):
        load_frames(tmp_path / "nothing", 1, 8, 16)
    with pytest.raises(ConfigError, match="no episode is as long as a clip of 99 frames"):
        episodes.clips(1, 99, 1, torch.Generator())
