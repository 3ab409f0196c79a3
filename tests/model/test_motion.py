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


def reaching(far: float) -> Motion:
    """A motion in which one may go so many usual ways in every direction; nothing else learned."""
    motion = Motion(MOTION, STATE).eval()
    leave = motion.walls[-1]
    assert isinstance(leave, torch.nn.Linear)
    assert leave.bias is not None
    with torch.no_grad():
        motion.push.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))  # the second button: ahead
        motion.travel.fill_(3.0)
        leave.bias[4:8] = far  # of a large number, softplus is that number
    return motion


def test_where_nothing_is_in_the_way_motion_is_free() -> None:
    """Each tic the buttons push along the player's own axes, and part of the velocity is kept."""
    motion = reaching(1000.0)
    after = motion(START, act(right=1.0))
    push = 2.0 * math.cos(math.radians(30)), 2.0 * math.sin(math.radians(30))
    keep, tics = motion.keep.item(), MOTION.tics
    for axis, (number, speed) in enumerate((("x", "u"), ("y", "v"))):
        place, velocity = START[0, axis].item(), START[0, 4 + axis].item()
        for _ in range(tics):
            velocity += push[axis]
            place += 3.0 * velocity
            velocity *= keep
        assert after[0, STATE.index(number)].item() == pytest.approx(place, abs=1e-3)
        assert after[0, STATE.index(speed)].item() == pytest.approx(velocity, abs=1e-4)


def test_what_is_in_the_way_is_slid_along() -> None:
    """A reach of 2 in each tic: what goes further stops there, and keeps no speed that way."""
    still = START.clone()
    still[0, STATE.index("heading")] = 0.0
    still[0, STATE.index("u")], still[0, STATE.index("v")] = 5.0, 0.1
    after = reaching(math.log(math.expm1(2.0)))(still, act())
    assert after[0, STATE.index("x")].item() == pytest.approx(50.0 + 2.0, abs=0.01)
    assert after[0, STATE.index("u")].item() == 0.0
    assert after[0, STATE.index("y")].item() > 10.0 + 2 * 0.1 * 3 * 0.8


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
