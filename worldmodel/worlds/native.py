"""The native backend: our transformer, cache and autoencoder behind the `World` role.

    world = NativeWorld.load(folder, Settings())
    frame = world.reset(start=0, seed=0)
    frame = world.generate(action); world.remember()

One action gives one frame: its conditioning tokens, a few denoising steps against the KV cache,
the decoder. All of it is used from one thread at a time.
"""

import copy
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.engine import Engine, Playing
from worldmodel.engine.choose import Chosen, choose_engine
from worldmodel.engine.openvino import OpenVinoEngine
from worldmodel.engine.saved_state import load_playing, save_playing
from worldmodel.engine.torch_engine import CompiledEngine, TorchEngine
from worldmodel.model.autoencoder import Autoencoder, channels_last, encode_frames
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.events import Events, Recent
from worldmodel.model.motion import Motion
from worldmodel.model.state_numbers import encode_state_numbers
from worldmodel.model.transformer import WorldTransformer
from worldmodel.reference.game import Origin, Way
from worldmodel.reference.trajectory import ENDING as WAY_ENDING
from worldmodel.schedule import sigma_grid
from worldmodel.state_spec import FULL_TURN, StateSpec
from worldmodel.storage.checkpoint import broken_weight, check_fit, load_weights
from worldmodel.storage.episode import Episode
from worldmodel.system.printable import counted
from worldmodel.world import Frame, Level, Split, Spot, State, WorldFaultError
from worldmodel.worlds.devices import choose_device, choose_dtype
from worldmodel.worlds.fork_guard import refuse_fork
from worldmodel.worlds.identity import check_same_world
from worldmodel.worlds.place_tracker import STATE as PLACE
from worldmodel.worlds.place_tracker import PlaceTracker
from worldmodel.worlds.run_settings import RunSettings, available_cores
from worldmodel.worlds.starts import load_starts, origin_of
from worldmodel.worlds.world_folder import (
    AUTOENCODER,
    EVENTS,
    MOTION,
    TRANSFORMER,
    WorldFile,
    check_cache,
    check_weights,
    read_world_file,
)

LONGEST_WARM_UP = 64  # frames


class NativeWorld:
    """A loaded world; everything that changes in play is in its `Rollout`."""

    def __init__(
        self,
        file: WorldFile,
        transformer: WorldTransformer,
        autoencoder: Autoencoder,
        chosen: Chosen,
        device: torch.device,
        clips: Sequence[Episode],
        captions: Sequence[str],
        sampler: SamplerConfig,
        ways: Sequence[Way | UserError] = (),
        motion: Motion | None = None,
        events: Events | None = None,
    ) -> None:
        self.file, self.device = file, device
        self.transformer, self.autoencoder = transformer, autoencoder  # in fp32, for reference
        self.engine, self.why = chosen.engine, chosen.why
        self.threads = chosen.engine.threads
        self.name, self.actions = file.name, file.actions
        self.frames_per_second = file.frames_per_second
        self.frame_size = (file.autoencoder.frame_height, file.autoencoder.frame_width)
        self.starts = list(captions)
        self._ways = ways or [UserError(f"no way to {caption}") for caption in captions]
        self.sampler = sampler
        self.motion, self.events = motion, events  # in fp32, on the CPU, whatever engine plays
        self.where = self.whereabouts()
        self._primes = [self._encode(clip) for clip in clips]
        self._split = Split()
        self._rollout: Playing | None = None
        self._identity = self.identity  # one for all states

    @classmethod
    def load(cls, folder: Path, settings: RunSettings) -> "NativeWorld":
        """Read a world's folder; errors name the file, what was found and what was expected."""
        refuse_fork()  # even looking at the weights would wait for ever
        file = read_world_file(folder)
        check_weights(folder, file)
        # Shapes first, without memory: what world.toml asks for is taken only if the file has it.
        with torch.device("meta"):
            check_fit(WorldTransformer(file.transformer), folder / TRANSFORMER)
            check_fit(Autoencoder(file.autoencoder), folder / AUTOENCODER)
            motion = Motion(file.motion, file.state) if file.motion and file.state else None
            if motion is not None:
                check_fit(motion, folder / MOTION)
            events = Events(file.events, file.state) if file.events and file.state else None
            if events is not None:
                check_fit(events, folder / EVENTS)
        check_cache(file.transformer.cache_bytes, folder / TRANSFORMER, folder / AUTOENCODER)
        transformer = WorldTransformer(file.transformer)
        autoencoder = Autoencoder(file.autoencoder)
        load_weights(transformer, folder / TRANSFORMER)
        load_weights(autoencoder, folder / AUTOENCODER)
        if file.motion and file.state:
            motion = Motion(file.motion, file.state)
            load_weights(motion, folder / MOTION)
        if file.events and file.state:
            events = Events(file.events, file.state)
            load_weights(events, folder / EVENTS)
        starts = load_starts(folder, file, settings.start)
        clips, captions = [s.clip for s in starts], [s.caption for s in starts]
        ways = [s.way for s in starts]
        parts = (file, transformer, autoencoder, clips, captions, settings)
        return cls.of(*parts, ways, motion, events)

    @classmethod
    def of(
        cls,
        file: WorldFile,
        transformer: WorldTransformer,
        autoencoder: Autoencoder,
        clips: Sequence[Episode],
        captions: Sequence[str],
        settings: RunSettings,
        ways: Sequence[Way | UserError] = (),
        motion: Motion | None = None,
        events: Events | None = None,
    ) -> "NativeWorld":
        """A world from its parts, on the engine that suits this machine."""
        refuse_fork()
        torch.set_num_threads(settings.threads or available_cores())
        device = choose_device(settings.device)
        for model in (transformer, autoencoder, motion, events):
            if model is not None:
                model.requires_grad_(requires_grad=False).eval()
        channels_last(autoencoder.to(device))
        sampler = file.sampler
        if settings.steps and settings.steps != sampler.steps:
            grid = tuple(sigma_grid(settings.steps).tolist())
            sampler = replace(sampler, sigmas=grid, first_sigmas=())
        key = f"{file.sha256[TRANSFORMER]} {file.sha256[AUTOENCODER]} {sampler}"
        candidates = _candidates(transformer, autoencoder, sampler, settings, device, key)
        chosen = choose_engine(candidates, file.transformer, key, file.autoencoder.plan)
        torch.set_num_threads(chosen.engine.threads)
        models = (transformer, autoencoder)
        world = cls(file, *models, chosen, device, clips, captions, sampler, ways, motion, events)
        world.warm_up()
        return world

    def reset(self, start: int, seed: int) -> Frame:
        """Begin at a start: its clip becomes the past, its last frame is what is seen."""
        past = self._primes[start % len(self._primes)]
        self._rollout = self.engine.begin([seed])
        self._rollout.prime(past.latents, past.conditions)
        self.where.begin(past.state, past.recent, [seed])
        return self.engine.decode(past.latents[:, -1:], self.where.look())[0]

    def stand(self, spot: Spot, seed: int) -> Frame:
        """Begin anywhere: all of the past is spent there, standing still."""
        level = self.level
        if level is None or self.motion is None:
            raise UserError(f"{self.name} does not know places: it begins at its starts")
        if not level.holds(spot.x, spot.y):
            near = Spot(*level.nearest(spot.x, spot.y), spot.heading)
            raise UserError(f"nobody can stand at {spot}; the nearest place is {near}")
        past, roles = self._primes[0], self.motion.roles
        assert past.state is not None
        state = past.state.clone()
        state[:, list(roles.place)] = torch.tensor([spot.x, spot.y], dtype=state.dtype)
        state[:, list(roles.velocity)] = 0.0
        state[:, roles.heading] = spot.heading % FULL_TURN
        state[:, roles.eye] = self.motion.eye[0]
        frames = past.latents.shape[1]
        idle = torch.from_numpy(self.actions.encode([IDLE] * frames))[None].to(self.device)
        held = state[:, None].expand(-1, frames, -1)
        conditions = self._conditions(idle, held)
        self._rollout = self.engine.begin([seed])
        self._rollout.prime(past.latents, conditions)
        self.where.begin(state, self._recent(held, idle, past.latents), [seed])
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
        assert self._rollout is not None, "reset comes first"
        began = time.perf_counter()
        vector = torch.from_numpy(self.actions.encode([action]))[None].to(self.device)
        condition, sight = self.where.step(vector)
        latent = self._rollout.denoise(condition)
        self.where.saw(latent)
        denoised = time.perf_counter()
        frame = self.engine.decode(latent, sight)[0]
        self._check("its latents", is_fine=bool(torch.isfinite(latent).all()))
        self._split = Split(1000 * (denoised - began), 1000 * (time.perf_counter() - denoised))
        return frame

    def remember(self) -> None:
        """The frame becomes part of the past; its clean pass is now, or part of the next frame."""
        assert self._rollout is not None, "reset comes first"
        began = time.perf_counter()
        self._rollout.remember()
        self._check("its keys and values", is_fine=self._rollout.cache.holds_numbers())
        clean = 1000 * (time.perf_counter() - began)
        self._split = Split(self._split.denoise, self._split.decode, clean)

    def save_state(self) -> State:
        """KV cache, last latents, time and noise generators."""
        assert self._rollout is not None, "reset comes first"
        return State(self._identity, {**save_playing(self._rollout), **self.where.save()})

    def load_state(self, state: State) -> None:
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
        state_numbers = self.file.transformer.state_numbers
        return PlaceTracker(
            self.engine, self.motion, self.file.autoencoder.plan, self.events, state_numbers
        )

    def another(self) -> "NativeWorld":
        """One more player of this world: weights and engine are shared, rollout and place its own.

        All of them are used from one thread; none changes what another shows.
        """
        world = copy.copy(self)
        world._rollout = None
        world.where = self.whereabouts()
        world._split = Split()
        return world

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
            "sha256": {k: v for k, v in self.file.sha256.items() if not k.endswith(WAY_ENDING)},
            "sampler": asdict(self.sampler),
            "engine": self.engine.name,
            "engine_version": self.engine.version,
            "dtype": self.engine.dtype,
            "device": self.device.type,
            "threads": self.threads,
            "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        }

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
        return self._primes[0].latents, self._primes[0].conditions

    def past(self, start: int) -> "ContextFrames":
        """What the world is shown before play at a start."""
        return self._primes[start]

    @property
    def origin(self) -> Origin:
        """The real game that it was learned from."""
        return origin_of(self.file, self._ways)

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

    def _encode(self, clip: Episode) -> "ContextFrames":
        """What a start shows, at most what is visible."""
        longest = self.file.transformer.context_frames + self.file.transformer.sink_frames
        frames = torch.from_numpy(np.ascontiguousarray(clip.frames[-longest:]))
        actions = torch.from_numpy(self.actions.encode(clip.actions[-longest:]))
        latents = encode_frames(self.autoencoder, frames[None])
        actions = actions[None].to(self.device)
        if self.motion is None and self.events is None:
            return ContextFrames(latents, actions, None)
        states = self._states(clip)[-longest:][None]
        recent = self._recent(states, actions, latents)
        return ContextFrames(latents, self._conditions(actions, states), states[:, -1], recent)

    def _conditions(self, actions: Tensor, states: Tensor) -> Tensor:
        """What the transformer is told of frames: actions b f (k+2), states b f n -> b f z."""
        with torch.inference_mode():
            views = None
            if self.motion is not None:
                views = self.motion.views(states).to(self.device)
            if state_numbers := self.file.transformer.state_numbers:
                assert self.file.state is not None
                facts = encode_state_numbers(state_numbers, self.file.state.names, states).to(
                    actions
                )
                actions = torch.cat((facts, actions), dim=-1)
            return self.autoencoder.conditions(actions, views)

    def _recent(self, states: Tensor, actions: Tensor, latents: Tensor) -> Recent | None:
        """What events follow from, of frames before play b f …; none in a world without."""
        if self.events is None:
            return None
        config = self.events.config
        parts = (
            (x.float().cpu(), frames)
            for x, frames in (
                (states, config.frames),
                (actions, config.frames),
                (latents, config.seen),
            )
        )
        return Recent(*(_last(x, frames) for x, frames in parts))

    def _states(self, clip: Episode) -> Tensor:
        """The state in every frame of a start, f n; a `UserError` if it does not say it."""
        assert self.file.state is not None
        if clip.state is None or clip.state.spec.names != self.file.state.names:
            found = "no state" if clip.state is None else ", ".join(clip.state.spec.names)
            raise UserError(
                f"{self.name} has a state, so a start must say where it is: a clip with the "
                f"state {', '.join(self.file.state.names)} (found {found}); a picture does not"
            )
        values = torch.from_numpy(clip.state.values)
        if self.motion is None:
            return values
        if not bool(torch.isfinite(values[:, list(self.motion.roles.view)]).all()):
            raise UserError(f"{self.name}: a start's clip does not know its place in every frame")
        return values


@dataclass(frozen=True, slots=True)
class ContextFrames:
    """What a world is shown before play."""

    latents: Tensor  # 1 f c h w
    conditions: Tensor  # 1 f z
    state: Tensor | None  # 1 n, in the last frame
    recent: Recent | None = None  # what events follow from, in a world with events


def _last(x: Tensor, frames: int) -> Tensor:
    """The last frames of b f …, the first one again where there are fewer: b `frames` …."""
    missing = frames - x.shape[1]
    if missing > 0:
        x = torch.cat((x[:, :1].repeat_interleave(missing, dim=1), x), dim=1)
    return x[:, x.shape[1] - frames :].clone()


def _candidates(
    transformer: WorldTransformer,
    autoencoder: Autoencoder,
    sampler: SamplerConfig,
    settings: RunSettings,
    device: torch.device,
    key: str,
) -> dict[str, Callable[[], Engine]]:
    """What could play here, by name, as the settings allow."""
    models = (transformer, autoencoder, sampler)
    dtype = choose_dtype(settings.dtype, device)
    threads = torch.get_num_threads()

    def on_torch() -> Engine:
        torch.set_num_threads(threads)
        return TorchEngine(*models, dtype, device)

    def on_compiled() -> Engine:
        torch.set_num_threads(threads)
        return CompiledEngine(*models, dtype, device, fuse=settings.compile)

    def on_openvino(count: int) -> Callable[[], Engine]:
        return lambda: OpenVinoEngine(*models, dtype, count, key, batch_threads=threads)

    found: dict[str, Callable[[], Engine]] = {}
    wanted = "torch-compiled" if settings.compile else settings.engine
    if wanted in ("openvino", "auto") and device.type == "cpu":
        # A small world may be faster on one core, above all where cores share no cache; and what
        # is left over is the window's.
        for count in (settings.threads,) if settings.threads else sorted({1, threads}):
            found[f"openvino in {dtype} on {count}"] = on_openvino(count)
    if wanted == "torch-compiled" or (wanted == "auto" and device.type == "cuda"):
        found[f"torch-compiled in {dtype}"] = on_compiled
    if wanted in ("torch", "auto"):
        found[f"torch in {dtype} on {threads}"] = on_torch
    if not found:
        raise UserError(f"--engine openvino plays on CPUs; --device is {device.type}")
    return found
