"""Shapes of the networks that know the state: plan, motion, events, and numbers as conditions."""

from dataclasses import dataclass, field, fields
from typing import ClassVar

from worldmodel.config import ConfigError, require_at_most, require_no_less, require_positive
from worldmodel.state_spec import Kind
from worldmodel.system.printable import shown

OBJECT_FEATURES = 6  # of an object in a ray (`model.objects.encode_objects`)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionNumber:
    """A number of the state that a transformer is given of every frame (`model.state_numbers`)."""

    name: str
    kind: Kind
    low: float = 0.0  # the range seen
    high: float = 0.0

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ConfigError(f"{self.name}: low ({self.low}) must be at most high ({self.high})")

    @property
    def digits(self) -> int:
        """How many digits a count is told by: those of the largest one, at most 4; else none."""
        return min(4, len(str(int(max(0.0, self.high))))) if self.kind == "count" else 0

    @property
    def features(self) -> int:
        """Numbers that stand for it in a condition."""
        if self.kind == "count":
            return 1 + 10 * self.digits
        return {"flag": 1, "heading": 8, "phase": 8}.get(self.kind, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectsConfig:
    """What comes, moves and goes around the player: monsters, what they throw (`model.objects`).

    An object's place are two numbers of the state, NAME.x and NAME.y, NaN while there is none.
    Objects whose names differ only behind the last dot (`demon.1`, `demon.2`) are of one kind.
    """

    names: tuple[str, ...]
    viewer: tuple[str, str, str] = ("x", "y", "heading")  # numbers that say who sees them
    field_of_view: float = 90.0  # degrees, from the left edge of the picture to the right
    rays: int = 16  # columns of the picture in which a transformer is given of them
    half_width: float = 24.0  # of an object, units of the map
    nearest: float = 8.0  # units ahead of the viewer; what is nearer is out of sight
    waves: tuple[int, ...] = (1, 2, 4, 8, 16)  # to a full turn, that tell where a ray points

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= 24 or len(set(self.names)) < len(self.names):
            raise ConfigError(f"objects: expected 1 to 24 names, each once, not {len(self.names)}")
        require_positive(self, "rays")
        require_at_most(self, 512, "rays")
        if not 1 <= self.field_of_view <= 170 or not 0.1 <= self.half_width <= 1e4:
            raise ConfigError(
                f"field_of_view ({self.field_of_view}) must be from 1 to 170 degrees, half_width "
                f"({self.half_width}) from 0.1 to 10000"
            )
        if not 0.1 <= self.nearest <= 1e4 or not 1 <= len(self.waves) <= 16:
            raise ConfigError(
                f"nearest ({self.nearest}) must be from 0.1 to 10000, waves hold 1 to 16 numbers"
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of objects, in the order of their first ones."""
        return tuple(dict.fromkeys(kind_of(name) for name in self.names))

    @property
    def owners(self) -> tuple[int, ...]:
        """The number of each object's kind."""
        return tuple(self.kinds.index(kind_of(name)) for name in self.names)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers of the state that say where they are."""
        return tuple(f"{name}.{axis}" for name in self.names for axis in "xy")

    @property
    def ray_features(self) -> int:
        """Numbers that a transformer is given of a ray: where it points, then each object."""
        return 2 * len(self.waves) + OBJECT_FEATURES * len(self.names)


def kind_of(name: str) -> str:
    """The kind of an object: its name without what follows the last dot."""
    return name.rpartition(".")[0] or name


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneConfig:
    """The shape of the learned scene around a player who stands and turns (`model.scene`)."""

    objects: ObjectsConfig
    frame_height: int
    frame_width: int
    panorama: tuple[int, int] = (128, 1024)  # rows and columns of its texture
    texture: int = 64  # rows and columns of a sprite's
    reach: float = 48.0  # map units from the middle of a sprite to its edges
    levels: int = 4  # textures of a sprite, for as many distances
    near: float = 24.0  # map units: the distance of the first of them
    far: float = 400.0  # and of the last
    farthest: float = 4096.0  # map units: what is farther is not seen
    hidden: int = 16  # channels that the decoder reads of the picture

    def __post_init__(self) -> None:
        names = ("frame_height", "frame_width", "texture", "levels", "hidden")
        require_positive(self, *names)
        require_at_most(self, 4096, *names)
        if not 2 <= min(self.panorama) <= max(self.panorama) <= 8192:
            raise ConfigError(f"panorama {shown(list(self.panorama))} must hold two from 2 to 8192")
        if self.texture < 2 or self.levels < 2 or self.texture > 512 or self.levels > 16:
            raise ConfigError(
                f"texture ({self.texture}) must be from 2 to 512, levels ({self.levels}) from 2 "
                "to 16"
            )
        if not 0.1 <= self.reach <= 1e4 or not 0.1 <= self.near < self.far < self.farthest <= 1e5:
            raise ConfigError(
                f"reach ({self.reach}) must be from 0.1 to 10000, near ({self.near}) below far "
                f"({self.far}) below farthest ({self.farthest}), at most 100000"
            )

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers of the state that a view is made of."""
        return (*self.objects.viewer, *self.objects.numbers)

    @property
    def pixel_features(self) -> int:
        """Numbers of each pixel: three colours, and how much of them objects cover."""
        return 4


@dataclass(frozen=True, kw_only=True, slots=True)
class FloorPlanConfig:
    """The shape of a level's learned plan (`model.floor_plan`), in the units of its map."""

    low: tuple[float, float]  # x, y: the plan reaches from here
    high: tuple[float, float]  # to here
    floor: float  # heights, as a first guess
    ceiling: float
    frame_height: int
    frame_width: int
    field_of_view: float = 90.0  # degrees, from the left edge of the picture to the right
    pixel_aspect: float = 1.0  # how much taller the game draws a unit of height than one of width
    cells: tuple[int, ...] = (24, 64, 192)  # rows of each grid
    features: int = 12  # of a grid's cell
    samples: int = 40  # points along a ray
    nearest: float = 6.0  # the first of them
    farthest: float = 1150.0  # and the last
    depths: int = 2  # surfaces that a ray can meet
    depth_features: int = 16
    ray_width: int = 48  # of the convolutions along a ray
    rays: int = 16  # that a transformer is given of
    texture_cell: float = 3.8  # units, of floor and ceiling
    wall_cell: float = 2.0  # of walls, which are seen from nearer
    texture_features: int = 16  # of floor and ceiling
    wall_features: int = 16
    column_features: int = 16
    width: int = 48  # of the convolutions over the picture
    hidden: int = 32
    depthwise: bool = False  # of each channel by itself, then across them: a quarter of the work

    def __post_init__(self) -> None:
        names = [field.name for field in fields(self) if field.type is int or field.type == "int"]
        require_positive(self, *names)
        require_at_most(self, 8192, *names)
        if not all(a < b and b - a < 1e6 for a, b in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"low {list(self.low)} must lie below high {list(self.high)}")
        if not 0 < self.ceiling - self.floor < 1e6 or not 0 < self.nearest < self.farthest < 1e6:
            raise ConfigError(
                f"floor ({self.floor}) must lie below ceiling ({self.ceiling}), nearest "
                f"({self.nearest}) be above 0 and below farthest ({self.farthest})"
            )
        if not 1 <= self.field_of_view <= 170 or not 0.1 <= self.pixel_aspect <= 10:
            raise ConfigError(
                f"field_of_view ({self.field_of_view}) must be from 1 to 170 degrees, "
                f"pixel_aspect ({self.pixel_aspect}) from 0.1 to 10"
            )
        if not 1 <= len(self.cells) <= 8 or not 2 <= min(self.cells) <= max(self.cells) <= 2048:
            raise ConfigError(f"cells {shown(list(self.cells))} must hold 1 to 8 from 2 to 2048")
        if self.frame_width % self.rays:
            raise ConfigError(f"rays ({self.rays}) must divide frame_width ({self.frame_width})")
        if min(self.texture_cell, self.wall_cell) < 0.01:
            raise ConfigError(
                f"texture_cell ({self.texture_cell}) and wall_cell ({self.wall_cell}) must be at "
                "least 0.01"
            )
        most = max(*self.floor_cells, *self.wall_cells)
        if most > 8192:
            raise ConfigError(f"a texture of {most} cells in a row, at most 8192: make them larger")

    @property
    def proportion(self) -> float:
        """How much wider than high the plan is."""
        return (self.high[0] - self.low[0]) / (self.high[1] - self.low[1])

    @property
    def floor_cells(self) -> tuple[int, int]:
        """Cells of the textures of floor and ceiling: along y, along x."""
        return self._cells(1, self.texture_cell), self._cells(0, self.texture_cell)

    @property
    def wall_cells(self) -> tuple[int, int]:
        """Cells of the textures of walls: along y, along x."""
        return self._cells(1, self.wall_cell), self._cells(0, self.wall_cell)

    def _cells(self, axis: int, cell: float) -> int:
        return max(2, round((self.high[axis] - self.low[axis]) / cell))

    @property
    def ray_features(self) -> int:
        """Numbers that a transformer is given of a ray: features, depths, the eye's height."""
        return self.depths * (self.depth_features + 1) + 1

    @property
    def pixel_features(self) -> int:
        """What is known of a pixel before it is drawn."""
        return (
            self.texture_features
            + self.depths * (self.wall_features + 2)
            + self.column_features
            + 1
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionConfig:
    """The shape of the network that says where the player is next (`model.motion`)."""

    low: tuple[float, float]  # x, y: the level lies between here
    high: tuple[float, float]  # and here
    buttons: int
    mouse_degrees: float  # of the heading, for 1.0 in the action vector
    phase_step: float = 0.0  # by which the state's phase goes on in a frame
    tics: int = 1  # steps of the game's own physics in a frame
    turn_step: float = 0.0  # degrees, of which the game turns whole numbers in a tic; 0: any turn
    sines: int = 0  # entries of the game's table of sines for a full turn; 0: exact ones
    cell: float = 1.0  # units of the map of where one can walk: what walls are drawn in
    body: float = 16.0  # how far the player's box reaches to each side
    stop: float = 0.0  # velocity along an axis below which who pushes nothing stands still
    short: float = 1 / 32  # of a tic's way, left before a wall
    graze: float = 0.0105  # units into a wall that do not slow the player down
    beyond: float = 0.0  # units past a wall's ends for which it counts once another is met
    samples: int = 24  # edges of cells that a tic's way may cross

    def __post_init__(self) -> None:
        require_positive(self, "tics", "samples")
        for name in ("cell", "body"):
            if not 0 < getattr(self, name) < 1e6:
                raise ConfigError(f"{name} must be above 0, found {getattr(self, name)}")
        require_no_less(self, 0, "turn_step", "stop", "short", "graze", "beyond")
        require_at_most(self, 4096, "buttons", "samples")
        if self.beyond > 512 * self.cell or 0 < self.turn_step < 1e-6:
            raise ConfigError(
                f"beyond ({self.beyond}) may be 512 cells of {self.cell}, turn_step "
                f"({self.turn_step}) 0 or at least 1e-6 degrees"
            )
        if self.sines % 4 or not 0 <= self.sines <= 1 << 20:
            raise ConfigError(f"sines = {self.sines}: expected 0, or a number divisible by 4")
        require_at_most(self, 64, "tics")
        if not all(a < b and b - a < 1e6 for a, b in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"low {list(self.low)} must lie below high {list(self.high)}")
        if not all(
            2 <= (b - a) / self.cell <= 8192 for a, b in zip(self.low, self.high, strict=True)
        ):
            raise ConfigError(
                f"cell {self.cell}: the map between low {list(self.low)} and high "
                f"{list(self.high)} must have 2 to 8192 cells each way"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsConfig:
    """The shape of the network that says what happens to a state's numbers (`model.events`)."""

    FORMERLY: ClassVar[dict[str, str]] = {"ways": "transitions"}
    buttons: int
    mouse_degrees: float  # of the heading, for 1.0 in the action vector
    latent_channels: int
    latent_height: int
    latent_width: int
    moved: tuple[str, ...] = ()  # numbers that `model.motion` moves, not this
    frames: int = 8  # of the past, whose numbers and actions it reads
    seen: int = 2  # of those, whose latents it reads
    width: int = 160
    bins: int = 32  # changes that it tells apart, of each number
    phase_step: float = 0.0  # by which the state's phases go on in a frame
    turn_step: float = 0.0  # degrees, of which the game turns whole numbers in a frame; 0: any turn
    objects: ObjectsConfig | None = None  # that move by chances of their own
    transitions: int = 64  # that it tells apart, of each kind of object
    follows: dict[str, str] = field(default_factory=dict)  # flag -> count: 1 where that is least
    lasts: dict[str, int] = field(default_factory=dict)  # such a flag -> frames, at most

    def __post_init__(self) -> None:
        require_positive(self, "frames", "seen", "width", "bins")
        if self.objects and not (self.frames >= 3 and 4 <= self.transitions <= 1024):
            raise ConfigError(
                f"objects move by what 3 frames or more say, frames is {self.frames}; "
                f"transitions ({self.transitions}) must be from 4 to 1024"
            )
        require_positive(self, "latent_channels", "latent_height", "latent_width")
        require_at_most(self, 64, "frames")
        require_at_most(self, 1024, "bins", "buttons")
        require_at_most(self, 8192, "width", "latent_channels", "latent_height", "latent_width")
        require_no_less(self, 0, "buttons", "turn_step")
        for flag, frames in self.lasts.items():
            if flag not in self.follows or not 1 <= frames <= self.frames:
                raise ConfigError(
                    f"lasts = {{{flag} = {frames}}}: expected a flag of follows, and frames from 1 "
                    f"to {self.frames}"
                )
        if self.seen > self.frames or self.bins < 2:
            raise ConfigError(
                f"seen ({self.seen}) must be at most frames ({self.frames}), bins ({self.bins}) at "
                "least 2"
            )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """One frame of latents: c h w."""
        return self.latent_channels, self.latent_height, self.latent_width
