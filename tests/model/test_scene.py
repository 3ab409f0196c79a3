"""A scene shows what it has learned where it is: directions, objects, the nearer before others."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.worlds.make_world import AMONG_OBJECTS, PLAN, SCENE
from worldmodel.config import ConfigError
from worldmodel.model.autoencoder import Autoencoder, decode_latents
from worldmodel.model.configs import AutoencoderConfig
from worldmodel.model.scene import CLEAR, GAIN, NOWHERE, Scene, scene_views

CONFIG = replace(SCENE, frame_height=24, frame_width=32, panorama=(32, 360), reach=40.0)
Place = tuple[float, float]
OPAQUE, RED, GREEN = 8.0, (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0)


def view(heading: float = 0.0, places: dict[str, Place] | None = None) -> Tensor:
    """The numbers of one view from the middle of the map, objects at their places: 1 n."""
    numbers = dict.fromkeys(CONFIG.numbers, NOWHERE) | {"x": 0.0, "y": 0.0, "heading": heading}
    for name, (x, y) in (places or {}).items():
        numbers |= {f"{name}.x": x, f"{name}.y": y}
    return torch.tensor([[numbers[name] for name in CONFIG.numbers]])


def scene_of_squares() -> Scene:
    """Black all around; imps are red squares, balls green ones."""
    scene = Scene(CONFIG).requires_grad_(requires_grad=False)
    scene.panorama.fill_(-1 / GAIN)
    scene.front[3].fill_(-OPAQUE / GAIN)
    for kind, colour in enumerate((RED, GREEN)):
        own = scene.sprites[kind * CONFIG.levels : (kind + 1) * CONFIG.levels]
        own[:, :3] = torch.tensor(colour)[:, None, None] / GAIN
        own[:, 3] = (OPAQUE - CLEAR) / GAIN
    return scene


def seen(scene: Scene, views: Tensor) -> tuple[Tensor, Tensor]:
    """The picture 3 h w, and how much of it objects cover: h w."""
    pixels = scene.look(views).pixels[:, 0]
    return pixels[:3], pixels[3]


def middle(covered: Tensor) -> float:
    """The middle of what is covered, across, in pixels."""
    weight = covered.sum(dim=0)
    return float((weight * torch.arange(len(weight))).sum() / weight.sum())


def test_an_object_is_seen_where_it_stands_and_larger_when_it_is_near() -> None:
    scene = scene_of_squares()
    widths = {}
    for ahead, aside in ((100.0, 0.0), (100.0, 50.0), (100.0, -50.0), (200.0, 0.0)):
        picture, covered = seen(scene, view(0.0, {"imp.1": (ahead, aside)}))
        expected = (1 - aside / ahead) * CONFIG.frame_width / 2 - 0.5
        assert middle(covered) == pytest.approx(expected, abs=0.3)
        widths[ahead, aside] = float(covered.max(dim=0).values.sum())
        here = covered > 0.9
        assert torch.allclose(picture[:, here].T, torch.tensor(RED), atol=0.2)
        assert (picture[:, covered < 0.01] < -0.99).all()
    assert widths[100.0, 0.0] == pytest.approx(2 * widths[200.0, 0.0], rel=0.15)
    reach = math.tan(math.radians(CONFIG.objects.field_of_view) / 2)
    wide = CONFIG.reach / 100.0 / reach * CONFIG.frame_width
    assert widths[100.0, 0.0] == pytest.approx(wide, rel=0.15)


def test_turning_moves_objects_and_what_lies_behind_them_alike() -> None:
    scene = scene_of_squares()
    _, covered = seen(scene, view(-20.0, {"imp.1": (100.0, 0.0)}))
    scene.panorama.fill_(-1 / GAIN)
    scene.panorama[:, :, [358, 359, 0, 1]] = 1 / GAIN  # a white stripe in the direction 0
    picture, _ = seen(scene, view(-20.0))
    stripe = (picture[0] + 1).clamp(min=0)
    assert middle(covered) == pytest.approx(middle(stripe), abs=0.6)
    far_round = seen(scene, view(340.0))[0]
    torch.testing.assert_close(far_round, picture, atol=1e-4, rtol=0)


@pytest.mark.parametrize("near", ["imp.1", "ball.1"])
def test_the_nearer_object_covers_the_farther(near: str) -> None:
    scene = scene_of_squares()
    other = {"imp.1": "ball.1", "ball.1": "imp.1"}[near]
    picture, covered = seen(scene, view(0.0, {near: (90.0, 0.0), other: (120.0, 0.0)}))
    colour = RED if near == "imp.1" else GREEN
    both = covered > 0.99
    assert both.any()
    assert torch.allclose(picture[:, both].T, torch.tensor(colour), atol=0.1)


def test_what_is_not_there_behind_or_too_near_is_not_seen() -> None:
    scene = scene_of_squares()
    for places in ({}, {"imp.1": (-100.0, 0.0)}, {"imp.1": (CONFIG.objects.nearest - 1, 0.0)}):
        picture, covered = seen(scene, view(0.0, places))
        assert covered.abs().max() == 0
        assert (picture < -0.99).all()


def test_an_object_that_is_unknown_stands_nowhere_and_a_wrong_name_is_named() -> None:
    states = torch.zeros(2, 3, AMONG_OBJECTS.width)
    states[..., AMONG_OBJECTS.index("imp.2.x")] = math.nan
    states[..., AMONG_OBJECTS.index("imp.2.y")] = math.nan
    states[..., AMONG_OBJECTS.index("x")] = 7.0
    views = scene_views(SCENE, AMONG_OBJECTS.names, states)
    assert views.shape == (2, 3, len(SCENE.numbers))
    assert torch.isfinite(views).all()
    assert (views[..., 0] == 7.0).all()
    assert (views[..., SCENE.numbers.index("imp.2.x")] == NOWHERE).all()
    with pytest.raises(ConfigError, match=r"imp\.1\.x"):
        scene_views(SCENE, ["x", "y", "heading"], torch.zeros(1, 3))


def test_a_view_looks_the_same_in_a_batch_as_alone() -> None:
    torch.manual_seed(0)
    scene = Scene(CONFIG).requires_grad_(requires_grad=False)
    for textures in (scene.panorama, scene.sprites, scene.front):
        textures.normal_(std=0.05)
    views = torch.cat(
        [view(10.0 * i, {"imp.1": (60.0 + i, 5.0), "ball.1": (90.0, -9.0 * i)}) for i in range(4)]
    )
    together = scene.look(views).pixels
    for number, one in enumerate(views):
        torch.testing.assert_close(scene.look(one[None]).pixels[:, 0], together[:, number])


def test_a_scene_learns_what_is_seen_from_frames_and_places_alone() -> None:
    torch.manual_seed(0)
    true, scene = scene_of_squares(), Scene(CONFIG)
    optimizer = torch.optim.Adam(scene.parameters(), lr=0.003)
    errors = []
    for step in range(150):
        views = torch.cat(
            [view(0.0, {"imp.1": (float(x), float(y))}) for x, y in 60 + 90 * torch.rand(8, 2) - 30]
        )
        error = (scene.look(views).pixels[:3] - true.look(views).pixels[:3]).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
        assert step or errors[0] > 0.3
    assert errors[-1] < 0.15 * errors[0]


def test_an_autoencoder_with_a_scene_begins_with_its_picture() -> None:
    torch.manual_seed(0)
    shape = AutoencoderConfig(
        widths=(8, 8, 8), blocks=1, latent_channels=4, frame_height=24, frame_width=32, scene=CONFIG
    )
    autoencoder = Autoencoder(shape).eval().requires_grad_(requires_grad=False)
    autoencoder.scene = scene_of_squares()
    views = torch.stack((view(), view(0.0, {"imp.1": (100.0, 0.0)})), dim=1)  # 1 f n
    latents = torch.randn(1, 2, *autoencoder.latent_shape)
    frames = decode_latents(autoencoder, latents, views)
    expected = ((autoencoder.look(views[0]).pixels[:3] + 1) * 127.5).clamp(0, 255)
    off = frames[0].float().permute(3, 0, 1, 2) - expected
    assert off.abs().max() <= 1, "before it is trained, the decoder changes nothing"
    autoencoder.cast(torch.bfloat16)
    rounded = decode_latents(autoencoder, latents, views)
    assert (rounded.int() - frames.int()).abs().max() <= 2


def test_a_scene_and_a_plan_together_or_of_another_size_are_refused() -> None:
    shape = AutoencoderConfig(
        widths=(8,), blocks=1, latent_channels=4, frame_height=24, frame_width=40
    )
    with pytest.raises(ConfigError, match="scene shows 24 x 32"):
        replace(shape, scene=CONFIG)
    with pytest.raises(ConfigError, match="a floor plan or a scene"):
        replace(shape, scene=CONFIG, plan=PLAN)
    with pytest.raises(ConfigError, match="below farthest"):
        replace(CONFIG, farthest=10.0)
