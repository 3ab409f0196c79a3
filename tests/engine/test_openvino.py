from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, make_lively
from tests.training.tiny_data import AUTOENCODER
from worldmodel.engine import EngineError, openvino
from worldmodel.engine.openvino import OpenVinoEngine
from worldmodel.engine.torch_engine import TorchEngine
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.transformer import WorldTransformer

pytest.importorskip("openvino")

CONFIG = replace(TINY, latent_channels=4, latent_width=4, patch=2)
SPARSE = replace(CONFIG, layers=5, time_attention_every=2)
SAMPLERS = [
    pytest.param(SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True), id="student"),
    pytest.param(SamplerConfig(sigmas=(1.0, 0.6, 0.3, 0.0), renoise=False), id="teacher"),
    pytest.param(
        SamplerConfig(sigmas=(1.0, 0.0), renoise=True, context_sigma=0.2, latent_step=0.25),
        id="noisy-history-grid",
    ),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(openvino, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def models() -> tuple[WorldTransformer, Autoencoder]:
    return make_models(CONFIG)


def make_models(config: ModelConfig) -> tuple[WorldTransformer, Autoencoder]:
    torch.manual_seed(0)
    model = make_lively(WorldTransformer(config)).eval().requires_grad_(False)
    return model, Autoencoder(AUTOENCODER).eval().requires_grad_(False)


def play(
    engine: TorchEngine | OpenVinoEngine, frames: int = 12, seeds: tuple[int, ...] = (5,)
) -> Tensor:
    """One session for each seed, which also decides its past and its actions."""
    latents, actions = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        latents.append(torch.randn(2, *CONFIG.latent_shape, generator=generator))
        actions.append(torch.randn(2 + frames, CONFIG.buttons + 2, generator=generator))
    return _play(engine, torch.stack(latents), torch.stack(actions), seeds)


def _play(
    engine: TorchEngine | OpenVinoEngine, latents: Tensor, actions: Tensor, seeds: tuple[int, ...]
) -> Tensor:
    playing = engine.begin(seeds)
    playing.prime(latents, actions[:, :2])
    drawn = []
    for action in actions[:, 2:].split(1, dim=1):
        drawn.append(playing.denoise(action))
        playing.remember()
    return torch.cat(drawn, dim=1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_openvino_plays_what_torch_plays_also_after_the_ring_has_wrapped(
    models: tuple[WorldTransformer, Autoencoder], sampler: SamplerConfig
) -> None:
    """Window 3 and one sink make four slots: fourteen frames go three times around."""
    reference = TorchEngine(*models, sampler, "float32", torch.device("cpu"))
    engine = OpenVinoEngine(*models, sampler, "float32", threads=1, key="tiny")
    torch.testing.assert_close(play(engine), play(reference), atol=2e-3, rtol=2e-3)
    latent = torch.randn(1, 1, *CONFIG.latent_shape)
    difference = engine.decode(latent).astype(int) - reference.decode(latent).astype(int)
    assert abs(difference).max() <= 1


def test_openvino_plays_what_torch_plays_where_few_layers_see_the_past() -> None:
    models, sampler = make_models(SPARSE), SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)
    reference = TorchEngine(*models, sampler, "float32", torch.device("cpu"))
    engine = OpenVinoEngine(*models, sampler, "float32", threads=1, key="sparse")
    torch.testing.assert_close(play(engine), play(reference), atol=2e-3, rtol=2e-3)


def test_a_session_does_not_depend_on_who_shares_its_batch(
    models: tuple[WorldTransformer, Autoencoder],
) -> None:
    sampler = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)
    engine = OpenVinoEngine(*models, sampler, "float32", threads=1, key="tiny")
    together = play(engine, seeds=(3, 5, 8))
    torch.testing.assert_close(together[1:2], play(engine), atol=2e-4, rtol=2e-3)
    frames = engine.decode(together[:, -1:])
    assert frames.shape == (3, 8, 16, 3)


def test_a_second_build_finds_the_first_one_on_disk(
    models: tuple[WorldTransformer, Autoencoder], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = SamplerConfig(sigmas=(1.0, 0.0), renoise=True)
    first = play(OpenVinoEngine(*models, sampler, "float32", threads=1, key="tiny"))
    assert list(cache.glob("*.xml"))

    def fail(*_: object) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(openvino, "_trace", fail)
    again = play(OpenVinoEngine(*models, sampler, "float32", threads=1, key="tiny"))
    assert torch.equal(first, again)


def test_a_broken_graph_on_disk_is_made_again(
    models: tuple[WorldTransformer, Autoencoder], cache: Path
) -> None:
    sampler = SamplerConfig(sigmas=(1.0, 0.0), renoise=True)
    first = play(OpenVinoEngine(*models, sampler, "float32", threads=1, key="tiny"))
    for path in (*cache.glob("*.xml"), *cache.glob("compiled/*")):
        path.write_bytes(path.read_bytes()[:100])
    again = play(OpenVinoEngine(*models, sampler, "float32", threads=1, key="tiny"))
    assert torch.equal(first, again)


def test_a_graph_of_other_weights_is_found_out_and_made_again(
    models: tuple[WorldTransformer, Autoencoder],
) -> None:
    """The key names the weights; should it lie, the check against torch tells."""
    model, autoencoder = models
    sampler = SamplerConfig(sigmas=(1.0, 0.0), renoise=True)
    OpenVinoEngine(model, autoencoder, sampler, "float32", threads=1, key="same")
    torch.manual_seed(9)
    other = make_lively(WorldTransformer(CONFIG)).eval().requires_grad_(False)
    engine = OpenVinoEngine(other, autoencoder, sampler, "float32", threads=1, key="same")
    reference = TorchEngine(other, autoencoder, sampler, "float32", torch.device("cpu"))
    torch.testing.assert_close(play(engine), play(reference), atol=2e-3, rtol=2e-3)


def test_a_graph_that_disagrees_with_torch_is_refused(
    models: tuple[WorldTransformer, Autoencoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "TOLERANCE", {"float32": 0.0})
    with pytest.raises(EngineError, match="differs from torch"):
        OpenVinoEngine(
            *models, SamplerConfig(sigmas=(1.0, 0.0), renoise=True), "float32", 1, key="tiny"
        )


def test_without_a_place_for_graphs_they_are_compiled_each_time(
    models: tuple[WorldTransformer, Autoencoder], cache: Path
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    sampler = SamplerConfig(sigmas=(1.0, 0.0), renoise=True)
    drawn = play(OpenVinoEngine(*models, sampler, "float32", threads=1, key="tiny"))
    reference = play(TorchEngine(*models, sampler, "float32", torch.device("cpu")))
    torch.testing.assert_close(drawn, reference, atol=2e-3, rtol=2e-3)
    assert cache.is_file()


def test_graphs_that_were_not_used_for_long_make_room(
    models: tuple[WorldTransformer, Autoencoder], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = SamplerConfig(sigmas=(1.0, 0.0), renoise=True)
    OpenVinoEngine(*models, sampler, "float32", threads=1, key="old")
    old = set(cache.glob("*.xml"))
    (cache / "choices.json").write_text("{}")
    monkeypatch.setattr(openvino, "KEPT_BYTES", 10_000)
    OpenVinoEngine(*models, sampler, "float32", threads=1, key="new")
    assert not old & set(cache.glob("*.xml"))
    assert set(cache.glob("*.xml"))
    assert (cache / "choices.json").exists()
