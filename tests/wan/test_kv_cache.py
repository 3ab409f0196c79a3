from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.wan.reference import load
from worldmodel.config import ConfigError
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.counting import count
from worldmodel.wan.camera import CameraMotion, CameraPath, no_cameras
from worldmodel.wan.kv_cache import RollingCache, Text, WholeClipContext
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.rope import apply_rope, rope_cos_sin
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.wan_rollout import WanRollout, seeded_noise

WINDOW = WindowConfig(rows=4, columns=6, window_frames=3, sink_frames=1)
SAMPLER = SamplerConfig(sigmas=(1.0, 0.8, 0.0), renoise=True)


def model_and_text(name: str = "causal_forcing") -> tuple[WanTransformer, Text]:
    tensors, _, model = load(name)
    return model, model.read_text(tensors["text"])


def rollout(name: str, window: WindowConfig, seed: int = 0) -> WanRollout:
    model, text = model_and_text(name)
    noise = seeded_noise([torch.Generator().manual_seed(seed)])
    played = WanRollout(model, window, SAMPLER, SAMPLER, noise)
    played.say(text)
    return played


def latents_of(frames: int) -> Tensor:
    return torch.randn(1, frames, 4, 4, 6, generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
@pytest.mark.parametrize("chunk", [1, 2])
def test_frames_played_one_by_one_equal_the_whole_clip(chunk: int) -> None:
    model, text = model_and_text()
    window = replace(WINDOW, chunk_frames=chunk, window_frames=6, sink_frames=0)
    latents, sigmas = latents_of(6), torch.rand(1, 6)
    cache = RollingCache(model.config, window)
    cache.text = text
    played = []
    for f in range(0, 6, chunk):
        here = slice(f, f + chunk)
        played.append(model(latents[:, here], sigmas[:, here], no_cameras(1, chunk), cache))
        cache.advance()
    clip = WholeClipContext(model.config, window, 6, text, causal=True)
    whole = model(latents, sigmas, no_cameras(1, 6), clip)
    torch.testing.assert_close(torch.cat(played, dim=1), whole, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_full_window_with_a_sink_equals_attention_to_the_frames_that_are_kept() -> None:
    """Keys are compared directly: bank by bank, after the ring has wrapped twice."""
    config = model_and_text()[0].config
    cache = RollingCache(config, WINDOW)
    kept = torch.randn(9, 3, 1, config.heads, 6, config.head_width)  # f qkv b n p e
    for frame in kept:
        q, k, v = frame
        seen = cache.attend(
            0, apply_rope(q, *cache.rope_cos_sin), apply_rope(k, *cache.rope_cos_sin), v
        )
        cache.advance()
    frames = [0, 6, 7, 8]  # the sink, then the window; it stands directly before it
    cos, sin = rope_cos_sin(config, torch.arange(4), 2, 3)
    keys = apply_rope(torch.cat([kept[f, 1] for f in frames], dim=2), cos, sin)
    values = torch.cat([kept[f, 2] for f in frames], dim=2)
    query = apply_rope(kept[8, 0], cos[-6:], sin[-6:])
    expected = torch.nn.functional.scaled_dot_product_attention(query, keys, values)
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)


def test_a_session_past_1024_latent_frames_is_as_exact_as_its_beginning() -> None:
    """The same latents, in a session that began a million frames ago."""
    late, early = rollout("causal_forcing", WINDOW), rollout("causal_forcing", WINDOW)
    late.cache.frames.now = 1_000_000 * 3 + 1  # the same slot as frame 1 of the ring
    early.cache.frames.now = 4
    for played in (late, early):
        played.cache._find_positions()
        played.cache.frames.sink_k.copy_(
            latents_of(1).new_tensor(0.3).expand_as(played.cache.frames.sink_k)
        )
        for chunk in latents_of(4).split(1, dim=1):
            played.prime(chunk)
    torch.testing.assert_close(late.denoise(), early.denoise(), rtol=1e-4, atol=1e-4)


def test_memory_never_grows_and_is_what_the_formula_says() -> None:
    played = rollout("minwm", WINDOW)
    before = played.cache.bytes
    for _ in range(9):
        played.denoise()
        played.remember()
    assert played.cache.bytes == before
    assert len(played.recent) == 3
    assert len(played.sinks) == 1


def walk(played: WanRollout, path: CameraPath, *, anchors: bool) -> Tensor:
    """Ten frames of a long walk; the last latents."""
    latents = torch.empty(0)
    for f in range(10):
        path.walk(CameraMotion(forward=0.4, right=0.1, yaw=5.0 * (-1) ** f, pitch=1.0))
        if anchors and f in (3, 6, 8):
            played.re_anchor(path.pose)
            path.pose = torch.eye(4, dtype=torch.float64)
        latents = played.denoise(path.projection())
        played.remember()
    return latents


def test_no_score_changes_when_the_world_begins_at_another_camera() -> None:
    still = walk(rollout("minwm", WINDOW), CameraPath((0.5, 0.9)), anchors=False)
    moved = walk(rollout("minwm", WINDOW), CameraPath((0.5, 0.9)), anchors=True)
    torch.testing.assert_close(moved, still, rtol=2e-3, atol=2e-3)
    turned = CameraPath((0.5, 0.9))
    turned.walk(CameraMotion(forward=1.0, yaw=40.0))
    elsewhere = walk(rollout("minwm", WINDOW), turned, anchors=False)
    torch.testing.assert_close(elsewhere, still, rtol=2e-3, atol=2e-3)


def test_an_anchor_left_far_behind_is_replaced() -> None:
    path = CameraPath((0.5, 0.9))
    path.walk(CameraMotion(forward=1.5))
    assert path.take_far_anchor() is None
    path.walk(CameraMotion(forward=0.7, yaw=90.0))
    old = path.take_far_anchor()
    assert old is not None
    torch.testing.assert_close(old[:3, 3], torch.tensor([0.7, 0.0, 1.5]).double())
    assert torch.equal(path.pose, torch.eye(4).double())


def test_another_prompt_steers_from_the_next_frame_on() -> None:
    tensors = load("causal_forcing")[0]
    keeps, renews, neither = (rollout("causal_forcing", WINDOW) for _ in range(3))
    for played in (keeps, renews, neither):
        for _ in range(6):
            played.denoise()
            played.remember()
    other = keeps.model.read_text(-tensors["text"])
    keeps.say(other)
    renews.say_anew(other)
    drawn = [played.denoise() for played in (keeps, renews, neither)]
    assert (drawn[0] - drawn[2]).abs().max() > 0.05
    assert (drawn[1] - drawn[0]).abs().max() > 0.01


def test_history_read_again_under_the_same_prompt_is_the_same_while_nothing_was_dropped() -> None:
    plain, renewed = rollout("minwm", WINDOW), rollout("minwm", WINDOW)
    path = CameraPath((0.5, 0.9))
    for _ in range(4):
        path.walk(CameraMotion(forward=0.08))
        for played in (plain, renewed):
            played.denoise(path.projection())
            played.remember()
    renewed.say_anew(renewed.cache.text)
    torch.testing.assert_close(renewed.denoise(), plain.denoise(), rtol=1e-4, atol=1e-5)


def test_a_window_holds_a_chunk_and_sinks_are_whole_ones() -> None:
    with pytest.raises(ConfigError, match="a multiple of chunk_frames"):
        WindowConfig(rows=4, columns=6, chunk_frames=3, window_frames=6, sink_frames=1)
    for frames in ({"window_frames": 2}, {"window_frames": 6, "action_frames": 2}):
        with pytest.raises(ConfigError, match="at least chunk_frames"):
            WindowConfig(rows=4, columns=6, chunk_frames=3, **frames)


def test_cameras_need_heads_in_groups_of_four() -> None:
    sizes: dict[str, Any] = {
        "width": 36,
        "heads": 2,
        "layers": 1,
        "feed_forward": 8,
        "text_width": 4,
    }
    with pytest.raises(ConfigError, match="not 18"):
        WanConfig(**sizes, time_features=4, cameras=True)


@torch.inference_mode()
def test_moving_what_is_kept_takes_the_memory_of_one_bank() -> None:
    """All banks at once took 2.6 GB for three sinks at full size, more than the weights."""
    config = replace(model_and_text("minwm")[0].config, layers=16)
    window = WindowConfig(rows=8, columns=12, window_frames=4, sink_frames=2)
    cache = RollingCache(config, window, dtype=torch.bfloat16)
    bank = cache.frames.k[0].nbytes
    peaks = [count(cache.advance).peak_bytes for _ in range(6)]
    assert max(peaks[:2]) < 6 * bank  # sinks are kept
    assert 0 < max(peaks[4:]) < 6 * bank  # the window is full: they are pinned
    assert 0 < count(lambda: cache.re_anchor(torch.eye(4))).peak_bytes < 6 * bank
