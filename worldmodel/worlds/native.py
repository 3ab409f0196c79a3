"""The native backend: our transformer, cache and autoencoder behind the `World` role.

    world = NativeWorld.load(folder, Settings())
    frame = world.reset(start=0, seed=0)
    frame = world.generate(action); world.remember()

One action gives one frame: its conditioning tokens, a few denoising steps against the KV cache,
the decoder. All of it is used from one thread at a time.
"""

import copy
import hashlib
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.engine import Engine, Playing, remember_seen
from worldmodel.engine.choose import Chosen, choose_engine
from worldmodel.engine.saved_state import load_playing, save_playing
from worldmodel.engine.static_cache import is_finite
from worldmodel.model.autoencoder import channels_last
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.floor_plan import Sight
from worldmodel.reference.game import Origin
from worldmodel.reference.trajectory import ENDING as TRAJECTORY_ENDING
from worldmodel.schedule import sigma_grid
from worldmodel.state_spec import FULL_TURN, StateSpec
from worldmodel.storage.checkpoint import broken_weight
from worldmodel.system.printable import counted
from worldmodel.world import Frame, Level, SavedState, Split, Spot, WorldFaultError
from worldmodel.worlds.context_frames import ContextEncoder, ContextFrames
from worldmodel.worlds.devices import choose_device
from worldmodel.worlds.engine_candidates import engine_candidates
from worldmodel.worlds.fork_guard import refuse_fork
from worldmodel.worlds.identity import check_same_world
from worldmodel.worlds.networks import Networks, check_networks, load_networks
from worldmodel.worlds.place_tracker import STATE as PLACE
from worldmodel.worlds.place_tracker import PlaceTracker
from worldmodel.worlds.run_settings import RunSettings, usual_threads
from worldmodel.worlds.starts import Start, load_starts, origin_of
from worldmodel.worlds.world_folder import (
    AUTOENCODER,
    TRANSFORMER,
    WorldFile,
    check_cache,
    check_weights,
    read_world_file,
)

LONGEST_WARM_UP = 64  # frames


class NativeWorld:
    """A loaded world. What changes in play: its rollout, where the player is, the last sight."""

    def __init__(
        self,
        file: WorldFile,
        networks: Networks,
        starts: Sequence[Start],
        sampler: SamplerConfig,
        chosen: Chosen,
        device: torch.device,
    ) -> None:
        self.file, self.device = file, device
        # In fp32, for reference.
        self.transformer, self.autoencoder = networks.transformer, networks.autoencoder
        self.engine, self.why = chosen.engine, chosen.why
        self.threads = chosen.engine.threads
        self.name, self.actions = file.name, file.actions
        self.frames_per_second = file.frames_per_second
        self.frame_size = (file.autoencoder.frame_height, file.autoencoder.frame_width)
        self.starts = [start.caption for start in starts]
        self._trajectories = [start.trajectory for start in starts]
        self.sampler = sampler
        motion, events = networks.motion, networks.events
        self.motion, self.events = motion, events  # in fp32, on the CPU, whatever engine plays
        self.where = self.whereabouts()
        models = (self.autoencoder, motion, events)
        self._encoder = ContextEncoder(file, *models, self.actions, device)
        self._pasts = [self._encoder.encode(start.clip) for start in starts]
        self._primed: dict[int, dict[str, NDArray[Any]]] = {}  # what a start's past leaves
        self._split = Split()
        self._rollout: Playing | None = None
        self._sight: Sight | None = None  # of the frame that is shown, for a `view_pull`
        self._identity = self.identity  # one for all states

    @classmethod
    def load(cls, folder: Path, settings: RunSettings) -> "NativeWorld":
        """Read a world's folder; errors name the file, what was found and what was expected."""
        refuse_fork()  # even looking at the weights would wait for ever
        file = read_world_file(folder)
        check_weights(folder, file)
        check_networks(folder, file)
        check_cache(file.transformer.cache_bytes, folder / TRANSFORMER, folder / AUTOENCODER)
        networks = load_networks(folder, file)
        starts = load_starts(folder, file, settings.start)
        return cls.of(file, networks, starts, settings)

    @classmethod
    def of(
        cls, file: WorldFile, networks: Networks, starts: Sequence[Start], settings: RunSettings
    ) -> "NativeWorld":
        """A world from its parts, on the engine that suits this machine."""
        refuse_fork()
        torch.set_num_threads(settings.threads or usual_threads())
        device = choose_device(settings.device)
        transformer, autoencoder = networks.transformer, networks.autoencoder
        for model in (transformer, autoencoder, networks.motion, networks.events):
            if model is not None:
                model.requires_grad_(requires_grad=False).eval()
        channels_last(autoencoder.to(device))
        sampler = file.sampler
        if settings.steps and settings.steps != sampler.steps:
            grid = tuple(sigma_grid(settings.steps).tolist())
            sampler = replace(sampler, sigmas=grid, first_sigmas=())
        key = f"{file.sha256[TRANSFORMER]} {file.sha256[AUTOENCODER]} {sampler}"
        candidates = engine_candidates(transformer, autoencoder, sampler, settings, device, key)
        chosen = choose_engine(candidates, file.transformer, key, file.autoencoder.view)
        torch.set_num_threads(chosen.engine.threads)
        world = cls(file, networks, starts, sampler, chosen, device)
        world.warm_up()
        return world

    def reset(self, start: int, seed: int) -> Frame:
        """Begin at a start: its clip becomes the past, its last frame is what is seen."""
        start %= len(self._pasts)
        past = self._pasts[start]
        self._begin(past, seed, start)
        return self._look_back(past, seed)

    def stand(self, spot: Spot, seed: int) -> Frame:
        """Begin anywhere: all of the past is spent there, standing still."""
        level = self.level
        if level is None or self.motion is None:
            raise UserError(f"{self.name} does not know places: it begins at its starts")
        if not level.holds(spot.x, spot.y):
            near = Spot(*level.nearest(spot.x, spot.y), spot.heading)
            raise UserError(f"nobody can stand at {spot}; the nearest place is {near}")
        past, roles = self._pasts[0], self.motion.roles
        assert past.state is not None
        state = past.state.clone()
        state[:, list(roles.place)] = torch.tensor([spot.x, spot.y], dtype=state.dtype)
        state[:, list(roles.velocity)] = 0.0
        state[:, roles.heading] = spot.heading % FULL_TURN
        state[:, roles.eye] = self.motion.eye[0]
        frames = past.latents.shape[1]
        idle = torch.from_numpy(self.actions.encode([IDLE] * frames))[None].to(self.device)
        held = state[:, None].expand(-1, frames, -1)
        past = self._encoder.of_states(past.latents, idle, held)
        self._begin(past, seed)
        return self._look_back(past, seed)

    def _begin(self, past: ContextFrames, seed: int, start: int | None = None) -> None:
        """A rollout that remembers a past; that of a start is computed once."""
        self._rollout = None  # an engine of few rows may need it back first
        playing = self.engine.begin([seed])
        if start in self._primed:
            noise = np.stack([g.get_state().numpy() for g in playing.generators])
            load_playing(playing, {**self._primed[start], "noise": noise})
        else:
            playing.prime(past.latents, past.conditions)
            if start is not None and not self.sampler.context_sigma:  # no noise, so no seed in it
                self._primed[start] = save_playing(playing)
        self._rollout = playing

    def _look_back(self, past: ContextFrames, seed: int) -> Frame:
        """Stand where a past ends: its last frame."""
        self.where.begin(past.state, past.recent, [seed])
        return self.engine.decode(past.latents[:, -1:], self.where.look())[0]

    @property
    def level(self) -> Level | None:
        """Where one can walk, in a world that knows its place."""
        if self.motion is None:
            return None
        ground = self.motion.ground
        low = ground.low.tolist()
        return Level(ground.free.numpy(), (low[0], low[1]), ground.cell)

    def generate(self, action: Action) -> Frame:
        """Action tokens, denoising steps, decoder: the frame that `action` leads to."""
        began = time.perf_counter()
        condition, sight = self.condition(action)
        latent = self.playing.denoise(condition)
        drawn = time.perf_counter()
        frame = self.engine.decode(latent, sight)[0]
        shown = time.perf_counter()
        self.saw(latent, sight, Split(1000 * (drawn - began), 1000 * (shown - drawn)))
        return frame

    def condition(self, action: Action) -> tuple[Tensor, Sight | None]:
        """The player moves: condition 1 1 z of the next frame, and what is seen in it."""
        vector = torch.from_numpy(self.actions.encode([action]))[None].to(self.device)
        return self.where.step(vector)

    def saw(self, latent: Tensor, sight: Sight | None, split: Split) -> None:
        """A frame of latents 1 1 c h w is shown, which took so long to draw and to decode."""
        self.where.saw(latent)
        if sight is not None and self.playing.pulls:  # the next look may overwrite it
            self._sight = Sight(sight.rays, sight.pixels.clone())
        self._check("its latents", is_fine=is_finite(latent))
        self._split = split

    def remember(self) -> None:
        """The frame becomes part of the past; its clean pass is now, or part of the next frame."""
        began = time.perf_counter()
        remember_seen(self.engine, self.playing, self._sight)
        self._check("its keys and values", is_fine=self.playing.cache.holds_numbers())
        clean = 1000 * (time.perf_counter() - began)
        self._split = Split(self._split.denoise, self._split.decode, clean)

    def save_state(self) -> SavedState:
        """KV cache, last latents, time and noise generators."""
        return SavedState(self._identity, {**save_playing(self.playing), **self.where.save()})

    def load_state(self, state: SavedState) -> None:
        """Go on from a state of the same weights and sampler, whatever engine it was taken on."""
        check_same_world(state.identity, self._identity)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # a state is also what play goes back to when memory ran out
        rollout = self._rollout or self.engine.begin([0])
        arrays = {name: state.arrays[name] for name in state.arrays if name not in self.where.kept}
        numbers = self.file.state.width if self.file.state else 0
        place = self.where.read(state.arrays.get(PLACE), 1, numbers)
        self.where.check(state.arrays, 1)
        load_playing(rollout, arrays)
        self.where.load(place, state.arrays, 1)
        self._rollout = rollout

    def whereabouts(self) -> PlaceTracker:
        """Where players of this world are; for each batch of sessions one."""
        file = self.file
        return PlaceTracker(
            self.engine, self.motion, file.autoencoder.view, self.events, file.transformer
        )

    @property
    def playing(self) -> Playing:
        """The rollout of the session."""
        assert self._rollout is not None, "reset comes first"
        return self._rollout

    def another(self, engine: Engine | None = None) -> "NativeWorld":
        """One more player of this world: weights are shared, rollout and place its own.

        All of them are used from one thread; none changes what another shows. With an `engine`,
        it is played on that one, which must be of the same weights.
        """
        world = copy.copy(self)
        world.engine = engine or self.engine
        world._rollout = world._sight = None
        world.where = world.whereabouts()
        world._split = Split()
        return world

    def release(self) -> None:
        """Give the session's memory back: `reset` or `load_state` comes next."""
        self._rollout = None

    @property
    def state_spec(self) -> StateSpec | None:
        """What the numbers of `state` mean."""
        return self.file.state

    @property
    def state(self) -> NDArray[np.float32] | None:
        """The numbers of the frame that is shown, in a world that knows its place."""
        return None if self.where.state is None else self.where.state[0].numpy().copy()

    @property
    def split(self) -> Split:
        """Times of the last frame; on a GPU, of handing the work over."""
        return self._split

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a replay to give the same frames bit for bit."""
        return {
            "world": self.name,
            "sha256": {
                k: v for k, v in self.file.sha256.items() if not k.endswith(TRAJECTORY_ENDING)
            },
            **self._palette_identity,
            "sampler": self._sampler_identity,
            "engine": self.engine.name,
            "engine_version": self.engine.version,
            "dtype": self.engine.dtype,
            "device": self.device.type,
            "threads": self.threads,
            "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        }

    @property
    def _palette_identity(self) -> dict[str, str]:
        """The palette, if there is one: older sessions do not tell of any."""
        colours = "".join(self.file.autoencoder.palette)
        return {"palette": hashlib.sha256(colours.encode()).hexdigest()} if colours else {}

    @property
    def _sampler_identity(self) -> dict[str, Any]:
        """The sampler; what it does not do is left out if older sessions do not tell of it."""
        sampler = asdict(self.sampler)
        if not self.sampler.view_pull:
            del sampler["view_pull"], sampler["view_pull_every"]
        return sampler

    @property
    def running_on(self) -> str:
        """Device, engine, dtype and threads, and why these."""
        engine = f"{self.engine.name} in {self.engine.dtype} ({self.why})"
        if self.device.type != "cpu":
            return f"{self.device.type}, {engine}"
        return f"cpu (no GPU used), {engine}, {counted(self.threads, 'thread')}"

    @property
    def first_past(self) -> tuple[Tensor, Tensor]:
        """Latents 1 f c h w and conditions 1 f z of the first start."""
        return self._pasts[0].latents, self._pasts[0].conditions

    def past(self, start: int) -> ContextFrames:
        """What the world is shown before play at a start."""
        return self._pasts[start]

    @property
    def origin(self) -> Origin:
        """The real game that it was learned from."""
        return origin_of(self.file, self._trajectories)

    def warm_up(self) -> None:
        """Play past the point where the cache wraps: the first real frame then costs as any."""
        self.reset(0, seed=0)
        slots = self.file.transformer.sink_frames + self.file.transformer.context_frames
        for _ in range(min(slots + 2, LONGEST_WARM_UP)):
            self.generate(IDLE)
            self.remember()

    def _check(self, what: str, *, is_fine: bool) -> None:
        """A `WorldFaultError` that names the weight too, if it is one that is broken."""
        if is_fine:
            return
        weight = self.engine.broken_weight() or broken_weight(self.transformer)
        why = f", and so does the weight {weight}" if weight else ""
        raise WorldFaultError(f"{what} hold values that are not numbers{why}")
