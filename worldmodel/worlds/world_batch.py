"""Several players of one world, played a frame at a time.

    batch = WorldBatch(world, players=8)
    mine, other = batch.join(), batch.join()      # a `World` each: reset, save, load as ever
    mine.reset(start=0, seed=1); other.reset(start=2, seed=5)
    frames = batch.generate([mine, other], [action, action])   # a fault stands for a frame
    mine.remember(); other.remember()

Where the engine can (`engine.rows`) they are rows of one batch, else they are played one after the
other, and `how` says why. Either way each sees what it would see alone.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from torch import Tensor

from worldmodel.action import Action
from worldmodel.engine import EngineError
from worldmodel.engine.rows import BatchedEngine, RowEngine
from worldmodel.engine.static_rollout import StaticRollout
from worldmodel.model.floor_plan import Sight
from worldmodel.world import Frame, Split, World
from worldmodel.worlds.native import NativeWorld

T = TypeVar("T")
Answer = Frame | Exception  # what is shown, or why there is nothing


class WorldBatch:
    """The players of one world; used from one thread."""

    def __init__(self, world: World, players: int) -> None:
        self.world, self._engine = world, None
        self._shared = world if isinstance(world, NativeWorld) else None
        self.capacity = players if self._shared else 1
        if not self._shared:
            self.how = f"one player: sessions of {world.name} cannot share a batch"
        elif players == 1:
            self.how = "one player"
        else:
            self._engine, self.how = _batched(self._shared, players)

    def join(self) -> World:
        """One more player; beyond `capacity` a `ValueError` comes with its `reset`."""
        return self._shared.another(self._engine) if self._shared else self.world

    def generate(self, worlds: Sequence[World], actions: Sequence[Action]) -> list[Answer]:
        """The next frame of each; `remember` comes next for all that have one."""
        if self._engine is None or len(worlds) < 2:
            pairs = zip(worlds, actions, strict=True)
            return [_attempt(partial(world.generate, action)) for world, action in pairs]
        answers = [
            _attempt(partial(_make_ready, world, action))
            for world, action in zip(worlds, actions, strict=True)
        ]
        shown = iter(_draw(self._engine, [row for row in answers if isinstance(row, _Ready)]))
        return [next(shown) if isinstance(row, _Ready) else row for row in answers]

    def release(self, world: World) -> None:
        """Free the row of a player who has left."""
        if isinstance(world, NativeWorld):
            world.release()


def _batched(world: NativeWorld, players: int) -> tuple[BatchedEngine | None, str]:
    """An engine of rows, if this world's can make one, and what to say of it."""
    engine = world.engine
    if not isinstance(engine, RowEngine):
        return None, f"one after the other: the engine {engine.name} plays no rows of a batch"
    try:
        return BatchedEngine(engine, engine.rows(players)), "rows of one batch"
    except EngineError as error:
        return None, f"one after the other: {error}"


@dataclass(frozen=True, slots=True)
class _Ready:
    """A player whose row is filled."""

    world: NativeWorld
    sight: Sight | None

    def show(self, latent: Tensor, frame: Frame, split: Split) -> Frame:
        """What the last run has drawn, and its frame, which took so long."""
        self.world.saw(latent, self.sight, split)
        return frame


def _make_ready(world: World, action: Action) -> _Ready:
    """Fill a player's row; what is seen, which the next look would overwrite, as a copy."""
    assert isinstance(world, NativeWorld), "every player joined this batch"
    condition, sight = world.condition(action)
    _rollout(world).ready(condition)
    return _Ready(world, Sight(sight.rays, sight.pixels.clone()) if sight else None)


def _draw(engine: BatchedEngine, ready: Sequence[_Ready]) -> list[Answer]:
    """The next frames of players whose rows are filled."""
    if not ready:
        return []
    began = time.perf_counter()
    playing = [_rollout(row.world) for row in ready]
    engine.run(playing)
    latents = [rollout.take() for rollout in playing]
    drawn = time.perf_counter()
    frames = engine.decode_all(latents, [row.sight for row in ready])
    decoded = time.perf_counter()
    split = Split(*(1000 * took / len(ready) for took in (drawn - began, decoded - drawn)))
    return [
        _attempt(partial(row.show, latent, frame, split))
        for row, latent, frame in zip(ready, latents, frames, strict=True)
    ]


def _attempt(do: Callable[[], T]) -> T | Exception:
    try:
        return do()
    except Exception as error:  # noqa: BLE001  # others play on, whatever broke in one
        return error


def _rollout(world: NativeWorld) -> StaticRollout:
    assert isinstance(world.playing, StaticRollout), "a row is played by a static rollout"
    return world.playing
