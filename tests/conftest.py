import os

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: more threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from worldmodel.model.configs import ModelConfig
from worldmodel.model.transformer import WorldTransformer

TINY = ModelConfig(
    width=32,
    heads=2,
    layers=2,
    latent_channels=3,
    latent_height=2,
    latent_width=2,
    buttons=4,
    context_frames=3,
    sink_frames=1,
    frame_change=0.5,
)


def make_lively(model: WorldTransformer) -> WorldTransformer:
    """Fill the zero-initialised layers, so that every input has an influence on the output."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled graphs, choices of engines and moments stay out of the folders of whoever tests."""
    folder = str(tmp_path_factory.mktemp("cache"))
    settings = Path(folder) / "settings.toml"  # nobody is there to press Enter
    settings.write_text("start_screen = false\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WORLDMODEL_CACHE", "WORLDMODEL_DATA", "WORLDMODEL_CONFIG"):
            patch.setenv(name, folder)
        yield


@pytest.fixture
def tiny_model() -> WorldTransformer:
    torch.manual_seed(0)
    return make_lively(WorldTransformer(TINY)).eval().requires_grad_(False)
