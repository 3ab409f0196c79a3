"""Several sessions of a native world as one batch of its engine, all as old as each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.action import Action
from worldmodel.engine import Playing, remember_seen
from worldmodel.world import Frame
from worldmodel.worlds.happenings import Recent, join_recent
from worldmodel.worlds.native import NativeWorld


class NativeBatch:
    """What an engine plays, and where the sessions' players are."""

    def __init__(self, world: NativeWorld, count: int) -> None:
        self.world, self.count = world, count
        self._playing: Playing | None = None
        self._where = world.whereabouts()

    def begin(self, starts: Sequence[int], seeds: Sequence[int]) -> Frame:
        """The last frame of every session's start, b h w 3."""
        assert len(starts) == len(seeds) == self.count, f"this batch has {self.count} sessions"
        self._playing = self.world.engine.begin(list(seeds))
        latents, conditions, states, recent = self._past(starts)
        self._playing.prime(latents, conditions)
        self._where.begin(states, recent, list(seeds))
        return self.world.engine.decode(latents[:, -1:].contiguous(), self._where.look())

    def step(self, actions: Sequence[Action]) -> Frame:
        """The next frame of every session, b h w 3."""
        assert self._playing is not None, "begin comes first"
        vectors = np.stack([self.world.actions.encode([action]) for action in actions])
        conditions, sight = self._where.step(torch.from_numpy(vectors).to(self.world.device))
        latents = self._playing.denoise(conditions)
        self._where.saw(latents)
        frames = self.world.engine.decode(latents, sight)
        remember_seen(self.world.engine, self._playing, sight)
        return frames

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """What the world knows of every session: by name, a number each; else nothing."""
        spec, states = self.world.state_spec, self._where.state
        if spec is None or states is None:
            return {}
        return dict(zip(spec.names, states.numpy().copy().T, strict=True))

    def _past(
        self, starts: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, Recent | None]:
        """What the sessions have seen before: latents b f c h w, conditions b f z, last states b v.

        And what events follow from, in a world whose numbers are predicted.

        As much as the world's shortest start has, so that a session does not depend on the others'.
        """
        every = [self.world.past(start) for start in range(len(self.world.starts))]
        length = min(past.latents.shape[1] for past in every)
        chosen = [every[start] for start in starts]
        states = [past.state for past in chosen if past.state is not None]
        return (
            torch.cat([past.latents[:, -length:] for past in chosen]),
            torch.cat([past.conditions[:, -length:] for past in chosen]),
            torch.cat(states) if states else None,
            join_recent([past.recent for past in chosen if past.recent is not None]),
        )
