"""Whether a world stays itself: what is measured of walks, on a tiny world and the real game."""

import numpy as np
import torch

from tests.worlds.make_world import make_motion
from worldmodel.action import Action
from worldmodel.evaluation.conditions import follow
from worldmodel.evaluation.places import _pairs, _there_and_back, small
from worldmodel.evaluation.reference_clips import Clips


def test_states_are_the_games_at_first_and_the_motions_from_then_on() -> None:
    motion = make_motion()
    states = torch.randn(2, 6, 8).abs() * 5
    actions = torch.zeros(2, 6, 4)
    actions[:, :, 1] = 1.0
    followed = follow(motion, states, actions, known=3)
    assert torch.equal(followed[:, :3], states[:, :3])
    expected = states[:, 2]
    for f in range(3, 6):
        expected = motion(expected, actions[:, f])
        assert torch.allclose(followed[:, f], expected)


def test_only_views_of_one_place_and_direction_far_apart_in_time_are_pairs() -> None:
    views = torch.zeros(1, 40, 4)
    views[0, :, 0] = torch.arange(40) * 100.0  # every frame elsewhere
    views[0, 30] = views[0, 5] + torch.tensor([3.0, 0, 9.0, 2.0])  # there again; the eye bobs
    views[0, 35] = views[0, 6] + torch.tensor([0.0, 0, 0, 90.0])  # there, looking away
    views[0, 8] = views[0, 7]  # at once
    assert _pairs(views, apart=20) == [(0, 5, 30)]
    views[0, 5, 3], views[0, 30, 3] = 359.0, 1.0  # headings wrap
    assert _pairs(views, apart=20) == [(0, 5, 30)]


def test_the_way_back_undoes_the_way_there() -> None:
    there = [Action(frozenset({"KeyW"}), (3.0, 0.0)), Action(frozenset({"KeyA"}))]
    plan = _there_and_back(there)
    assert plan[0].buttons == {"KeyW"}
    assert plan[-1].buttons == {"KeyS"}
    assert plan[-1].mouse[0] == -3.0
    assert sum(action.mouse[0] for action in plan) == 0


def test_frames_of_any_size_are_compared_at_one() -> None:
    large = torch.from_numpy(np.full((2, 120, 160, 3), 7, np.uint8))
    assert small(large).shape == (2, 48, 64, 3)
    assert int(small(large).max()) == 7
    tiny = torch.zeros(2, 8, 16, 3, dtype=torch.uint8)
    assert small(tiny) is tiny


def test_clips_side_by_side_keep_their_states() -> None:
    one = Clips(torch.zeros(1, 3, 2, 2, 3), torch.zeros(1, 3, 4), torch.ones(1, 3, 5))
    both = Clips.together([one, one])
    assert both.states is not None
    assert both.states.shape == (2, 3, 5)
    assert both.cut(1, 3).frames.shape[1] == 2
