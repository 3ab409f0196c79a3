"""What training shows its frames is what play shows them, and gradients stay where they belong."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.wan.reference import load
from worldmodel.training.processes import checkpoint_blocks
from worldmodel.wan.camera import CameraMotion, CameraPath
from worldmodel.wan.kv_cache import RollingCache
from worldmodel.wan.model_config import WindowConfig
from worldmodel.wan.training_context import GrowingCache, WanTeacherForcing
from worldmodel.wan.transformer import WanTransformer

WINDOW = WindowConfig(rows=4, columns=6, window_frames=3, sink_frames=1)
FRAMES = 8
WINDOWS = [
    replace(WINDOW, window_frames=FRAMES, sink_frames=0),  # all of the past
    WINDOW,  # a sink, and frames that the window has left behind
    replace(WINDOW, chunk_frames=2, window_frames=4, sink_frames=2),
    replace(WINDOW, window_frames=2, sink_frames=0),
]


def make_clip(seed: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean latents, noisy ones, their levels, and cameras of a walk."""
    generator = torch.Generator().manual_seed(seed)
    clean, noisy = torch.randn(2, 1, FRAMES, 4, 4, 6, generator=generator)
    sigmas = torch.rand(1, FRAMES, generator=generator)
    path, seen = CameraPath((0.5, 0.9)), []
    for f in range(FRAMES):
        path.walk(CameraMotion(forward=0.1, yaw=4.0 * (-1) ** f))
        seen.append(path.projection())
    return clean, noisy, sigmas, torch.cat(seen, dim=1)


def packed(model: WanTransformer, window: WindowConfig, text: Tensor) -> Tensor:
    clean, noisy, sigmas, cameras = make_clip()
    context = WanTeacherForcing(model.config, window, FRAMES, text)
    levels = torch.cat((torch.zeros_like(sigmas), sigmas), dim=1)
    found: Tensor = model(
        torch.cat((clean, noisy), dim=1), levels, cameras.repeat(1, 2, 1, 1), context
    )
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", ["causal_forcing", "minwm"])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_packed_clip_is_what_play_sees_chunk_by_chunk(name: str, window: WindowConfig) -> None:
    """Noisy chunk, clean pass, next chunk: with the ring of play, which wraps; both halves."""
    tensors, _, model = load(name)
    clean, noisy, sigmas, cameras = make_clip()
    rolling = RollingCache(model.config, window)
    rolling.text = model.read_text(tensors["text"])
    growing = GrowingCache(model.config, window, FRAMES, tensors["text"])
    played: dict[str, list[Tensor]] = {"clean": [], "noisy": [], "grown": []}
    for now in range(0, FRAMES, window.chunk_frames):
        here = slice(now, now + window.chunk_frames)
        zeros = torch.zeros_like(sigmas[:, here])
        seen = cameras[:, here]
        played["noisy"].append(model(noisy[:, here], sigmas[:, here], seen, rolling))
        played["clean"].append(model(clean[:, here], zeros, seen, rolling))
        rolling.advance()
        played["grown"].append(model(noisy[:, here], sigmas[:, here], seen, growing.at(now)))
        model(clean[:, here], zeros, seen, growing.at(now, keeps=True))
    both = packed(model, window, tensors["text"])
    expected = {key: torch.cat(parts, dim=1) for key, parts in played.items()}
    torch.testing.assert_close(both[:, :FRAMES], expected["clean"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both[:, FRAMES:], expected["noisy"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(expected["grown"], expected["noisy"], rtol=1e-4, atol=1e-5)


def test_no_noisy_chunk_is_seen_by_another() -> None:
    tensors, _, model = load("causal_forcing")
    clean, noisy, sigmas, cameras = make_clip()
    noisy.requires_grad_()
    clean.requires_grad_()
    window = replace(WINDOW, chunk_frames=2, window_frames=4, sink_frames=2)
    context = WanTeacherForcing(model.config, window, FRAMES, tensors["text"])
    levels = torch.cat((torch.zeros_like(sigmas), sigmas), dim=1)
    latents = torch.cat((clean, noisy), dim=1)
    out = model(latents, levels, cameras.repeat(1, 2, 1, 1), context)
    out[:, FRAMES + 4 : FRAMES + 6].square().sum().backward()
    assert noisy.grad is not None
    assert clean.grad is not None
    reached = [bool(g.any()) for g in noisy.grad[0]]
    assert reached == [False] * 4 + [True] * 2 + [False] * 2
    reached = [bool(g.any()) for g in clean.grad[0]]
    assert reached == [True] * 4 + [False] * 4


@pytest.mark.parametrize("twice", [False, True])
def test_a_rollout_s_gradient_survives_the_passes_after_it(twice: bool) -> None:
    """Also where activations are computed a second time, when later chunks are already kept."""
    gradients = []
    for checkpointed in (False, twice):
        tensors, _, model = load("minwm")
        model.requires_grad_(requires_grad=True)
        if checkpointed:
            checkpoint_blocks(model)
        clean, noisy, sigmas, cameras = make_clip()
        cache = GrowingCache(model.config, WINDOW, FRAMES, tensors["text"])
        drawn = []
        for now in range(FRAMES):
            here = slice(now, now + 1)
            drawn.append(model(noisy[:, here], sigmas[:, here], cameras[:, here], cache.at(now)))
            with torch.no_grad():
                zeros = torch.zeros(1, 1)
                model(clean[:, here], zeros, cameras[:, here], cache.at(now, keeps=True))
        assert not any(x.requires_grad for pair in cache.kept.values() for x in pair)
        torch.cat(drawn, dim=1).square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_embeddings_that_a_pass_reads_itself_are_those_that_were_read_before() -> None:
    tensors, _, model = load("causal_forcing")
    window = replace(WINDOW, window_frames=FRAMES, sink_frames=0)
    _, noisy, sigmas, cameras = make_clip()
    found = []
    for text in (model.read_text(tensors["text"]), tensors["text"]):
        cache = GrowingCache(model.config, window, 1, text)
        found.append(model(noisy[:, :1], sigmas[:, :1], cameras[:, :1], cache.at(0)))
    torch.testing.assert_close(*found)
