"""From a recipe to the configs of its stages, each an ordinary TOML file of `worldmodel train`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, build_config, to_table, to_toml
from worldmodel.data_sources.doom import DoomConfig
from worldmodel.data_sources.parallel_record import GameSource
from worldmodel.model.autoencoder import encode_frames
from worldmodel.model.configs import AutoencoderConfig, ModelConfig
from worldmodel.model.state_configs import ConditionNumber, ObjectsConfig
from worldmodel.model.state_numbers import choose_state_numbers
from worldmodel.model.transformer import WorldTransformer
from worldmodel.recipe.recipe_file import DRAWS, INTERPOLATION, TEACHERS, Recipe, StagePart
from worldmodel.storage.episodes import find_episodes, load_episode
from worldmodel.system.printable import shown
from worldmodel.training.run_stage import Config, build_stage
from worldmodel.training.runs import load_autoencoder
from worldmodel.training.state_episodes import read_states

TRAIN, HELDOUT = "train", "heldout"  # folders of episodes
HELDOUT_SEED = 900_000
MEASURED = 20  # episodes that tell how much latents change
UNKNOWN_CHANGE = 1.0  # stands in plans for what is measured later


def source_of(recipe: Recipe) -> GameSource:
    """The game that a recipe names."""
    width, height = recipe.record.size
    if recipe.doom is not None:
        table = dict(recipe.doom)
        levels = table.pop("levels", None)
        if not isinstance(levels, list) or not levels or "level" in table:
            raise ConfigError('[doom]: expected levels = ["my_way_home", …]')
        size = {"frame_height": height, "frame_width": width}
        return GameSource(
            doom=tuple(
                build_config(DoomConfig, {**table, **size, "level": level}, "[doom]")
                for level in levels
            )
        )
    from worldmodel.data_sources.gym import GymConfig

    table = dict(recipe.gym or {})
    player = table.pop("player", "sticky")
    config = build_config(GymConfig, {**table, "size": [height, width]}, "[gym]")
    return GameSource(gym=config, player=str(player))


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """What the stages have in common."""

    recipe: Recipe
    root: Path  # the folder of all runs
    actions: ActionSpec
    frames_per_second: float

    @property
    def autoencoder(self) -> AutoencoderConfig:
        """The shape of the autoencoder."""
        width, height = self.recipe.record.size
        size = {"frame_height": height, "frame_width": width}
        table = {**self.recipe.autoencoder, **size}
        if isinstance(scene := table.get("scene"), Mapping):
            table["scene"] = {"objects": self.recipe.model.get("objects"), **scene, **size}
        return build_config(AutoencoderConfig, table, "[autoencoder]")

    def model(self, change: float) -> ModelConfig:
        """The shape of the transformer; `change` counts unless the recipe names another."""
        channels, height, width = self.autoencoder.latent_shape
        derived = {
            "latent_channels": channels,
            "latent_height": height,
            "latent_width": width,
            "buttons": len(self.actions.buttons),
        }
        table = {"frame_change": change, **self.recipe.model, **derived}
        if "objects" in table:
            objects = build_config(ObjectsConfig, table["objects"], "[model.objects]")
            table |= {"objects": to_table(objects)}
            table |= {"rays": objects.rays, "ray_features": objects.ray_features}
        if "state_numbers" in table:
            table["state_numbers"] = to_table(self._state_numbers(table["state_numbers"]))
        return build_config(ModelConfig, table, "[model]")

    def _events(self, part: StagePart) -> dict[str, Any]:
        """The table [model] of the stage `events`."""
        channels, height, width = self.autoencoder.latent_shape
        return {
            "buttons": len(self.actions.buttons),
            "mouse_degrees": self.actions.mouse_degrees,
            "latent_channels": channels,
            "latent_height": height,
            "latent_width": width,
            **({"objects": objects} if (objects := self.recipe.model.get("objects")) else {}),
            **part.settings.get("model", {}),
        }

    def _state_numbers(self, names: Any) -> tuple[ConditionNumber, ...]:
        """The numbers of the state that the transformer gets, with the ranges of the data."""
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigError('[model]: expected state_numbers = ["health", …], names of the state')
        if self.data(TRAIN).is_dir():
            return choose_state_numbers(read_states(self.data(TRAIN)), names)
        return tuple(ConditionNumber(name=name, kind="number") for name in names)  # not known yet

    def data(self, which: str) -> Path:
        """The folder of episodes of that name."""
        return self.root / "data" / which

    def run(self, stage: str) -> Path:
        """The folder of a stage's run."""
        return self.root / stage

    def config(self, part: StagePart, change: float) -> dict[str, Any]:
        """The table of a stage, without what a budget decides."""
        recipe, before = self.recipe, []
        for other in recipe.parts:
            if other.stage == part.stage:
                break
            before.append(other.stage)
        teacher = str(self.run(next((name for name in TEACHERS if name in before), "teacher")))
        table: dict[str, Any] = {"stage": part.stage}
        table |= {"data": str(self.data(TRAIN)), "heldout": str(self.data(HELDOUT))}
        if part.stage == "autoencoder":
            table["model"] = asdict(self.autoencoder)
        else:
            table["autoencoder"] = str(self.run("autoencoder"))
        if part.stage == "events":
            table |= {"actions": asdict(self.actions), "model": self._events(part)}
        elif part.stage not in ("autoencoder", "decoder"):
            table |= {"actions": asdict(self.actions), "model": asdict(self.model(change))}
        if part.stage == "teacher_longer":
            table["stage"] = "teacher"
        if part.stage in ("bidirectional", "teacher_longer") and "teacher" in before:
            table["start"] = teacher
        if part.stage == "student":
            table["teacher"] = teacher
        sampler = asdict(recipe.play.sampler)
        if part.stage == "dmd":
            player = str(self.run("student")) if "student" in before else teacher
            table |= {"student": player, "real": str(self.run("bidirectional"))}
            table["rollouts"] = {"sampler": sampler, **_table_in(part, "rollouts")}
        if part.stage == "decoder" and "own_play" in part.settings:
            player = next(name for name in DRAWS if name in before)
            own = {"student": str(self.run(player)), "sampler": sampler}
            table["own_play"] = {**own, **_table_in(part, "own_play")}
        return {**part.settings, **table}

    def interpolation(self) -> dict[str, Any]:
        """The table of the weights between those that `dmd` began and those that it ended with."""
        stages = [part.stage for part in self.recipe.parts]
        return {
            "stage": INTERPOLATION,
            "student": str(self.run("dmd")),
            "start": str(self.run(next(name for name in DRAWS[1:] if name in stages))),
            "share": self.recipe.play.dmd_share,
        }

    def world(self, starts: Mapping[str, str], made_by: str) -> dict[str, Any]:
        """The table of the last stage."""
        recipe = self.recipe
        stages = [part.stage for part in recipe.parts]
        game: dict[str, Any] = {}
        if recipe.doom is not None:
            config = asdict(source_of(recipe).doom[0])
            sizes = ("frame_height", "frame_width")
            game = {k: v for k, v in config.items() if k not in sizes and v != {}}
        return {
            "stage": "world",
            "name": recipe.name,
            "title": recipe.title,
            "licence": recipe.licence,
            "notice": str(recipe.notice),
            "student": str(self.run(recipe.played_stage)),
            "decoder": str(self.run("decoder" if "decoder" in stages else "autoencoder")),
            **({"events": str(self.run("events"))} if "events" in stages else {}),
            **({"palette": str(self.data(TRAIN))} if recipe.play.palette else {}),
            "frames_per_second": self.frames_per_second,
            "start_frames": recipe.play.start_frames,
            "made_by": made_by,
            "sampler": asdict(recipe.play.sampler),
            "game": game,
            "starts": dict(starts),
        }


def share_settings(recipe: Recipe, root: Path) -> SharedSettings:
    """Ask the game for its keys and its speed, and check every stage before anything begins."""
    actions, rate = source_of(recipe).describe()
    if recipe.actions is not None:
        actions = build_config(ActionSpec, recipe.actions, "[actions]")
    shared = SharedSettings(recipe, root, actions, rate)
    for part in recipe.parts:
        table = budgeted(shared.config(part, UNKNOWN_CHANGE), minutes=1.0 if part.share else 0.0)
        check(table, f"the stage {part.stage}")
    return shared


def budgeted(
    table: Mapping[str, Any], minutes: float, rate: float = 1.0, split: int = 1
) -> dict[str, Any]:
    """A stage's table with its minutes, learning rates times `rate`, batch in `split` parts.

    Minutes of 0 leave the steps that it names.
    """
    found = dict(table)
    if not isinstance(found["loop"], Mapping):
        return found  # who builds a config of it says so
    loop = dict(found["loop"])
    if minutes:
        loop["minutes"] = round(minutes, 3)
    for key in ("learning_rate", "muon_learning_rate"):
        for where, name in ((loop, key), (found, f"critic_{key}")):
            if type(where.get(name)) in (int, float):  # else it is refused like any other value
                where[name] = where[name] * rate
    if split > 1:
        loop["micro_batches"] = split * loop.get("micro_batches", 1)
        for name in ("clips", "rollouts"):
            if "batch" in found.get(name, {}):
                found[name] = {**found[name], "batch": max(1, found[name]["batch"] // split)}
        if "batch" in found:
            found["batch"] = max(1, found["batch"] // split)
    return {**found, "loop": loop}


def _table_in(part: StagePart, name: str) -> Mapping[str, Any]:
    """A table of a stage's settings; empty where there is none."""
    found = part.settings.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"the stage {part.stage}: {name} = {shown(found)}: expected a table")
    return found


def check(table: Mapping[str, Any], where: str) -> Config:
    """The config that a table describes; an error says what is wrong with it."""
    return build_stage(table, where)


def as_toml(table: Mapping[str, Any], where: str) -> str:
    """The table as a file of `worldmodel train`."""
    check(table, where)
    head = f"# Derived from a recipe; `worldmodel train` runs this stage alone ({where}).\n"
    return head + to_toml(table)


def count_parameters(shared: SharedSettings) -> dict[str, int]:
    """Parameters of autoencoder and transformer."""
    from worldmodel.model.autoencoder import Autoencoder

    with torch.device("meta"):
        models = {
            "autoencoder": Autoencoder(shared.autoencoder),
            "transformer": WorldTransformer(shared.model(UNKNOWN_CHANGE)),
        }
    return {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}


def measure_change(run: Path, folder: Path) -> float:
    """How much latents change from frame to frame, as a standard deviation, in three digits."""
    autoencoder = load_autoencoder(run)
    squares = []
    for path in find_episodes(folder)[:MEASURED]:
        frames = torch.from_numpy(load_episode(path).frames[:50].copy())[None]
        if frames.shape[1] > 1:
            latents = encode_frames(autoencoder, frames)[0]
            squares.append(latents.diff(dim=0).square().mean(dim=(1, 2, 3)))
    if not squares:
        raise ConfigError(f"{folder}: no episode has two frames")
    return max(1e-3, float(f"{float(torch.cat(squares).mean().sqrt()):.3g}"))
