"""The past of keys and mouse: played, packed and rolled out in training, it is the same past."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.wan import matrix_cases as cases
from tests.wan.test_matrix_reference import conditions, model_of, window_of
from worldmodel.model.counting import ON_CPUS
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.controls import ActionRows, row_windows
from worldmodel.wan.kv_cache import RollingCache, WholeClipContext
from worldmodel.wan.model_config import ActionModuleConfig, WindowConfig
from worldmodel.wan.training_context import GrowingCache, WanTeacherForcing
from worldmodel.wan.transformer_cost import memory, parameters, pass_flops

CASE = cases.ROLLOUTS["universal"]
WINDOW = replace(window_of(CASE), window_frames=4, action_frames=5, sink_frames=3)


def played(window: WindowConfig, frames: int, cache: RollingCache | None = None) -> Tensor:
    """Velocities of noisy chunks, each of which sees the clean ones before it: 1 f c h w."""
    model = model_of(CASE)
    cache = cache or RollingCache(model.config, window)
    cache.text, found = model.read_text(CASE.features()), []
    for now in range(cache.now, frames, cases.CHUNK):
        here = slice(now, now + cases.CHUNK)
        cache.conditions = conditions(CASE).at(here)
        cameras = no_cameras(1, cases.CHUNK)
        found.append(model(CASE.noise()[:, here], levels(cases.CHUNK), cameras, cache))
        model(clean()[:, here], torch.zeros(1, cases.CHUNK), cameras, cache)
        cache.advance()
    return torch.cat(found, dim=1)


def levels(frames: int) -> Tensor:
    return torch.full((1, frames), 0.7)


def clean() -> Tensor:
    return CASE.noise().flip(1) / 2


@torch.inference_mode()
@pytest.mark.parametrize("window", [WINDOW, window_of(CASE), window_of(cases.ROLLOUTS["gta"])])
def test_a_packed_clip_is_what_play_sees_mouse_included(window: WindowConfig) -> None:
    """The noisy half looks at what the mouse did in *clean* frames (ForgeWM's at noisy ones)."""
    model, frames = model_of(CASE), CASE.frames
    packed = WanTeacherForcing(
        model.config, window, frames, CASE.features(), conditions=conditions(CASE)
    )
    found = model(
        torch.cat((clean(), CASE.noise()), dim=1),
        torch.cat((torch.zeros(1, frames), levels(frames)), dim=1),
        no_cameras(1, 2 * frames),
        packed,
    )
    torch.testing.assert_close(found[:, frames:], played(window, frames), rtol=1e-4, atol=5e-5)


@torch.inference_mode()
@pytest.mark.parametrize("window", [WINDOW, window_of(CASE), window_of(cases.ROLLOUTS["gta"])])
def test_a_rollout_of_training_sees_what_play_sees(window: WindowConfig) -> None:
    model, frames, n, found = model_of(CASE), CASE.frames, cases.CHUNK, []
    cache = GrowingCache(model.config, window, frames, CASE.features(), conditions=conditions(CASE))
    for now in range(0, frames, n):
        here, cameras = slice(now, now + n), no_cameras(1, n)
        found.append(model(CASE.noise()[:, here], levels(n), cameras, cache.at(now)))
        model(clean()[:, here], torch.zeros(1, n), cameras, cache.at(now, keeps=True))
    ours = torch.cat(found, dim=1)
    torch.testing.assert_close(ours, played(window, frames), rtol=1e-4, atol=5e-5)


@torch.inference_mode()
def test_a_stream_of_chunks_is_the_whole_clip() -> None:
    frames, model = CASE.frames, model_of(CASE)
    window = replace(window_of(CASE), window_frames=frames, action_frames=frames)
    clip = WholeClipContext(
        model.config, window, frames, CASE.features(), causal=True, conditions=conditions(CASE)
    )
    whole = model(clean(), torch.zeros(1, frames), no_cameras(1, frames), clip)
    cache, found = RollingCache(model.config, window), []
    cache.text = model.read_text(CASE.features())
    for now in range(0, frames, cases.CHUNK):
        here = slice(now, now + cases.CHUNK)
        cache.conditions = conditions(CASE).at(here)
        zeros, cameras = torch.zeros(1, cases.CHUNK), no_cameras(1, cases.CHUNK)
        found.append(model(clean()[:, here], zeros, cameras, cache))
        cache.advance()
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=1e-4, atol=5e-5)


@torch.inference_mode()
@pytest.mark.parametrize("window", [WINDOW, window_of(cases.ROLLOUTS["gta"])])
@pytest.mark.parametrize("now", [3, 9, 12])
def test_a_saved_cache_goes_on_bit_for_bit(window: WindowConfig, now: int) -> None:
    expected = played(window, CASE.frames)[:, now:]
    model = model_of(CASE)
    cache = RollingCache(model.config, window)
    played(window, now, cache)
    saved = cache.save()
    arrays = {n: x if isinstance(x, Tensor) else x.tensor() for n, x in saved.items()}
    shapes = {name: tuple(x.shape) for name, x in arrays.items()}
    assert shapes == cache.saved_shapes(now)
    assert {name.partition(".")[0] for name in saved} == {"moved", "slot", "mouse", "keys"}
    other = RollingCache(model.config, window)
    for ring in other.rings.values():
        ring.k.fill_(9.0)  # what an earlier session left
        ring.v.fill_(9.0)
    other.load(arrays, now)
    assert torch.equal(played(window, CASE.frames, other), expected)


@torch.inference_mode()
def test_memory_does_not_grow_and_is_that_of_the_formula() -> None:
    for name, window in (("universal", WINDOW), ("templerun", window_of(CASE))):
        model = model_of(cases.ROLLOUTS[name])
        for dtype in (torch.float32, torch.bfloat16):
            model.to(dtype)
            kept = memory(model.config, window, dtype.itemsize, batch=2)
            cache = RollingCache(model.config, window, 2, dtype)
            assert cache.bytes == kept.cache
            for _ in range(9):
                cache.advance()
            assert cache.bytes == kept.cache
            assert sum(p.nbytes for p in model.parameters()) == kept.weights
            assert parameters(model.config) * dtype.itemsize == kept.weights
            text = model.read_text(CASE.features().repeat(2, 1, 1))
            assert sum(k.nbytes + v.nbytes for k, v in text) == kept.text


@pytest.mark.parametrize("name", ["universal", "templerun"])
def test_operations_by_formula_are_operations_counted(name: str) -> None:
    case = cases.ROLLOUTS[name]
    model, window = model_of(case), replace(window_of(case), action_frames=3)
    cache, n = RollingCache(model.config, window), cases.CHUNK
    cache.text = model.read_text(case.features())
    cache.conditions = conditions(case).at(slice(0, n))
    for seen in (3, 6, 6):
        counter = FlopCounterMode(display=False, custom_mapping=ON_CPUS)
        with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION), counter:
            model(case.noise()[:, :n], torch.ones(1, n), no_cameras(1, n), cache)
        assert counter.get_total_flops() == pass_flops(model.config, window, seen)
        cache.advance()


def test_windows_of_a_log_are_those_of_the_whole_clip() -> None:
    """Latent frame i is told the rows 4i - 12 … 4i - 1; the first row stands for those before."""
    rows = torch.arange(1 + 4 * 11)[None, :, None].float()
    whole = row_windows(rows, 12)
    assert whole.shape == (1, 12, 12, 1)
    assert whole[0, 0, :, 0].tolist() == [0.0] * 12
    assert whole[0, 1, :, 0].tolist() == [0.0] * 8 + [0.0, 1.0, 2.0, 3.0]
    assert whole[0, 5, :, 0].tolist() == list(range(8, 20))
    for n in (1, 3):
        log, parts, at = ActionRows(12), [], 0
        for chunk in range(12 // n):
            end = 1 + 4 * (n * (chunk + 1) - 1)
            parts.append(log.next(rows[:, at:end]))
            at = end
        assert torch.equal(torch.cat(parts, dim=1), whole)


def test_sizes_that_no_module_has_are_refused() -> None:
    for wrong in ({"layers": (3, 1)}, {"layers": ()}, {"turned": 7}, {"turned": 80}, {"mouse": -1}):
        with pytest.raises(ValueError, match="must be"):
            ActionModuleConfig(**{"layers": (0,), "keys": 4, **wrong})  # type: ignore[arg-type]  # of the test
