"""`WorldEnv`: one learned world as a `gymnasium.Env`."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from worldmodel.config import ConfigError, UserError
from worldmodel.gym_env.action_space import Kind, WorldControls
from worldmodel.system.paths import Pathlike
from worldmodel.world import Frame, HasState, World, step
from worldmodel.worlds.find import find_world, open_world, read_any_world
from worldmodel.worlds.fork_guard import ForkedError
from worldmodel.worlds.run_settings import RunSettings

if TYPE_CHECKING:
    from worldmodel.game.window import Window

METADATA: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 30}
REWARD, ENDS = "reward", ("terminated", "dead")  # numbers of a state that say so
LARGEST_SEED = 2**31  # of a session's noise


class WorldEnv(gymnasium.Env[Frame, Any]):
    """A world to act in: frames are observations.

    Rewards and ends are those that the world has learned: its state's `reward`, and `terminated` or
    `dead`. Where a world has no such numbers, or does not predict them (NaN in `info["state"]`),
    rewards are 0 and episodes end by length alone.

    `world`: a name, a folder, or one that is loaded already. `max_frames`: length of an episode,
    None for no end. `actions`: "keys" or "mouse" (`worldmodel.gym_env.action_space`). What else is
    given says how to run the world: steps, device, dtype, engine, threads, start (`RunSettings`).

    `reset(options={"start": 2})` begins at a certain start; else the seed chooses one.
    """

    metadata = METADATA

    def __init__(
        self,
        world: Pathlike | World | None = None,
        *,
        max_frames: int | None = 1000,
        actions: Kind = "keys",
        turn_degrees: float = 6.0,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        check_frames(max_frames)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode = {render_mode!r}: choose rgb_array, human or None")
        self.world = load_world(world, settings)
        self.controls = WorldControls(self.world.actions, actions, turn_degrees)
        self.max_frames, self.render_mode = max_frames, render_mode
        rate = self.world.frames_per_second
        self.metadata = {**METADATA, "render_fps": max(1, round(rate))}
        self.observation_space = frame_space(self.world.frame_size)
        self.action_space = self.controls.space
        self._frame: Frame | None = None
        self._count = 0
        self._window: Window | None = None
        self._due = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Frame, dict[str, Any]]:
        """Begin again; start and noise come from the seed, or go on from the last one."""
        super().reset(seed=seed)
        start, noise = draw_start(self.np_random, self.world.starts, options)
        self._frame, self._count = self.world.reset(start, noise), 0
        self._show()
        info = {"start": start, "caption": self.world.starts[start], **state_info(self.world)}
        return self._frame.copy(), info

    def step(self, action: Any) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """Play one frame; the answer is what `gymnasium.Env.step` says."""
        assert self._frame is not None, "reset comes first"
        self._frame = step(self.world, self.controls.action(action))
        self._count += 1
        self._show()
        is_over = self.max_frames is not None and self._count >= self.max_frames
        info = state_info(self.world)
        state = info.get("state", {})
        ended = any(state.get(name, 0.0) > 0.5 for name in ENDS)
        reward = float(np.nan_to_num(state.get(REWARD, 0.0)))
        return self._frame.copy(), reward, ended, is_over, info

    def render(self) -> Frame | None:
        """The last frame; in `human` mode it has been shown already."""
        if self.render_mode != "rgb_array" or self._frame is None:
            return None
        return self._frame.copy()

    def get_keys_to_action(self) -> dict[tuple[int, ...], NDArray[np.int8]]:
        """What a person's keys mean: `gymnasium.utils.play.play(env)` asks for it."""
        return self.controls.keys_to_action()

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window:
            self._window.__exit__()
            self._window = None

    def _show(self) -> None:
        """In `human` mode, a window at the world's own rate."""
        if self.render_mode != "human" or self._frame is None:
            return
        if self._window is None:
            from worldmodel.game.window import Window  # pygame only where somebody looks

            self._window = Window(self.world.name)
            self._window.overlay.shows_numbers = False
            self._window.overlay.caption = ""
            self._window.fit(self.world.frame_size, None)
        self._window.events(0.0)
        now = time.perf_counter()
        time.sleep(max(0.0, self._due - now))
        self._due = max(self._due, now) + 1 / self.world.frames_per_second
        self._window.show(self._frame)


class ForkedWorld:
    """A world in a process that must not compute: its spaces, and why it does not begin.

    Gymnasium's workers pass on what `reset` raises; what their constructors raise ends in an
    EOFError.
    """

    def __init__(self, folder: Path, error: ForkedError) -> None:
        file = read_any_world(folder)
        self.name, self.actions = file.name, file.actions
        self.frames_per_second = file.frames_per_second
        self._error = error
        self.frame_size, self.starts = file.frame_size, file.captions

    def reset(self, start: int, seed: int) -> Frame:
        """Always a `ForkedError`, which says why the world cannot be loaded here."""
        del start, seed
        raise self._error


def load_world(world: "Pathlike | World | None", settings: dict[str, Any]) -> World:
    """The world that a constructor was given, loaded."""
    if world is not None and not isinstance(world, str | os.PathLike):
        if settings:
            raise ConfigError(f"{', '.join(settings)}: the world is loaded already")
        return world
    try:
        return open_world(world, RunSettings(**settings))
    except ForkedError as error:
        return cast(World, ForkedWorld(find_world(world), error))  # nothing but `reset` is called


def state_info(world: World) -> dict[str, Any]:
    """What a world knows of itself, by name, as an `info` holds it; empty if it knows nothing."""
    if not isinstance(world, HasState) or world.state_spec is None or world.state is None:
        return {}
    return {"state": dict(zip(world.state_spec.names, world.state.tolist(), strict=True))}


def frame_space(size: tuple[int, int]) -> "spaces.Space[Frame]":
    """Frames of a size (rows, columns)."""
    return cast("spaces.Space[Frame]", spaces.Box(0, 255, (*size, 3), np.uint8))


def draw_start(
    rng: np.random.Generator, starts: Any, options: dict[str, Any] | None
) -> tuple[int, int]:
    """Number of a start, and the seed of the noise that follows; `options` may name the start."""
    drawn, noise = int(rng.integers(len(starts))), int(rng.integers(LARGEST_SEED))
    start = (options or {}).get("start", drawn)
    if unknown := sorted((options or {}).keys() - {"start"}):
        raise UserError(f"options: unknown key {unknown[0]!r}; there is only 'start'")
    if not isinstance(start, int | np.integer) or not 0 <= start < len(starts):
        raise UserError(f"options: start = {start!r}: choose from 0 to {len(starts) - 1}")
    return int(start), noise


def check_frames(max_frames: int | None) -> None:
    """Refuse an episode without frames."""
    if max_frames is not None and max_frames < 1:
        raise ConfigError(f"max_frames = {max_frames}: must be at least 1, or None for no end")
