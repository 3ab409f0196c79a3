"""Which engine plays a world on this machine: measured once, remembered, and said.

Nobody knows beforehand whether OpenVINO or torch is faster on a processor. So at the first start
every candidate plays a few frames, and the name of the fastest one is written into the user's cache
folder, under everything that the answer depends on. While other programs have the cores, nothing is
written: the next start measures again.
"""

import contextlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from worldmodel.engine import Engine, EngineError, remember_seen
from worldmodel.engine.graphs import example_views
from worldmodel.model.configs import ModelConfig
from worldmodel.model.state_configs import FloorPlanConfig, SceneConfig
from worldmodel.storage.files import FileWriteError, read_text, write_atomically
from worldmodel.storage.user_dirs import cache_folder
from worldmodel.system.other_programs import Others, disturbance

FRAMES = 12  # timed, after as many that are not
SAVING = 1.1  # an earlier candidate may be slower by so much: the first ones take fewer cores
Build = Callable[[], Engine]


@dataclass(frozen=True, slots=True)
class Chosen:
    """An engine, and in words why it is this one."""

    engine: Engine
    why: str


def choose_engine(
    candidates: Mapping[str, Build],
    config: ModelConfig,
    key: str,
    view: FloorPlanConfig | SceneConfig | None = None,
) -> Chosen:
    """The fastest of several engines, by name, or an earlier one that is nearly as fast.

    `key` names the world's weights and sampler. A candidate that cannot be built here is left out;
    if none can, an error of theirs is raised.
    """
    if len(candidates) == 1:
        (build,) = candidates.values()
        return Chosen(build(), "no other was asked for")
    cache = cache_folder()
    path = cache / "openvino" / "choices.json" if cache else None
    stamp = _stamp(key, list(candidates))
    known = _read(path) if path else {}
    name = known.get(stamp)
    if isinstance(name, str) and name in candidates:
        with contextlib.suppress(EngineError):  # it worked then and does not now: measure again
            return Chosen(candidates[name](), "the fastest here when it was measured")
    built = {name: _build(build) for name, build in candidates.items()}
    engines = {name: one for name, one in built.items() if not isinstance(one, EngineError)}
    if not engines:
        raise next(one for one in built.values() if isinstance(one, EngineError))
    others = Others()
    milliseconds = {
        name: frame_milliseconds(engine, config, view) for name, engine in engines.items()
    }
    is_quiet = not disturbance(others.cores())
    good = SAVING * min(milliseconds.values())
    best = next(name for name, ms in milliseconds.items() if ms <= good)
    if path and is_quiet:  # a choice is for good: on a busy machine it may be the wrong one
        _remember(path, known | {stamp: best})
    said = [f"{name} {ms:.1f} ms a frame" for name, ms in milliseconds.items()]
    said += [f"not {name}: {one}" for name, one in built.items() if isinstance(one, EngineError)]
    return Chosen(engines[best], "; ".join(said))


def _build(build: Build) -> Engine | EngineError:
    try:
        return build()
    except EngineError as error:
        return error


def frame_milliseconds(
    engine: Engine, config: ModelConfig, view: FloorPlanConfig | SceneConfig | None = None
) -> float:
    """Median time of a frame, from action to remembered, with a full cache."""
    generator = torch.Generator().manual_seed(0)
    playing = engine.begin([0])
    past = config.context_frames + config.sink_frames
    latents = torch.randn(1, past, *config.latent_shape, generator=generator)
    playing.prime(latents, torch.zeros(1, past, config.condition_width))
    action = torch.zeros(1, 1, config.condition_width)
    views = example_views(view, 1) if view else torch.empty(0)
    times = []
    for _ in range(2 * FRAMES):
        began = time.perf_counter()
        sight = engine.look(views) if view else None
        engine.decode(playing.denoise(action), sight)
        remember_seen(engine, playing, sight)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[FRAMES:])


def _stamp(key: str, names: list[str]) -> str:
    """Changes with whatever could change the answer."""
    try:
        openvino = version("openvino")
    except PackageNotFoundError:
        openvino = "none"
    facts = [key, names, torch.__version__, openvino, torch.get_num_threads()]
    facts += [platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability()]
    return sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, str]:
    """Earlier choices; a file that is missing or broken holds none."""
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(path: Path, choices: dict[str, str]) -> None:
    """Keep the choices; a cache that cannot be written is measured again the next time."""
    with contextlib.suppress(FileWriteError):
        write_atomically(path, json.dumps(choices, indent=2).encode())
