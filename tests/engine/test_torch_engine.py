import shutil
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, make_lively
from tests.training.tiny_data import AUTOENCODER
from worldmodel.engine import Engine
from worldmodel.engine.torch_engine import CompiledEngine, TorchEngine
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.transformer import WorldTransformer

CONFIG = replace(TINY, latent_channels=4, latent_width=4)
CPU = torch.device("cpu")
STUDENT = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)


def models(sinks: int = 1) -> tuple[WorldTransformer, Autoencoder]:
    torch.manual_seed(0)
    model = make_lively(WorldTransformer(replace(CONFIG, sink_frames=sinks)))
    return model.eval().requires_grad_(False), Autoencoder(AUTOENCODER).eval().requires_grad_(False)


def play(engine: Engine, past: int, frames: int, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, past, *CONFIG.latent_shape, generator=generator)
    actions = torch.randn(1, past + frames, CONFIG.buttons + 2, generator=generator)
    playing = engine.begin([seed])
    playing.prime(latents, actions[:, :past])
    drawn = []
    for action in actions[:, past:].split(1, dim=1):
        drawn.append(playing.denoise(action))
        playing.remember()
    return torch.cat(drawn, dim=1)


@pytest.mark.parametrize("sinks", [0, 1, 2])
@pytest.mark.parametrize("past", [0, 1, 2, 7])
def test_fixed_shapes_play_what_the_reference_plays(sinks: int, past: int) -> None:
    """From an empty past, within the window, past its end: the same function of the same inputs."""
    reference = TorchEngine(*models(sinks), STUDENT, "float32", CPU)
    engine = CompiledEngine(*models(sinks), STUDENT, "float32", CPU, fuse=False)
    torch.testing.assert_close(
        play(engine, past, 14), play(reference, past, 14), atol=1e-4, rtol=1e-4
    )
    latent = torch.randn(1, 1, *CONFIG.latent_shape)
    assert abs(engine.decode(latent).astype(int) - reference.decode(latent)).max() <= 1


def test_two_rollouts_of_an_engine_do_not_disturb_each_other() -> None:
    engine = CompiledEngine(*models(), STUDENT, "float32", CPU, fuse=False)
    alone = play(engine, 2, 6)
    held = engine.begin([1])  # keeps a program of its own
    held.prime(torch.zeros(1, 1, *CONFIG.latent_shape), torch.zeros(1, 1, CONFIG.buttons + 2))
    assert torch.equal(play(engine, 2, 6), alone)
    del held
    assert torch.equal(play(engine, 2, 6), alone)  # on a program that was used before


def test_drawing_a_frame_again_before_remembering_it_sees_the_same_past() -> None:
    """With the noise of the first draw, the frame is the same; the past was not written twice."""
    teacher = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=False)
    engine = CompiledEngine(*models(), teacher, "float32", CPU, fuse=False)
    playing = engine.begin([3])
    playing.prime(torch.randn(1, 9, *CONFIG.latent_shape), torch.zeros(1, 9, CONFIG.buttons + 2))
    action = torch.ones(1, 1, CONFIG.buttons + 2)
    first = playing.denoise(action)
    playing.generators[0].manual_seed(3)
    assert torch.equal(playing.denoise(action), first)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own parts
def test_fused_kernels_play_what_the_reference_plays() -> None:
    reference = TorchEngine(*models(), STUDENT, "float32", CPU)
    engine = CompiledEngine(*models(), STUDENT, "float32", CPU, fuse=True)
    torch.testing.assert_close(play(engine, 2, 9), play(reference, 2, 9), atol=1e-3, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_graphs_play_what_the_reference_plays() -> None:
    device = torch.device("cuda")
    reference = TorchEngine(*models(), STUDENT, "float32", device)
    engine = CompiledEngine(*models(), STUDENT, "float32", device, fuse=False)
    torch.testing.assert_close(
        play(engine, 2, 14).cpu(), play(reference, 2, 14).cpu(), atol=1e-3, rtol=1e-3
    )
