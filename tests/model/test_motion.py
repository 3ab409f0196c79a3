"""Where the player is next: exact where it can be, learned where it must be."""

import math

import pytest
import torch

from tests.worlds.make_world import MOTION, STATE, make_motion
from worldmodel.config import ConfigError
from worldmodel.model.motion import Motion, Roles
from worldmodel.state_spec import StateSpec

START = torch.tensor([[50.0, 10.0, 8.5, 30.0, 1.0, -0.5, 18.0, 77.0]])


def act(left: float = 0.0, right: float = 0.0, mouse: float = 0.0) -> torch.Tensor:
    return torch.tensor([[left, right, mouse, 0.0]])


def test_the_heading_follows_the_mouse_exactly_and_wraps() -> None:
    motion, heading = make_motion(), STATE.index("heading")
    turned = motion(START, act(mouse=2.0))  # 16 degrees to the right
    assert turned[0, heading].item() == 14.0
    assert motion(turned, act(mouse=2.0))[0, heading].item() == 358.0


def test_a_phase_wraps_and_numbers_of_other_kinds_stay() -> None:
    after = make_motion()(START, act(right=1.0))
    assert after[0, STATE.index("clock")].item() == 0.0
    assert after[0, STATE.index("health")].item() == 77.0


def test_without_what_was_learned_motion_is_free() -> None:
    """An untrained correction is nought: velocity is kept, and buttons push along the own axes."""
    motion = Motion(MOTION, STATE).eval()
    with torch.no_grad():
        motion.push.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))  # the second button: ahead
        motion.travel.fill_(3.0)
        after = motion(START, act(right=1.0))
    kept = [motion.keep.item() * v for v in (1.0, -0.5)]
    pushed = [2.0 * math.cos(math.radians(30)), 2.0 * math.sin(math.radians(30))]
    for axis, number in enumerate(("x", "y")):
        way = 3.0 * (kept[axis] + pushed[axis])
        assert after[0, STATE.index(number)] == pytest.approx(START[0, axis].item() + way, abs=1e-4)
    assert after[0, STATE.index("u")] == pytest.approx(kept[0] + pushed[0], abs=1e-5)


def test_players_of_a_batch_do_not_meet() -> None:
    motion = make_motion()
    other = START + torch.tensor([[-20.0, 5.0, 0, 90, 0, 0, 0, 0]])
    both = motion(torch.cat((START, other)), torch.cat((act(left=1.0), act(mouse=0.5))))
    alone = torch.cat((motion(START, act(left=1.0)), motion(other, act(mouse=0.5))))
    assert torch.allclose(both, alone, atol=1e-5)


def test_a_state_without_a_place_is_refused_by_name() -> None:
    spec = StateSpec({name: STATE.numbers[name] for name in ("x", "y", "heading", "u", "v")})
    with pytest.raises(ConfigError, match=r"needs 3 numbers of the kind 'position'.*found 2"):
        Roles.of(spec)
