"""`WorldVectorEnv`: many sessions of one world, computed as one batch.

All of them are as old as each other: episodes end by length alone, so they end together, and in the
step after that all begin again (`AutoresetMode.NEXT_STEP`). A session whose world has learned that
it ends says so in `terminated`, and goes on with the others as the world has learned it goes on.
"""

from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from worldmodel.config import ConfigError, UserError
from worldmodel.gym_env.action_space import Kind, WorldControls
from worldmodel.gym_env.world_env import (
    ENDS,
    REWARD,
    check_frames,
    draw_start,
    frame_space,
    load_world,
)
from worldmodel.system.paths import Pathlike
from worldmodel.world import Frame, World
from worldmodel.worlds.find import open_batch
from worldmodel.worlds.fork_guard import refuse_fork

METADATA: dict[str, Any] = {
    "render_modes": ["rgb_array"],
    "render_fps": 30,
    "autoreset_mode": AutoresetMode.NEXT_STEP,
}
Flags = NDArray[np.bool_]
Rewards = NDArray[np.float64]


class WorldVectorEnv(VectorEnv[Frame, Any, Any]):
    """`num_envs` times `WorldEnv`; session i with seed s + i is a `WorldEnv` with that seed.

    Frames then are the same but for the rounding of another batch size.
    """

    metadata = METADATA

    def __init__(
        self,
        num_envs: int = 1,
        world: Pathlike | World | None = None,
        *,
        max_frames: int | None = 1000,
        actions: Kind = "keys",
        turn_degrees: float = 6.0,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        check_frames(max_frames)
        if num_envs < 1:
            raise ConfigError(f"num_envs = {num_envs}: must be at least 1")
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode = {render_mode!r}: choose rgb_array or None")
        refuse_fork()
        loaded = load_world(world, settings)
        self._batch = open_batch(loaded, num_envs)
        self.world, self.num_envs, self.max_frames = loaded, num_envs, max_frames
        self.controls = WorldControls(loaded.actions, actions, turn_degrees)
        self.render_mode = render_mode
        rate = max(1, round(loaded.frames_per_second))
        self.metadata = {**METADATA, "render_fps": rate}
        self.single_observation_space = frame_space(loaded.frame_size)
        self.single_action_space = self.controls.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._random = [seeding.np_random()[0] for _ in range(num_envs)]
        self._frames = np.zeros((num_envs, *loaded.frame_size, 3), np.uint8)
        self._count = 0
        self._is_over = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Frame, dict[str, Any]]:
        """Begin all sessions; seeds are counted on from `seed`, or given one by one."""
        if options and "reset_mask" in options:
            raise UserError("all sessions of a batch begin together: reset_mask is not possible")
        super().reset(seed=seed if isinstance(seed, int) else None)
        if seed is not None:
            self._random = self._generators(seed)
        drawn = [draw_start(rng, self.world.starts, options) for rng in self._random]
        starts = [start for start, _ in drawn]
        self._frames = self._batch.begin(starts, [noise for _, noise in drawn])
        self._count, self._is_over = 0, False
        info = {"start": np.asarray(starts), "_start": np.ones(self.num_envs, np.bool_)}
        info |= self._state_info()
        return self._frames.copy(), info

    def step(self, actions: Any) -> tuple[Frame, Rewards, Flags, Flags, dict[str, Any]]:
        """One frame on in every session; after the last one, all begin again."""
        rewards, flags = np.zeros(self.num_envs), np.zeros(self.num_envs, np.bool_)
        if self._is_over:
            frames, info = self.reset()
            return frames, rewards, flags, flags.copy(), info
        known = [self.controls.action(value) for value in iterate(self.action_space, actions)]
        self._frames = self._batch.step(known)
        self._count += 1
        self._is_over = self.max_frames is not None and self._count >= self.max_frames
        info = self._state_info()
        numbers = info.get("state", {})
        for name in ENDS:
            flags |= numbers.get(name, flags) > 0.5
        rewards += np.nan_to_num(numbers.get(REWARD, 0.0))
        truncated = np.full_like(flags, self._is_over)
        return self._frames.copy(), rewards, flags, truncated, info

    def _state_info(self) -> dict[str, Any]:
        """What the world knows of every session, each number as an array b; else nothing."""
        state = self._batch.state
        return {"state": state, "_state": np.ones(self.num_envs, np.bool_)} if state else {}

    def render(self) -> tuple[Frame, ...] | None:
        """The last frame of every session."""
        return tuple(self._frames.copy()) if self.render_mode == "rgb_array" else None

    def _generators(self, seed: int | list[int | None]) -> list[np.random.Generator]:
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if len(seeds) != self.num_envs:
            raise UserError(f"{len(seeds)} seeds for {self.num_envs} sessions")
        return [
            before if one is None else seeding.np_random(one)[0]
            for before, one in zip(self._random, seeds, strict=True)
        ]
