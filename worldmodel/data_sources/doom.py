"""Doom as ViZDoom runs it with the free Freedoom art: a game to learn from and measure against.

One step is one `Action` and `tics_per_frame` tics of the game (35 a second). Frames are rendered
large and averaged down, so that even a 64x48 frame is smooth. The game is a function of its seed
and the actions.

    game = Doom(DoomConfig())
    frame = game.reset(seed=7)             # uint8 h w 3
    frame = game.step(Action(frozenset({"KeyW"}), (3.0, 0.0)))
    game.state[game.state_spec.index("health")]    # of the frame that is shown
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action, ActionSpec
from worldmodel.config import ConfigError, UserError, build_config
from worldmodel.data_sources.doom_objects import ObjectSlots
from worldmodel.data_sources.doom_process import EnginePlace, check_shared_memory
from worldmodel.data_sources.doom_state import SPEC, VARIABLES, at_the_end, to_state
from worldmodel.state_spec import StateSpec
from worldmodel.system.printable import shown

if TYPE_CHECKING:
    import vizdoom

# Key -> what it does, for people, and what the engine calls it. The mouse always turns.
KEYS = {
    "KeyW": ("forward", "MOVE_FORWARD"),
    "KeyS": ("back", "MOVE_BACKWARD"),
    "KeyA": ("strafe left", "MOVE_LEFT"),
    "KeyD": ("strafe right", "MOVE_RIGHT"),
    "Mouse0": ("shoot", "ATTACK"),
}
MONSTERS = {
    "Demon", "DoomImp", "ZombieMan", "ShotgunGuy", "ChaingunGuy", "HellKnight", "MarineChainsawVzd",
}  # fmt: skip
TICS_PER_SECOND = 35
SPAWN_TICS = 14  # the level holds a player still for as long after the spawn
DEAD_FRAMES = 6  # that a death is shown before the next life, with `restart`


@dataclass(frozen=True, kw_only=True, slots=True)
class DoomConfig:
    """Which level, and how it is shown."""

    level: str = "my_way_home"
    frame_height: int = 48
    frame_width: int = 64
    tics_per_frame: int = 2
    keys: tuple[str, ...] = ("KeyW", "KeyS", "KeyA", "KeyD")
    weapon: bool = False  # whether the player sees it
    hud: bool = False  # the game's own status bar: ammunition, health
    restart: bool = False  # whether the level begins anew after a death, in the same episode
    objects: dict[str, int] = field(default_factory=dict)  # names in the engine: how many are told
    player: Literal["explorer", "gunner"] = "explorer"  # who plays while it is recorded

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.keys) - KEYS.keys()):
            raise ConfigError(f"keys: no {unknown[0]!r} here; choose from {', '.join(KEYS)}")
        if not all(1 <= count <= 24 for count in self.objects.values()):
            raise ConfigError(f"objects: expected 1 to 24 of each, found {shown(self.objects)}")
        if len({name.lower() for name in self.objects}) < len(self.objects):
            raise ConfigError(f"objects: the same name twice in {', '.join(self.objects)}")

    @property
    def actions(self) -> ActionSpec:
        """The keys and the mouse that the level understands."""
        return ActionSpec(
            buttons=self.keys,
            names=tuple(KEYS[key][0] for key in self.keys),
            mouse_degrees=8.0,
            max_mouse_degrees=20.0,
        )

    @property
    def frames_per_second(self) -> float:
        """Frames per second of game time."""
        return TICS_PER_SECOND / self.tics_per_frame


ACTIONS = DoomConfig().actions


def config_of(source: Mapping[str, Any]) -> DoomConfig:
    """The game that a world's file names in its table [game]."""
    return build_config(DoomConfig, dict(source), "world.toml: game")


class Doom:
    """One running game; `step` before `reset`, or when it is over, is the caller's mistake."""

    draws_its_end = False  # the engine shows nothing more once an episode has ended

    def __init__(self, config: DoomConfig) -> None:
        self.config, self.actions, self.name = config, config.actions, config.level
        self.frames_per_second = config.frames_per_second
        # What the game knows of itself in the frame that is shown; never written to again.
        self._objects = ObjectSlots(config.objects)
        self.state_spec = StateSpec({**SPEC.numbers, **self._objects.numbers})
        self.state: NDArray[np.float32] = np.full(self.state_spec.width, np.nan, np.float32)
        self._dead_frames = 0  # that were shown since the last death
        check_shared_memory()
        self._place = EnginePlace()
        try:
            self._game = _start_engine(config, self._place)
        except BaseException:
            self._place.remove()
            raise

    def reset(self, seed: int) -> NDArray[np.uint8]:
        """Start an episode; the seed decides the spawn point and everything random after it."""
        self._game.set_seed(seed)
        return self._begin()

    def step(self, action: Action) -> NDArray[np.uint8]:
        """Hold `action` for one frame; returns the frame it led to.

        With `restart`, the last frame of a life stays for `DEAD_FRAMES` frames; then the level
        begins anew, its chances drawn on from the same seed.
        """
        if self._ends_life:
            if self._dead_frames == DEAD_FRAMES:
                return self._begin()
            self._dead_frames += 1
            return self.frame
        known = self.actions.known(action)
        tics = self.config.tics_per_frame
        held = [float(button in known.buttons) for button in self.actions.buttons]
        # The delta button turns by so many degrees in every tic, right positive.
        with _alive():
            self._game.make_action([*held, known.mouse[0] / tics], tics)
        if not self._game.is_episode_finished():
            return self._look()
        self.state = at_the_end(self.state, is_dead=self._game.is_player_dead())
        self._dead_frames = 1
        return self.frame

    @property
    def is_over(self) -> bool:
        """Whether the episode has ended, for instance at the level's exit."""
        return bool(self._game.is_episode_finished()) and not self._ends_life

    @property
    def has_died(self) -> bool:
        """Whether the player's death has ended it."""
        return bool(self._game.is_player_dead())

    @property
    def depth(self) -> NDArray[np.uint8]:
        """Distance of every pixel, the engine's own units; h w of the engine's picture."""
        return self._depth

    @property
    def position(self) -> tuple[float, float, float]:
        """x, y in map units and the view's angle in degrees, left positive."""
        return self._position

    @property
    def monsters(self) -> list[tuple[float, float]]:
        """x, y of those alive, for a player who aims; nobody else is told."""
        return self._monsters

    def close(self) -> None:
        """End the engine's process."""
        self._game.close()
        self._place.remove()

    def __enter__(self) -> "Doom":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _ends_life(self) -> bool:
        """Whether the player is dead and will live again."""
        return self.config.restart and bool(self._game.is_player_dead())

    def _begin(self) -> NDArray[np.uint8]:
        self._dead_frames = 0
        self._objects.forget()
        with _alive():
            self._game.new_episode()
        return self._look()

    def _look(self) -> NDArray[np.uint8]:
        state = self._game.get_state()
        size = (self.config.frame_width, self.config.frame_height)
        frame = cv2.resize(state.screen_buffer, size, interpolation=cv2.INTER_AREA)
        self.frame: NDArray[np.uint8] = np.asarray(frame, np.uint8)
        depth, variables = state.depth_buffer, state.game_variables
        assert depth is not None, "the depth buffer is enabled"
        assert variables is not None, "some variables are asked for"
        self._depth: NDArray[np.uint8] = depth
        x, y, _, angle = variables[:4]
        self._position = (float(x), float(y), float(angle))
        objects = state.objects or ()
        placed = self._objects.see(objects)
        self.state = np.concatenate((to_state(variables, state.tic), placed))
        self._monsters = [(o.position_x, o.position_y) for o in objects if o.name in MONSTERS]
        return self.frame


def open_game(source: Mapping[str, Any]) -> Doom:
    """Start the game that a world's file names in its table [game]."""
    return Doom(config_of(source))


@contextlib.contextmanager
def _alive() -> Iterator[None]:
    """A `UserError` where the engine has ended by itself, or was killed for want of memory."""
    import vizdoom

    ended = (vizdoom.ViZDoomErrorException, vizdoom.ViZDoomUnexpectedExitException)
    try:
        yield
    except ended as error:
        raise UserError(
            "the real game's engine has ended in the middle of an episode (was it killed, for "
            "want of memory?); the episodes before it are kept"
        ) from error


def _start_engine(config: DoomConfig, place: EnginePlace) -> "vizdoom.DoomGame":
    try:
        import vizdoom
    except ImportError as error:
        raise UserError(
            "the real game needs ViZDoom, which is not installed: "
            "pip install -c constraints.txt '.[doom]'"
        ) from error
    scenario = Path(vizdoom.scenarios_path) / f"{config.level}.wad"
    if not scenario.exists():
        levels = sorted(path.stem for path in scenario.parent.glob("*.wad"))
        raise UserError(f"unknown level {config.level!r}; ViZDoom has {', '.join(levels)}")
    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(Path(vizdoom.__file__).parent / "freedoom2.wad"))
    game.set_doom_scenario_path(str(scenario))
    game.set_doom_map("map01")
    game.set_doom_config_path(str(place.settings))
    if launcher := place.launcher(Path(vizdoom.__file__).parent / "vizdoom"):
        game.set_vizdoom_path(str(launcher))
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_320X240)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_depth_buffer_enabled(True)
    for hide in (
        game.set_render_crosshair,
        game.set_render_decals,
        game.set_render_particles,
        game.set_render_messages,
        game.set_sound_enabled,
        game.set_window_visible,
    ):
        hide(False)  # noqa: FBT003  # the engine's setters take no keyword
    game.set_render_hud(config.hud)
    game.set_render_weapon(config.weapon)
    game.set_objects_info_enabled(config.player == "gunner" or bool(config.objects))
    buttons = [*(KEYS[key][1] for key in config.keys), "TURN_LEFT_RIGHT_DELTA"]
    game.set_available_buttons([getattr(vizdoom.Button, name) for name in buttons])
    game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in VARIABLES])
    game.set_episode_timeout(0)
    game.set_episode_start_time(SPAWN_TICS)
    game.set_mode(vizdoom.Mode.PLAYER)
    refused = (
        vizdoom.ViZDoomErrorException,
        vizdoom.ViZDoomUnexpectedExitException,
        vizdoom.SharedMemoryException,
        vizdoom.MessageQueueException,
        vizdoom.FileDoesNotExistException,
    )
    try:
        game.init()
    except refused as error:
        raise UserError(f"the real game does not start: {' '.join(str(error).split())}") from error
    return game
