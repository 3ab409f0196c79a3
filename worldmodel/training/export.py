"""The last stage: finished runs become a world folder that can be played and shipped."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import nn

from worldmodel.config import ConfigError, read_toml
from worldmodel.model.configs import AutoencoderConfig, SamplerConfig
from worldmodel.reference.game import ReferenceTrajectory
from worldmodel.reference.trajectory import ENDING as TRAJECTORY_ENDING
from worldmodel.reference.trajectory import trajectory_bytes
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import episode_bytes, find_episodes, load_episode
from worldmodel.storage.files import read_record, read_text
from worldmodel.system.paths import to_path
from worldmodel.training.colours import choose_palette
from worldmodel.training.runs import (
    Lineage,
    lineage,
    load_autoencoder,
    load_events,
    load_motion,
    load_transformer,
)
from worldmodel.training.train_loop import CONFIG
from worldmodel.worlds.world_folder import (
    AUTOENCODER,
    EVENTS,
    FORMAT,
    MOTION,
    TEACHER,
    TRANSFORMER,
    WorldFile,
    check_own,
    save_world_folder,
    sha256_of_bytes,
)

PALETTE_EPISODES, PALETTE_STRIDE = 60, 20  # of them every so many-th frame is counted
VERDICT = ("verdict", "figures", "picture")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldExport:
    """Everything that the stage `world` reads from its TOML file."""

    stage: Literal["world"]
    name: str
    title: str
    licence: str
    notice: Path
    student: Path  # the run of the stage `student`, `ode` or `dmd`
    decoder: Path  # the run of the stage `decoder` (or `autoencoder`) whose decoder is shipped
    sampler: SamplerConfig
    frames_per_second: float
    starts: dict[str, str]  # "episode file@first frame" -> caption
    start_frames: int
    game: dict[str, Any]  # the real game, as `DoomConfig` has it
    made_by: str  # one line on data and recipe
    motion: Path | None = None  # the run of the stage `motion`, of a world that knows its place
    events: Path | None = None  # the run of the stage `events`, of a world with predicted numbers
    palette: Path | None = None  # episodes whose colours it is shown in, of a game that has few


def export_world(config: WorldExport, folder: Path) -> dict[str, Any]:
    """Write the world; weights are stored as bfloat16, which play rounds to anyway."""
    check_own(folder)
    student = lineage(config.student)
    decoder = load_autoencoder(config.decoder)
    files = {
        TRANSFORMER: _weights(load_transformer(config.student, student.model)),
        AUTOENCODER: _weights(decoder),
        TEACHER: _weights(load_transformer(student.teacher, student.model)),
        "NOTICE": read_text(config.notice).encode(),
    }
    motion, spec = load_motion(config.motion) if config.motion else (None, None)
    if motion is not None:  # in fp32: half a unit of the map is a pixel
        files[MOTION] = _exact(motion)
    events, known = load_events(config.events) if config.events else (None, spec)
    if events is not None:
        if spec is not None and known != spec:
            raise ConfigError(f"{config.events} has other numbers than {config.motion}")
        files[EVENTS], spec = _exact(events), known
    starts = {}
    for number, (place, caption) in enumerate(config.starts.items(), start=1):
        name = f"{number:02d}.safetensors"
        starts[name] = caption
        clip = _cut(place, config.start_frames)
        files[f"starts/{name}"] = episode_bytes(clip)
        if trajectory := _trajectory(place, config.start_frames):
            files[f"starts/{number:02d}{TRAJECTORY_ENDING}"] = trajectory_bytes(
                trajectory, clip.buttons
            )
    world = WorldFile(
        format=FORMAT,
        name=config.name,
        title=config.title,
        licence=config.licence,
        backend="native",
        frames_per_second=config.frames_per_second,
        sampler=config.sampler,
        actions=student.actions,
        transformer=student.model,
        autoencoder=_shown(decoder.config, config.palette),
        state=spec,
        motion=motion.config if motion is not None else None,
        events=events.config if events is not None else None,
        sha256={name: sha256_of_bytes(data) for name, data in files.items() if name != "NOTICE"},
        starts=starts,
        game=config.game,
        training={"made_by": config.made_by, **_costs(config, student)},
    )
    save_world_folder(folder, world, files)
    return {"world": str(folder), "megabytes": round(sum(map(len, files.values())) / 1e6, 1)}


def _shown(config: AutoencoderConfig, episodes: Path | None) -> AutoencoderConfig:
    """The autoencoder with the palette of a game's episodes, if it is shown in one."""
    if episodes is None:
        return config
    paths = find_episodes(episodes)[:PALETTE_EPISODES]
    frames = (load_episode(path).frames[::PALETTE_STRIDE] for path in paths)
    return replace(config, palette=choose_palette(frames))


def _costs(config: WorldExport, student: Lineage) -> dict[str, Any]:
    """What every stage took: steps, minutes, floating-point operations."""
    costs = {}
    placed = [run for run in (config.motion, config.events, _plan_of(student.autoencoder)) if run]
    for run in dict.fromkeys((*placed, student.autoencoder, config.decoder, *student.runs)):
        path = run / "summary.json"
        if not path.exists():  # a run that is not finished
            continue
        summary = read_record(path)
        stage = str(summary.pop("stage", run.name))
        for key in VERDICT:  # of the run, not of the world; and a picture's place is nobody's
            summary.pop(key, None)
        costs[run.name if stage in costs else stage] = summary  # a stage may come twice
    return costs


def _plan_of(autoencoder: Path) -> Path | None:
    """The run of the floor plan that an autoencoder reads."""
    plan = read_toml(autoencoder / CONFIG).get("plan")
    return Path(plan) if plan else None


def _exact(model: nn.Module) -> bytes:
    """Weights as they are."""
    return save({k: v.contiguous() for k, v in model.state_dict().items()})


def _weights(model: nn.Module) -> bytes:
    return save(
        {
            key: (tensor.to(torch.bfloat16) if tensor.ndim > 1 else tensor).contiguous()
            for key, tensor in model.state_dict().items()
        }
    )


def _cut(place: str, frames: int) -> Episode:
    """The stretch that "path@first" names."""
    path, _, first = place.partition("@")
    episode = load_episode(to_path(path))
    if not first.isdecimal() or int(first) + frames > len(episode):
        raise ConfigError(
            f"start {place!r}: expected 'episode@first frame' with {frames} frames after it; "
            f"the episode has {len(episode)}"
        )
    return episode.cut(int(first), int(first) + frames)


def _trajectory(place: str, frames: int) -> ReferenceTrajectory | None:
    """How the game comes to the stretch that "path@first" names: LEVEL_SEED, then its actions."""
    path, _, first = place.partition("@")
    seed = Path(path).stem.rpartition("_")[2]
    if not seed.isdecimal():
        return None  # a recording by hand: nobody knows its seed
    episode, last = load_episode(to_path(path)), int(first) + frames
    actions = episode.actions[1:last]
    return ReferenceTrajectory(seed=int(seed), actions=actions, frame=episode.frames[last - 1])
