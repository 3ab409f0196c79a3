"""The learned scene around a player who stands and turns: a panorama, and sprites of its objects.

A view is where the player is and looks, and where objects are, all of them numbers of the state.
The picture is drawn back to front: the panorama, by direction; the objects as sprites, the farthest
first; then what never moves on the screen, a weapon or a status bar. Panorama, sprites and front
are textures. They are learned from frames and places alone, together with the autoencoder that says
how a frame differs from this picture.

    column of u, from −1 to 1    the direction  heading − atan(u reach)
    pixel of slope v             v = (row − horizon) aspect;  an object that is d ahead and r to the
                                 right is seen at u = r / (d reach), and covers reach_units / d of v
    over                         picture ← picture (1 − alpha) + alpha colour

A sprite is sampled by two products, rows times texture times columns: a row of a picture shows one
row of it. It has a texture for each of a few distances, for light and detail change with them.

    scene = Scene(config)
    sight = scene.look(views)                 # fp32
    picture, hidden = scene.drawing(sight.pixels)

Letters of its own: o objects, q textures (kinds times distances), i and j rows and columns of a
texture, a features.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.model.floor_plan import Sight
from worldmodel.model.objects import RADIANS, check_known, seen_from
from worldmodel.model.state_configs import SceneConfig

GAIN = 32.0  # of textures: an optimizer's step moves them so much faster
NOWHERE = 1e6  # map units: where an object stands that is not there
HORIZON, ASPECT = -0.1, 0.75  # a first guess of the camera
CLEAR = -2.0  # logit of the opacity that textures begin with


def scene_views(config: SceneConfig, names: Sequence[str], states: Tensor) -> Tensor:
    """The numbers of states ... v with the `names` that a scene is seen by: ... n, fp32.

    An object that is not there stands nowhere; x, y or heading that nobody knows stay NaN.
    """
    for name in config.numbers:
        check_known(names, name)
    views = states[..., [list(names).index(name) for name in config.numbers]].float()
    first = len(config.objects.viewer)
    places = torch.nan_to_num(views[..., first:], nan=NOWHERE)
    return torch.cat((views[..., :first], places), dim=-1)


class SceneDrawing(nn.Module):
    """What the decoder reads of a picture: the one part of a scene that needs no fp32."""

    def __init__(self, config: SceneConfig) -> None:
        super().__init__()
        self.spread = nn.Conv2d(config.pixel_features, config.hidden, 3, padding=1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels a b h w -> picture b 3 h w in about [-1, 1], hidden features b a h w."""
        pixels = rearrange(pixels, "a b h w -> b a h w")
        return pixels[:, :3], F.silu(self.spread(pixels))


class Scene(nn.Module):
    """Textures, and how a view of them becomes a picture."""

    kind: Tensor  # o q, which textures are whose, 1 or 0

    def __init__(self, config: SceneConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.panorama
        kinds, size = len(config.objects.kinds), config.texture
        height, width = config.frame_height, config.frame_width
        self.panorama = nn.Parameter(torch.zeros(3, rows, columns))
        sprites = 0.001 * torch.randn(kinds * config.levels, 4, size, size)
        self.sprites = nn.Parameter(sprites)
        self.front = nn.Parameter(torch.zeros(4, height, width))
        self.horizon = nn.Parameter(torch.tensor(HORIZON))
        self.aspect = nn.Parameter(torch.tensor(ASPECT))
        self.drawing = SceneDrawing(config)
        kind = (
            F.one_hot(torch.tensor(config.objects.owners), kinds)
            .float()
            .repeat_interleave(config.levels, dim=1)
        )
        self.register_buffer("kind", kind, persistent=False)

    def look(self, views: Tensor) -> Sight:
        """What views b n (`scene_views`), fp32, show: pixels a b h w; it tells no rays: b 0.

        The pixels are the picture's three colours, then how much of them objects cover.
        """
        picture = self._behind(views[:, 2])
        for sprite in self._sprites(views).unbind(1):
            picture = torch.addcmul(sprite, picture, 1 - sprite[:, 3:])
        alpha = torch.sigmoid(GAIN * self.front[3:] + CLEAR)
        colour = F.pad(GAIN * self.front[:3] * alpha, (0, 0, 0, 0, 0, 1))
        picture = torch.addcmul(colour, picture, 1 - alpha)
        return Sight(views[:, :0], rearrange(picture, "b a h w -> a b h w"))

    def _behind(self, heading: Tensor) -> Tensor:
        """The panorama in the directions of a view's columns, covered by nothing: b 4 h w."""
        rows, columns = self.config.panorama
        across, down = self._slopes(heading)
        angle = RADIANS * heading[:, None] - torch.atan(across)
        place = torch.remainder(angle / (2 * math.pi), 1.0) * columns
        left = place.floor()
        share = place - left
        left = torch.remainder(left.long(), columns)
        right = torch.remainder(left + 1, columns)
        panorama = GAIN * self.panorama
        strips = torch.lerp(panorama[:, :, left], panorama[:, :, right], share)
        strips = rearrange(strips, "three i b w -> w (b three) i", three=3)
        height = down[None] * torch.rsqrt(1 + across[:, None] ** 2)  # w h, of a cylinder
        seen = strips @ rearrange(_hat(height, rows), "w h i -> w i h")
        picture = rearrange(seen, "w (b three) h -> b three h w", three=3)
        return F.pad(picture, (0, 0, 0, 0, 0, 1))

    def _sprites(self, views: Tensor) -> Tensor:
        """All objects, the farthest first: b o 4 h w, colours times opacity, then opacity."""
        config = self.config
        across, down = self._slopes(views)
        first = len(config.objects.viewer)
        ahead, right = seen_from(views[:, first:], *views[:, :first].unbind(1))
        there = (ahead > config.objects.nearest) & (ahead < config.farthest)
        ahead = torch.where(there, ahead, torch.full_like(ahead, config.farthest))
        share = torch.log2(ahead / config.near) / math.log2(config.far / config.near)
        level = share.clamp(0, 1)[..., None] * (config.levels - 1)
        levels = _tent(level - torch.arange(config.levels, device=views.device))
        chosen = self.kind * levels.repeat(1, 1, len(config.objects.kinds)) * there[..., None]
        order = _farthest_first(ahead)
        ahead, right = ((order @ x[..., None])[..., 0] for x in (ahead, right))
        chosen = order @ chosen  # b o q
        colour = GAIN * self.sprites
        alpha = torch.sigmoid(colour[:, 3:] + CLEAR)
        textures = torch.cat((colour[:, :3] * alpha, alpha), dim=1)  # q 4 i j
        texture = chosen @ rearrange(textures, "q four i j -> q (four i j)")
        size = config.texture
        texture = rearrange(texture, "b o (four i j) -> b o four i j", four=4, i=size, j=size)
        scale = ahead[..., None] / config.reach
        rows = _hat(down * scale, size)[:, :, None]  # b o 1 h i
        columns = _hat(across * scale - right[..., None] / config.reach, size)[:, :, None]
        return rows @ texture @ rearrange(columns, "b o one w j -> b o one j w")

    def _slopes(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """To the right and down of what each column w and row h shows, for one unit ahead."""
        config = self.config
        reach = math.tan(math.radians(config.objects.field_of_view) / 2)
        across = _middles(config.frame_width, like.device) * reach
        down = _middles(config.frame_height, like.device) * self.aspect - self.horizon
        return across, down


def _middles(count: int, device: torch.device) -> Tensor:
    """The middles of so many pixels, from −1 to 1."""
    return (torch.arange(count, device=device) + 0.5) * 2 / count - 1


def _tent(x: Tensor) -> Tensor:
    """1 at 0, falling to 0 at −1 and 1."""
    return (1 - x.abs()).clamp(min=0)


def _hat(places: Tensor, count: int) -> Tensor:
    """How much of each of `count` texels places ..., −1 to 1 over a texture, show: ... i."""
    texel = (places[..., None] + 1) * count / 2 - 0.5
    return _tent(texel - torch.arange(count, device=places.device))


def _farthest_first(ahead: Tensor) -> Tensor:
    """The permutation b o o that puts objects b o in the order of their distance."""
    number = torch.arange(ahead.shape[1], device=ahead.device)
    farther = ahead[:, None, :] > ahead[:, :, None]
    same = (ahead[:, None, :] == ahead[:, :, None]) & (number[None, :] < number[:, None])
    place = (farther | same).sum(dim=-1)
    return (place[:, None, :] == number[:, None]).to(ahead.dtype)
