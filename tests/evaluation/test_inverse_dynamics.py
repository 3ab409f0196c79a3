import numpy as np
import torch
from torch import Tensor

from worldmodel.evaluation.inverse_dynamics import (
    WINDOW,
    correlation,
    features_of,
    read_actions,
    train_inverse_dynamics,
    windows_of,
)


def make_clips(count: int, frames: int = 40, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """A striped scene that turns with the mouse and brightens while the button is held."""
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(count):
        angle, light = rng.uniform(0, 64), 0.0
        pictures, actions = [], []
        for _ in range(frames):
            turn, held = rng.uniform(-1, 1), rng.random() < 0.5
            angle += 4 * turn
            light = 60.0 if held else 0.0
            columns = 120 + 60 * np.sin((np.arange(64) + angle) * 2 * np.pi / 32) + light
            pictures.append(np.tile(columns[None, :, None], (48, 1, 3)).astype(np.uint8))
            actions.append([float(held), turn, 0.0])
        clips.append((torch.from_numpy(np.stack(pictures)), torch.tensor(actions)))
    return clips


def test_actions_are_read_from_unseen_frames_and_not_from_unrelated_ones() -> None:
    model = train_inverse_dynamics(make_clips(30), steps=150, batch=32)
    unseen = make_clips(6, seed=1)
    reading = read_actions(model, unseen)
    assert reading.turn_correlation > 0.75
    assert reading.button_accuracy > 0.9
    frozen = [(frames[:1].expand_as(frames), actions) for frames, actions in unseen]
    nothing = read_actions(model, frozen)
    assert abs(nothing.turn_correlation) < 0.5
    assert nothing.button_accuracy < 0.7


def test_the_action_of_a_window_led_to_its_third_frame() -> None:
    frames = torch.arange(6)[:, None, None, None].expand(6, 48, 64, 3).to(torch.uint8)
    windows, actions = windows_of([(frames, torch.arange(6.0)[:, None].expand(6, 3))])
    assert [int(w[2, 0, 0, 0]) for w in windows] == actions[:, 0].int().tolist() == [2, 3, 4]
    assert all(len(window) == WINDOW for window in windows)


def test_the_correlation_is_one_where_the_other_picture_has_moved_to() -> None:
    one = torch.randn(1, 8, 10, 12)
    for moved in (-3, -2, 0, 1, 3):
        likeness = correlation(one, one.roll(moved, dims=3), reach=3)
        assert likeness.shape == (1, 7, 10, 12)
        inside = likeness[0, :, :, 4:-4].mean(dim=(1, 2))
        assert int(inside.argmax()) == moved + 3
        assert float(inside.max()) > 0.999


def test_a_clip_gives_one_feature_vector_for_each_window() -> None:
    model = train_inverse_dynamics(make_clips(2), steps=1, batch=4)
    assert features_of(model, make_clips(1)[0][0]).shape == (40 - WINDOW + 1, 128)


def test_a_larger_picture_of_the_same_scene_is_read_alike() -> None:
    """A turn moves it by more pixels than are compared: it is averaged down first."""
    small = make_clips(2, frames=8)
    large = [(f.repeat_interleave(2, 1).repeat_interleave(2, 2), a) for f, a in small]
    one, two = (train_inverse_dynamics(clips, steps=2, batch=4) for clips in (small, large))
    assert torch.allclose(features_of(one, small[0][0]), features_of(two, large[0][0]), atol=1e-5)
