"""What the players of a world are given of themselves: their states, what is seen from there.

    where = PlaceTracker(engine, motion, plan)
    where.begin(states)                        # as the start's clip ends
    conditions, sight = where.step(actions)    # moves everybody on
    latents = playing.denoise(conditions)
    where.saw(latents)
    frame = engine.decode(latents, sight)

In a world without state, a condition is the action alone. In one that knows its place, the rays of
the view stand before it, and there is a sight; in one whose numbers are predicted (`happenings`),
what the transformer is given of them. What changes in the game and nothing here predicts, a reward
or armour, is NaN after the start: not known.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.engine import Engine
from worldmodel.model.configs import ModelConfig
from worldmodel.model.events import Events, Recent
from worldmodel.model.floor_plan import Sight, seen_rays
from worldmodel.model.motion import Motion
from worldmodel.model.scene import scene_views
from worldmodel.model.state_configs import FloorPlanConfig, SceneConfig
from worldmodel.model.state_numbers import encode_state
from worldmodel.world import StateError
from worldmodel.worlds.happenings import NAMES, Happenings

STATE = "place"  # under which the numbers are kept in a saved state
KEPT = (STATE, *NAMES)  # everything that is


class PlaceTracker:
    """The states of a batch of players, moved on with their actions."""

    def __init__(
        self,
        engine: Engine,
        motion: Motion | None,
        view: FloorPlanConfig | SceneConfig | None,
        events: Events | None = None,
        model: ModelConfig | None = None,
    ) -> None:
        self.engine, self.motion = engine, motion
        self.scene = view if isinstance(view, SceneConfig) else None
        self.model = (
            model if model is not None and model.is_conditioned_on_state else None
        )  # that is given numbers
        self.happenings = None if events is None else Happenings(events)
        # Columns whose rays a model is given.
        self._seen = seen_rays(view) if isinstance(view, FloorPlanConfig) else None
        self.kept = KEPT if events is not None else (STATE,)  # its names in a saved state
        self.state: Tensor | None = None  # b v, fp32, on the CPU

    def begin(
        self, states: Tensor | None, recent: Recent | None = None, seeds: Sequence[int] = ()
    ) -> None:
        """Players stand where the states b v say; none in a world without state.

        Where numbers are predicted: what they have seen last, and their seeds.
        """
        self.state = None if states is None else states.float().cpu()
        if self.happenings is not None:
            assert recent is not None, "numbers follow from the last frames"
            self.happenings.begin(recent, seeds)

    def step(self, actions: Tensor) -> tuple[Tensor, Sight | None]:
        """Everybody does b 1 (k+2): the conditions b 1 z of the next frame, and what is seen."""
        if self.state is None:
            return actions, None
        done = actions[:, 0].float().cpu()
        with torch.inference_mode():
            state = self.state if self.motion is None else self.motion(self.state, done)
            if self.happenings is not None:
                state = self.happenings.step(state, done)
            elif self.motion is not None:
                state[:, self.motion.unpredicted] = torch.nan  # the start's would be no news
            self.state = state
        conditions = actions
        if self.model is not None and self.happenings is not None:
            facts = encode_state(self.model, self.happenings.events.spec.names, self.state)[:, None]
            conditions = torch.cat((facts.to(actions), conditions), dim=-1)
        sight = self.look()
        if sight is not None and self._seen is not None:
            rays = sight.rays[:, self._seen].flatten(1)[:, None]
            conditions = torch.cat((rays.to(actions), conditions), dim=-1)
        return conditions, sight

    def saw(self, latents: Tensor) -> None:
        """How the frame looks that the last step led to: latents b 1 c h w."""
        if self.happenings is not None:
            self.happenings.saw(latents[:, -1])

    def look(self) -> Sight | None:
        """What is seen from where everybody is, in a world with a floor plan or a scene."""
        if self.state is None:
            return None
        if self.scene is not None and self.happenings is not None:
            names = self.happenings.events.spec.names
            return self.engine.look(scene_views(self.scene, names, self.state))
        return None if self.motion is None else self.engine.look(self.motion.views(self.state))

    def save(self) -> dict[str, NDArray[Any]]:
        """The states, by name, for a saved state."""
        if self.state is None:
            return {}
        happened = {} if self.happenings is None else self.happenings.save()
        return {STATE: self.state.numpy().copy(), **happened}

    def read(self, array: NDArray[np.float32] | None, players: int, numbers: int) -> Tensor | None:
        """What `save` gave, as `begin` takes it; a `StateError` if it is none of this world's."""
        if self.motion is None and self.happenings is None:
            if array is not None:
                raise StateError("it knows a place, and this world has none")
            return None
        expected = (players, numbers)
        if array is None or array.shape != expected or array.dtype != np.float32:
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise StateError(f"{STATE} is {found}, this world needs float32 {list(expected)}")
        needed = [] if self.motion is None else list(self.motion.roles.view)
        if self.scene is not None and self.happenings is not None:
            spec = self.happenings.events.spec
            needed += [spec.index(name) for name in self.scene.objects.viewer]
        if not np.isfinite(array[:, needed]).all():
            raise StateError(f"{STATE} holds values that are not numbers")
        return torch.from_numpy(np.array(array))

    def check(self, saved: Mapping[str, NDArray[Any]], players: int) -> None:
        """Refuse what was saved of the last frames if it is none of this world's."""
        if self.happenings is not None:
            self.happenings.check(saved, players)

    def load(self, state: Tensor | None, saved: Mapping[str, NDArray[Any]], players: int) -> None:
        """Go on from a state that `read` and `check` have found to fit."""
        self.state = state
        if self.happenings is not None:
            self.happenings.load(saved, players)
