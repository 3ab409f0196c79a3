"""Our image-to-video model with its action module against ForgeWM's (golden/README.md)."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.wan import matrix_cases as cases
from tests.wan.matrix_cases import MatrixCase
from tests.wan.numbers import weights
from tests.wan.reference import GOLDEN
from worldmodel.model.configs import SamplerConfig
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.controls import row_windows
from worldmodel.wan.kv_cache import FrameConditions, WholeClipContext
from worldmodel.wan.model_config import (
    ActionModuleConfig,
    PictureConfig,
    WanConfig,
    WindowConfig,
)
from worldmodel.wan.samplers import warped_sigmas
from worldmodel.wan.training_context import WanTeacherForcing
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.wan_rollout import WanRollout


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=5e-5)


def config_of(case: MatrixCase) -> WanConfig:
    return WanConfig(
        width=cases.WIDTH,
        heads=cases.HEADS,
        layers=cases.LAYERS,
        feed_forward=cases.FEED_FORWARD,
        time_features=cases.TIME_FEATURES,
        latent_channels=cases.CHANNELS,
        picture=PictureConfig(width=cases.PICTURE_WIDTH, tokens=cases.PICTURE_TOKENS),
        actions=ActionModuleConfig(
            layers=case.layers,
            keys=case.keys,
            mouse=case.mouse,
            key_width=cases.KEY_WIDTH,
            heads=cases.ACTION_HEADS,
            head_width=cases.ACTION_HEAD_WIDTH,
        ),
    )


def model_of(case: MatrixCase) -> WanTransformer:
    model = WanTransformer(config_of(case)).eval().requires_grad_(requires_grad=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights(shapes, cases.GAIN))
    return model


def window_of(case: MatrixCase) -> WindowConfig:
    return WindowConfig(
        rows=cases.ROWS,
        columns=cases.COLUMNS,
        chunk_frames=cases.CHUNK,
        window_frames=case.frames if case.window < 0 else case.window,
        action_frames=case.action_window,
    )


def conditions(case: MatrixCase) -> FrameConditions:
    """Of the whole clip."""
    mouse = case.mouse_rows()
    return FrameConditions(
        picture=case.picture(),
        keys=row_windows(case.key_rows(), 12),
        mouse=None if mouse is None else row_windows(mouse, 12),
    )


def roll_out(
    case: MatrixCase, told: FrameConditions, window: WindowConfig, features: Tensor | None = None
) -> Tensor:
    model, n = model_of(case), cases.CHUNK
    levels = SamplerConfig(sigmas=warped_sigmas(case.steps), renoise=True)
    fresh = iter(case.noise().split(n, dim=1))
    draws = [-1, *range(len(case.steps) - 1)]
    numbers = iter(range(1000))
    order = iter(draws * (case.frames // n))
    rollout = WanRollout(
        model,
        window,
        levels,
        levels,
        lambda _: next(fresh) if next(order) < 0 else case.renoise(next(numbers))[None],
    )
    rollout.say(model.read_text(case.features() if features is None else features))
    latents = []
    for now in range(0, case.frames, n):
        latents.append(rollout.denoise(conditions=told.at(slice(now, now + n))))
        rollout.remember()
    return torch.cat(latents, dim=1)


def golden(name: str) -> Tensor:
    return load_file(GOLDEN / "matrix_game2.safetensors")[name]


@pytest.mark.parametrize("name", cases.ROLLOUTS)
def test_a_rollout_equals_the_reference_pipeline(name: str) -> None:
    case = cases.ROLLOUTS[name]
    ours = roll_out(case, conditions(case), window_of(case))
    assert_near(ours, golden(name))


@pytest.mark.parametrize(
    "change", ["keys", "mouse", "picture", "features", "window", "action window"]
)
def test_the_golden_rollouts_depend_on_everything_that_is_told(change: str) -> None:
    """Else the tests above would say nothing about it."""
    case = cases.ROLLOUTS["universal"]
    told, window, features = conditions(case), window_of(case), case.features()
    if change == "keys":
        told = replace(told, keys=told.keys.roll(1, dims=2))  # one row later
    elif change == "mouse":
        assert told.mouse is not None
        told = replace(told, mouse=told.mouse.roll(1, dims=2))
    elif change == "picture":
        told = replace(told, picture=told.picture.roll(1, dims=1))
    elif change == "features":
        features = -features
    else:
        window = replace(
            window, **{"window_frames": 9} if change == "window" else {"action_frames": 3}
        )
    error = (roll_out(case, told, window, features) - golden("universal")).abs().max()
    assert error > 0.02


@pytest.mark.parametrize("name", ["universal", "forgewm"])
def test_keys_and_mouse_that_do_nothing_are_told_too(name: str) -> None:
    assert (golden(f"{name}.still") - golden(name)).abs().max() > 0.1
    assert float(conditions(cases.ROLLOUTS[name]).keys.std()) > 0.4


def test_a_window_of_the_actions_own_shows_in_the_golden_rollouts() -> None:
    """From the frame on at which the shorter of the two has left something out."""
    both, apart = golden("forgewm.9"), golden("forgewm")[:, :12]
    assert torch.equal(apart[:, :6], both[:, :6])
    assert (apart[:, 6:9] - both[:, 6:9]).abs().max() > 0.02


def passed(case: MatrixCase, *, causal: bool, levels: Tensor) -> Tensor:
    model, window = model_of(case), replace(window_of(case), action_frames=case.frames)
    clip = WholeClipContext(
        model.config, window, case.frames, case.features(), causal=causal,
        conditions=conditions(case),
    )  # fmt: skip
    return model(case.noise(), levels, no_cameras(1, case.frames), clip)


@torch.inference_mode()
def test_all_frames_at_once_equal_the_reference_bidirectional_model() -> None:
    found = passed(cases.WHOLE, causal=False, levels=torch.full((1, 6), 0.625))
    assert_near(found, golden("bidirectional"))


def levels() -> Tensor:
    return torch.tensor(cases.TICKS).repeat_interleave(cases.CHUNK)[None] / 1000


@torch.inference_mode()
def test_a_causal_pass_over_a_clip_equals_the_reference() -> None:
    found = passed(cases.WHOLE, causal=True, levels=levels())
    assert_near(found, golden("causal"))


@torch.inference_mode()
def test_a_packed_clip_without_a_mouse_equals_the_reference() -> None:
    """With one, the reference's noisy half looks at noisy frames, which play never does."""
    case = cases.PACKED
    model, window = model_of(case), replace(window_of(case), action_frames=case.frames)
    packed = WanTeacherForcing(
        model.config, window, case.frames, case.features(), conditions=conditions(case)
    )
    found = model(
        torch.cat((cases.clean(), case.noise()), dim=1),
        torch.cat((torch.zeros(1, 6), levels()), dim=1),
        no_cameras(1, 12),
        packed,
    )
    assert_near(found[:, 6:], golden("packed"))
