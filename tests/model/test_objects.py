"""Objects around a player: what the rays are told of them, and where they go."""

import math

import pytest
import torch

from worldmodel.config import ConfigError
from worldmodel.model.objects import COME, GO_ON, GONE, MOVE, Objects, encode_objects
from worldmodel.model.state_configs import OBJECT_FEATURES, ObjectsConfig
from worldmodel.state_spec import StateNumber, StateSpec

RAYS = 16
CONFIG = ObjectsConfig(names=("imp.1", "imp.2", "ball.1"), rays=RAYS)
PLACE = StateNumber(kind="object", low=-100.0, high=400.0)
SPEC = StateSpec(
    {
        "x": StateNumber(kind="position"),
        "y": StateNumber(kind="position"),
        "heading": StateNumber(kind="heading", high=360.0),
        **dict.fromkeys(CONFIG.numbers, PLACE),
    }
)
NOWHERE = (math.nan, math.nan)


def state(heading: float, *places: tuple[float, float]) -> torch.Tensor:
    """Who stands at 0, 0 and looks at `heading`; objects at `places`."""
    return torch.tensor([0.0, 0.0, heading, *(x for place in places for x in place)])


def told(states: torch.Tensor) -> torch.Tensor:
    """Of each ray and object the features: r o a."""
    rays = encode_objects(CONFIG, SPEC.names, states).view(RAYS, CONFIG.ray_features)
    return rays[:, 2 * len(CONFIG.waves) :].view(RAYS, 3, OBJECT_FEATURES)


@pytest.mark.parametrize("heading", [0.0, 90.0, 200.0])
def test_an_object_is_told_where_the_picture_shows_it(heading: float) -> None:
    angle = math.radians(heading - 30)  # 30 degrees to the right of where one looks
    rays = told(state(heading, (100 * math.cos(angle), 100 * math.sin(angle)), NOWHERE, NOWHERE))
    column = (math.tan(math.radians(30)) + 1) / 2 * RAYS
    assert int(rays[:, 0, 0].argmax()) == int(column)
    assert rays[:, 1:].abs().max() == 0, "nobody is told of those that are not there"


def test_what_stands_behind_is_not_told_and_what_is_nearer_is_wider() -> None:
    rays = told(state(0.0, (-50.0, 3.0), (300.0, 0.0), (40.0, 0.0)))
    assert rays[:, 0].abs().max() == 0
    on = rays[..., 2]  # whether a ray meets the object
    assert on[:, 2].sum() > 2 * on[:, 1].sum() > 0


def test_a_ray_tells_where_it_points_whoever_looks() -> None:
    """Straight ahead of one who looks aside is where the outermost ray of another one points."""
    angle = math.degrees(math.atan((RAYS - 1) / RAYS))
    rays = [
        encode_objects(CONFIG, SPEC.names, state(heading, *[NOWHERE] * 3)).view(RAYS, -1)
        for heading in (0.0, 2 * angle)
    ]
    waves = 2 * len(CONFIG.waves)
    assert torch.allclose(rays[0][0, :waves], rays[1][-1, :waves], atol=1e-3)
    assert not torch.allclose(rays[0][:, :waves], rays[1][:, :waves], atol=0.1)


def test_a_state_without_the_numbers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'imp\.1\.x'"):
        encode_objects(CONFIG, ("x", "y", "heading"), torch.zeros(3))


def objects_with_transitions() -> Objects:
    objects = Objects(CONFIG, SPEC, 16, 4)
    for column, (sort, value) in enumerate(
        ((GONE, (0.0, 0.0)), (GO_ON, (0.0, 0.0)), (MOVE, (5.0, 0.0)), (COME, (300.0, 20.0)))
    ):
        objects.sorts[:, column] = sort
        objects.values[:, column] = torch.tensor(value)
    return objects


def test_ways_lead_on_aside_out_and_in() -> None:
    before = state(0.0, (90.0, 10.0), NOWHERE, (50.0, 0.0))
    now = state(0.0, (100.0, 12.0), NOWHERE, NOWHERE)
    transitions = objects_with_transitions().candidates(torch.stack((before, now))[None])[0]
    assert transitions[0].nan_to_num(-1).tolist() == [[-1, -1], [110, 14], [105, 12], [300, 20]]
    assert transitions[1].nan_to_num(-1).tolist() == [[-1, -1], [-1, -1], [-1, -1], [300, 20]]


def test_who_is_not_there_neither_moves_nor_goes_on() -> None:
    torch.manual_seed(0)
    objects = objects_with_transitions()
    states = state(0.0, (100.0, 12.0), NOWHERE, NOWHERE).expand(1, 3, -1)
    embedded = objects.embed(states, states[:, -1, 2])
    assert torch.isfinite(embedded).all()
    chances = objects.logits(embedded, torch.zeros(1, 16), states).softmax(-1)[0]
    assert (chances[0, [0, 1, 2, 3]] > 0).all()
    assert chances[1, 1] == chances[1, 2] == 0
    for chance in (0.0, 0.3, 0.6, 0.999):
        drawn = objects.draw(chances.log()[None], torch.full((1, 3), chance), states)[0]
        assert drawn[1].isnan().all() or drawn[1].tolist() == [300, 20]


def test_objects_of_one_kind_share_their_weights() -> None:
    torch.manual_seed(0)
    objects = objects_with_transitions()
    states = state(0.0, (100.0, 12.0), (100.0, 12.0), (100.0, 12.0)).expand(1, 3, -1)
    embedded = objects.embed(states, states[:, -1, 2])
    logits = objects.logits(embedded, torch.zeros(1, 16), states)[0]
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])


@pytest.mark.parametrize(
    "wrong", [{"names": ()}, {"names": ("a", "a")}, {"rays": 0}, {"field_of_view": 180.0}]
)
def test_objects_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ObjectsConfig(**{"names": ("a.1",), **wrong})  # type: ignore[arg-type]
