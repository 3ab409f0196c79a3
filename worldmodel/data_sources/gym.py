"""Any Gymnasium environment that can draw itself, as a real game to record.

    with open_game(GymConfig(env="Pendulum-v1", size=(48, 48))) as game:
        frame = game.reset(seed=7)               # uint8 h w 3
        frame = game.step(action)
        game.is_over                             # then `reset` comes next

One frame is `skip` steps of the environment with the same action. The picture is cut to `crop`,
if that is given, and brought to the wanted size by one rule, `fit`: `stretch` it, `crop` what is
too long on both ends, or `pad` it with black.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action, ActionSpec
from worldmodel.config import ConfigError, UserError, require_positive
from worldmodel.data_sources.action_mapping import ActionMapping
from worldmodel.data_sources.gym_actions import make_action_mapping
from worldmodel.data_sources.gym_state import StateReader, parse_paths, spec_of
from worldmodel.data_sources.rendering import Looks
from worldmodel.players import find_here
from worldmodel.state_spec import StateSpec
from worldmodel.storage.images import centre
from worldmodel.world import Frame

try:
    import gymnasium
except ImportError as error:
    raise UserError(
        "recording Gymnasium environments needs gymnasium, which is not installed: "
        "pip install -c constraints.txt '.[gym]'"
    ) from error

Fit = Literal["stretch", "crop", "pad"]
USUAL_RATE = 30.0  # frames per second, what Gymnasium takes where an environment names no rate


@dataclass(frozen=True, kw_only=True, slots=True)
class GymConfig:
    """Which environment, and how it is shown and played."""

    env: str  # "CartPole-v1", "my_module:MyGame-v0", or a class, "my_module:MyGame"
    arguments: dict[str, Any] = field(default_factory=dict)  # for `gymnasium.make`
    size: tuple[int, int] = (48, 64)  # rows, columns
    crop: tuple[int, int, int, int] | None = None  # left, top, width, height of the picture
    fit: Fit = "stretch"
    skip: int = 1  # steps of the environment that a frame takes
    rate: float | None = None  # steps per second; None: what the environment's metadata say
    keys: str | None = None  # as --keys says; None: the environment's own
    noop: str | None = None  # the action of no key at all; None: the environment's own, or 0
    through_ends: bool = False  # the next episode follows in the same recording
    state: dict[str, str] = field(default_factory=dict)  # name -> PATH[:KIND], as --state says

    def __post_init__(self) -> None:
        require_positive(self, "skip")
        spec_of(parse_paths(self.state))
        if min(self.size) < 1:
            raise ConfigError(f"size {self.size[1]} x {self.size[0]}: must be at least 1 x 1")
        if self.crop is not None and (min(self.crop) < 0 or min(self.crop[2:]) < 1):
            raise ConfigError(
                f"crop {list(self.crop)}: expected left, top, width, height in pixels"
            )
        if self.rate is not None and not 0 < self.rate <= 1000:
            raise ConfigError(f"rate = {self.rate}: must be above 0 and at most 1000")

    @property
    def name(self) -> str:
        """The environment's name as that of a file."""
        return self.env.rpartition(":")[2].replace("/", "-")


class GymGame:
    """One running environment, as a game that can be recorded."""

    draws_its_end = True

    def __init__(self, config: GymConfig, env: "gymnasium.Env[Any, Any]") -> None:
        self.config, self.env = config, env
        self.action_mapping: ActionMapping = make_action_mapping(env, config.keys, config.noop)
        self.name = config.name
        self.observation: Any = None  # what a policy looks at
        self._reader = StateReader(config.state, config.env)
        # What the environment says of itself in the frame that is shown; never written to again.
        self.state: NDArray[np.float32] = np.full(self._reader.spec.width, np.nan, np.float32)
        self._is_done = False
        self._looks = Looks(config.env)

    @property
    def actions(self) -> ActionSpec:
        """The keys and the mouse that stand for the environment's actions."""
        return self.action_mapping.spec

    @property
    def frames_per_second(self) -> float:
        """Frames of a recording in a second of the game."""
        rate = self.config.rate or self.env.metadata.get("render_fps") or USUAL_RATE
        return float(rate) / self.config.skip

    def reset(self, seed: int) -> Frame:
        """A new episode; everything random in it comes from the seed."""
        return self._begin(seed)

    def step(self, action: Action) -> Frame:
        """Hold an action for one frame; the last frame of an episode is a frame too."""
        if self._is_done:
            assert self.config.through_ends, "reset comes first"
            return self._begin(None)
        value, total = self.action_mapping.to_env(action), 0.0
        for _ in range(self.config.skip):
            self.observation, reward, terminated, truncated, info = self.env.step(value)
            total += float(reward)
            if terminated or truncated:
                self._is_done = True
                break
        self.state = self._reader.after_step(
            self.observation, info, total, is_terminated=bool(terminated)
        )
        return self._look()

    @property
    def state_spec(self) -> StateSpec:
        """What the numbers of `state` are; the ranges of what does not wrap are not known yet."""
        return self._reader.spec

    @property
    def is_over(self) -> bool:
        """Whether only `reset` can go on."""
        return self._is_done and not self.config.through_ends

    @property
    def identity(self) -> dict[str, Any]:
        """What recordings say about the environment that made the frames."""
        return {"world": f"gymnasium {self.config.env}", "gymnasium": gymnasium.__version__}

    def close(self) -> None:
        """End the environment and its window."""
        self.env.close()

    def __enter__(self) -> "GymGame":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, seed: int | None) -> Frame:
        """The next episode."""
        self.observation, info = self.env.reset(seed=seed)
        self._is_done = False
        self.state = self._reader.begin(self.observation, info)
        return self._look()

    def _look(self) -> Frame:
        picture = self._looks.picture(self.env.render())
        return fit_frame(self._crop(picture), self.config.size, self.config.fit)

    def _crop(self, picture: Frame) -> Frame:
        if self.config.crop is None:
            return picture
        left, top, width, height = self.config.crop
        rows, columns = picture.shape[:2]
        if left + width > columns or top + height > rows:
            raise UserError(
                f"--crop {left},{top},{width},{height} reaches beyond the picture of "
                f"{self.config.env}, which is {columns} x {rows}"
            )
        return picture[top : top + height, left : left + width]


def fit_frame(picture: Frame, size: tuple[int, int], fit: Fit) -> Frame:
    """A picture h w 3 as a frame of `size` (rows, columns), every pixel the mean of its area."""
    rows, columns = picture.shape[:2]
    if fit == "crop":
        picture = centre(picture, *size)
    if fit == "pad":
        share = min(size[0] / rows, size[1] / columns)
        inner = max(1, round(rows * share)), max(1, round(columns * share))
        frame = np.zeros((*size, 3), np.uint8)
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        frame[top : top + inner[0], left : left + inner[1]] = _resize(picture, inner)
        return frame
    return _resize(picture, size)


def _resize(picture: Frame, size: tuple[int, int]) -> Frame:
    small = cv2.resize(
        np.ascontiguousarray(picture), (size[1], size[0]), interpolation=cv2.INTER_AREA
    )
    return np.asarray(small, np.uint8)


def open_game(config: GymConfig) -> GymGame:
    """Make the environment; a `UserError` says what it lacks."""
    try:
        env = _make(config)
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise UserError(f"--env {config.env}: {_one_line(error)}") from error
    try:
        return GymGame(config, env)
    except UserError:
        env.close()
        raise


def _make(config: GymConfig) -> "gymnasium.Env[Any, Any]":
    """By its registered name, or MODULE:NAME of a class that nobody registered."""
    module, _, name = config.env.rpartition(":")
    own = None
    if module:
        find_here()
        own = vars(importlib.import_module(module)).get(name)
    modes = _render_modes(own or gymnasium.spec(name).entry_point)
    if modes is not None and "rgb_array" not in modes:
        raise UserError(
            f"{config.env} cannot draw itself into an array (its render modes are "
            f"{', '.join(modes) or 'none'}); recording needs rgb_array"
        )
    if own:
        made: gymnasium.Env[Any, Any] = own(render_mode="rgb_array", **config.arguments)
        return made
    return gymnasium.make(
        name, render_mode="rgb_array", disable_env_checker=True, **config.arguments
    )


def _render_modes(entry_point: Any) -> Sequence[str] | None:
    """What the class of an environment says it can draw; None where it cannot be told."""
    if isinstance(entry_point, str):
        module, _, name = entry_point.partition(":")
        entry_point = vars(importlib.import_module(module)).get(name)
    if not (isinstance(entry_point, type) and issubclass(entry_point, gymnasium.Env)):
        return None
    modes: Sequence[str] = entry_point.metadata.get("render_modes", [])
    return modes


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
