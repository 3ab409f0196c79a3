import pytest
import torch
from torch import Tensor

from tests.wan.reference import load
from worldmodel.wan.camera import CameraMotion, CameraPath, no_cameras
from worldmodel.wan.kv_cache import WholeClipContext
from worldmodel.wan.wan_rollout import WanRollout

ROLLOUTS = sorted(load("causal_forcing")[1])
WITH_CAMERAS = sorted(load("minwm")[1])
FOCAL = (0.5050505, 0.89786756)


def rolled_out(name: str, case_name: str, cameras: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Our rollout of a case, and the reference's."""
    tensors, cases, model = load(name)
    case = cases[case_name]
    sampler, first = case.samplers
    rollout = WanRollout(model, case.window_config, sampler, first, case.noise(tensors))
    rollout.say(model.read_text(tensors["text"]))
    latents = []
    if case.image:
        rollout.prime(tensors["image"])
        latents.append(tensors["image"])
    for b in range(case.frames // case.block):
        here = slice(b * case.block, (b + 1) * case.block)
        latents.append(rollout.denoise(None if cameras is None else cameras[:, here]))
        rollout.remember()
    return torch.cat(latents, dim=1), tensors[f"out.{case_name}"]


@pytest.mark.parametrize("case", ROLLOUTS)
def test_a_rollout_equals_the_reference_pipeline(case: str) -> None:
    ours, theirs = rolled_out("causal_forcing", case)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def path_of_the_golden_file() -> Tensor:
    """Two frames forward, two to the right, two down, from our own camera: 1 7 4 4."""
    path = CameraPath(FOCAL)
    seen = [path.projection()]
    for motion in (CameraMotion(forward=0.08), CameraMotion(yaw=3.0), CameraMotion(pitch=-3.0)):
        for _ in range(2):
            path.walk(motion)
            seen.append(path.projection())
    return torch.cat(seen, dim=1)


def test_a_path_of_the_camera_equals_the_reference_trajectory() -> None:
    tensors, _, _ = load("minwm")
    lens = torch.diag(torch.tensor([*FOCAL, 1.0, 1.0]))
    torch.testing.assert_close(path_of_the_golden_file(), lens @ tensors["viewmats"])


@pytest.mark.parametrize("case", WITH_CAMERAS)
def test_a_rollout_with_cameras_equals_the_reference_pipeline(case: str) -> None:
    ours, theirs = rolled_out("minwm", case, path_of_the_golden_file())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_the_golden_rollouts_depend_on_the_camera() -> None:
    """Else the tests above would say nothing about it."""
    ours, theirs = rolled_out("minwm", "cameras.1.room", no_cameras(1, 7))
    assert (ours - theirs).abs().max() > 0.05


@torch.inference_mode()
def test_all_frames_at_once_equal_the_reference_bidirectional_model() -> None:
    tensors, cases, model = load("causal_forcing")
    window = cases["4step.room"].window_config
    text = model.read_text(tensors["text"])
    clip = WholeClipContext(model.config, window, 5, text, causal=False)
    velocity = model(tensors["noise"][:, :5], torch.full((1, 5), 0.625), no_cameras(1, 5), clip)
    torch.testing.assert_close(velocity, tensors["out.bidirectional"], rtol=1e-4, atol=2e-5)
