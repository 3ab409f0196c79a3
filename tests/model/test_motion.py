"""Where the player is next: exact where it can be, learned where it must be."""

import math
from dataclasses import replace

import pytest
import torch

from tests.worlds.make_world import MOTION, STATE, make_motion
from worldmodel.config import ConfigError
from worldmodel.model.ground import walked_ground
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


def in_a_room(turn_step: float = 0.0, beyond: float = 0.0) -> Motion:
    """A motion in a room from 20, -20 to 80, 20, with a pillar from 60, 0 to 64, 4."""
    motion = Motion(replace(MOTION, tics=1, turn_step=turn_step, beyond=beyond), STATE).eval()
    with torch.no_grad():
        motion.push.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))  # the second button: ahead
        motion.travel.fill_(3.0)
        motion.ground.free[20:80, 20:60] = 1
        motion.ground.free[60:64, 40:44] = 0
    return motion


def going(x: float, y: float, u: float, v: float) -> torch.Tensor:
    state = START.clone()
    for name, value in (("x", x), ("y", y), ("u", u), ("v", v), ("heading", 0.0)):
        state[0, STATE.index(name)] = value
    return state


def told(state: torch.Tensor) -> list[float]:
    return [state[0, STATE.index(name)].item() for name in ("x", "y", "u", "v")]


def test_where_nothing_is_in_the_way_motion_is_free() -> None:
    """Each tic the buttons push along the player's own axes, and part of the velocity is kept."""
    motion = in_a_room()
    state = going(50.0, 10.0, 1.0, -0.5)
    state[0, STATE.index("heading")] = 30.0
    after = motion(state, act(right=1.0))
    push = 2.0 * math.cos(math.radians(30)), 2.0 * math.sin(math.radians(30))
    u, v = 1.0 + push[0], -0.5 + push[1]
    keep = motion.keep.item()
    assert told(after) == pytest.approx([50 + 3 * u, 10 + 3 * v, keep * u, keep * v], abs=1e-4)


def test_a_wall_is_slid_along_by_the_share_of_the_tic_that_is_left() -> None:
    motion = in_a_room()
    x, y, u, v = told(motion(going(79.0, 0.0, 1.0, 0.5), act()))  # 3 to the right, 1 is free
    short = 3 / 32
    assert x == pytest.approx(80.0 - short, abs=1e-4)
    assert y == pytest.approx((1 / 3 - 1 / 32) * 1.5 + 2 / 3 * 1.5, abs=1e-4)
    assert u == 0.0
    assert v == pytest.approx(motion.keep.item() * 2 / 3 * 0.5, abs=1e-5)


def test_a_corner_holds_and_speed_is_not_kept_into_it() -> None:
    motion = in_a_room()
    state = going(79.0, 19.0, 1.5, 1.5)
    for _ in range(4):
        state = motion(state, act())
    x, y, u, v = told(state)
    assert 79 < x < 80
    assert 19 < y < 20
    assert abs(u) + abs(v) < 1


def test_what_only_grazes_a_wall_is_not_slowed() -> None:
    motion = in_a_room()
    x, y, u, _ = told(motion(going(50.0, 19.999, 1.0, 0.002), act()))
    assert (x, y) == pytest.approx((53.0, 19.999), abs=1e-5)
    assert u == pytest.approx(motion.keep.item(), abs=1e-6)


def test_a_pillar_is_met_at_its_first_face_and_passed_beside() -> None:
    motion = in_a_room()
    x, y, u, v = told(motion(going(59.0, -1.5, 1.0, 1.0), act()))  # at x = 60 y is -0.5: below it
    assert (x, v) == pytest.approx((59 + (0.5 - 1 / 32) * 3 + 1.5, 0.0), abs=1e-4)
    assert (y, u) == pytest.approx((0 - 3 / 32, 0.5 * motion.keep.item()), abs=1e-4)
    assert told(motion(going(59.0, -3.5, 1.0, 1.0), act()))[:2] == pytest.approx([62, -0.5])


def test_a_wall_may_count_past_its_ends_once_another_is_met() -> None:
    """As in Doom: below the pillar's corner its left face stops x first, 1.5 under its end."""
    start = going(59.0, -1.5, 1.0, 0.6)
    assert told(in_a_room()(start, act()))[0] > 60
    x, _, u, v = told(in_a_room(beyond=8.0)(start, act()))
    assert (x, u) == pytest.approx((59 + (1 / 3 - 1 / 32) * 3, 0.0), abs=1e-4)
    assert v == pytest.approx(in_a_room().keep.item() * 2 / 3 * 0.6, abs=1e-5)
    free = told(in_a_room(beyond=8.0)(going(59.0, -3.5, 1.0, 0.6), act()))
    assert free[:2] == pytest.approx([62.0, -1.7], abs=1e-4)


def test_whoever_stands_where_no_ground_is_known_can_walk_out() -> None:
    assert told(in_a_room()(going(10.0, 0.0, 1.0, 0.0), act()))[0] == pytest.approx(13.0)


def test_a_game_that_turns_in_whole_steps_turns_the_next_one_to_the_left() -> None:
    """As ViZDoom does: 1.2 steps to the right are 1, 1.2 to the left are 2."""
    motion, heading = in_a_room(turn_step=0.5), STATE.index("heading")
    right = motion(START, act(mouse=0.6 / 8))
    left = motion(START, act(mouse=-0.6 / 8))
    assert right[0, heading].item() == 29.5
    assert left[0, heading].item() == 31.0
    assert motion(START, act(mouse=1.0))[0, heading].item() == 22.0, "whole steps are exact"


def test_a_file_cannot_ask_for_endless_walls_or_steps() -> None:
    with pytest.raises(ConfigError, match="may be 512 cells"):
        replace(MOTION, beyond=1e9)
    with pytest.raises(ConfigError, match="at least 1e-6 degrees"):
        replace(MOTION, turn_step=1e-300)


def test_who_pushes_nothing_and_is_slow_stands_still() -> None:
    motion = Motion(replace(MOTION, tics=1, stop=0.0625), STATE)
    motion.ground.free[:] = 1
    with torch.no_grad():
        motion.push.copy_(torch.tensor([[0.0, 0.0], [0.02, 0.0]]))
    slow = going(50.0, 0.0, 0.06, -0.05)
    assert told(motion(slow, act())) == pytest.approx([50.06, -0.05, 0.0, 0.0], abs=1e-5)
    assert told(motion(slow, act(right=1.0)))[2] > 0
    assert told(motion(going(50.0, 0.0, 0.07, 0.0), act()))[2] > 0


def test_a_table_of_sines_is_read_towards_the_axes() -> None:
    """Doom's has 8 192 entries; here 8: between two of them the one nearer to 0 counts."""
    motion = Motion(replace(MOTION, tics=1, sines=8), STATE)
    angles = torch.tensor([0.0, 44.9, 45.0, 60.0, 100.0, 179.0, 225.0, 359.0]).double()
    half = math.sqrt(0.5)
    expected = [0.0, 0.0, half, half, half, 0.0, -half, 0.0]
    assert motion._sine(angles).tolist() == pytest.approx(expected, abs=1e-9)
    exact = in_a_room()._sine(angles)
    assert exact.tolist() == pytest.approx([math.sin(math.radians(a)) for a in angles.tolist()])
    with pytest.raises(ConfigError, match="sines = 6: expected 0, or a number divisible by 4"):
        replace(MOTION, sines=6)


def test_ground_is_where_somebody_stood_and_what_lies_between() -> None:
    config = replace(MOTION, body=4.0)
    corners = [(x + 0.5, y + 0.5) for x in range(20, 60, 4) for y in range(-20, 20, 3)]
    free = walked_ground(torch.tensor(corners), config)
    assert free.sum().item() == 37 * 40
    assert free[20:57, 20:60].all()
    apart = walked_ground(torch.tensor([(10.5, 0.5), (16.5, 0.5), (30.0, 0.5)]), config)
    assert apart.sum().item() == 2, "a gap of five, and a place on an edge, say nothing"


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
