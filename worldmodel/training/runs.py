"""Finished runs: their averaged weights, for the stages after them and for export."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import nn

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, build_config, read_toml
from worldmodel.model.autoencoder import Autoencoder, channels_last
from worldmodel.model.configs import AutoencoderConfig, ModelConfig
from worldmodel.model.events import Events
from worldmodel.model.floor_plan import FloorPlan
from worldmodel.model.motion import Motion
from worldmodel.model.state_configs import EventsConfig, FloorPlanConfig, MotionConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.state_spec import StateSpec
from worldmodel.storage.checkpoint import CheckpointError, broken_weight, load_tensors
from worldmodel.training.train_loop import CONFIG, STATE, UnfinishedError
from worldmodel.worlds.world_folder import AUTOENCODER, WORLD_FILE, read_world_file

C = TypeVar("C")  # the shape of a model
M = TypeVar("M", bound=nn.Module)

STATE_SPEC = "state.toml"  # what the numbers of a motion's state are
# Keys that name runs of transformers. The first says where the weights began.
PARENTS = ("base", "student", "teacher", "trajectories", "real", "start")


@dataclass(frozen=True, slots=True)
class Lineage:
    """A trained transformer and where it comes from."""

    stage: str
    model: ModelConfig
    actions: ActionSpec
    autoencoder: Path  # the run whose latents it draws
    teacher: Path  # the run of the many-step teacher that it was distilled from, or itself
    runs: tuple[Path, ...]  # all that led to it, itself last


def lineage(run: Path) -> Lineage:
    """What a run of any transformer stage was made of, from the configs that the runs left."""
    path = run / CONFIG
    if not path.is_file():
        raise ConfigError(f"{run}: no run of a stage that trains a transformer; train it first")
    table = read_toml(path)
    stage, autoencoder = str(table.get("stage")), table.get("autoencoder")
    is_teacher = stage in ("teacher", "bidirectional")
    if "model" not in table or "actions" not in table or autoencoder is None:
        raise ConfigError(f"{run} is a run of the stage {stage!r}, which trains no transformer")
    try:
        parents = [lineage(Path(str(table[key]))) for key in PARENTS if key in table]
    except RecursionError as error:
        raise ConfigError(f"{run}: a run that begins with itself") from error
    before = [Path(autoencoder), *(path for parent in parents for path in parent.runs)]
    teachers = [parent.teacher for parent in parents]
    return Lineage(
        stage,
        build_config(ModelConfig, table["model"], f"{path}: model"),
        build_config(ActionSpec, table["actions"], f"{path}: actions"),
        Path(autoencoder),
        teachers[0] if teachers and not is_teacher else run,
        tuple(dict.fromkeys((*before, run))),
    )


def load_autoencoder(run: Path) -> Autoencoder:
    """The autoencoder of a run of the stage `autoencoder`, or as the stage `decoder` left it."""
    table = read_toml(run / CONFIG)
    prefix = "ema."
    if table.get("stage") == "decoder":
        prefix = "ema.autoencoder."
        table = read_toml(Path(table["autoencoder"]) / CONFIG)
    where = f"{run / CONFIG}: model"
    config = build_config(AutoencoderConfig, table.get("model", {}), where)
    if "plan" in table:
        config = replace(config, plan=read_floor_plan(Path(table["plan"])))
    model = Autoencoder(config)
    _load_average(model, run, prefix)
    return channels_last(model)


def read_floor_plan(run: Path) -> FloorPlanConfig:
    """The shape of the plan of a run of the stage `plan`."""
    return build_config(FloorPlanConfig, _model_table(run, "plan"), f"{run / CONFIG}: model")


def load_floor_plan(run: Path) -> FloorPlan:
    """The averaged weights of a run of the stage `plan`, frozen."""
    model = FloorPlan(read_floor_plan(run))
    _load_average(model, run, "ema.")
    return model


def begin_floor_plan(plan: FloorPlan, folder: Path) -> None:
    """Give a plan the weights of a run of the stage `plan`, or of a world's own plan.

    Grids and textures may be finer here than there: they are read in between. The convolutions
    over the picture may be others; those begin anew.
    """
    if not (folder / WORLD_FILE).is_file():
        found, weights = read_floor_plan(folder), load_floor_plan(folder).state_dict()
    else:
        world = read_world_file(folder).autoencoder.plan
        if world is None:
            raise ConfigError(f"begin: {folder} is a world without a floor plan")
        found, prefix = world, "plan."
        tensors, _ = load_tensors(folder / AUTOENCODER)
        weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    here = plan.config
    cells, drawing = ("cells", "texture_cell", "wall_cell"), ("width", "hidden", "depthwise")
    taken = replace(found, **{name: getattr(here, name) for name in (*cells, *drawing)})
    if taken != here or len(found.cells) != len(here.cells):
        raise ConfigError(
            f"begin: the plan of {folder} differs from [model] in more than how fine its cells "
            f"are and {', '.join(drawing)}"
        )
    if any(getattr(found, name) != getattr(here, name) for name in drawing):
        weights = {n: w for n, w in weights.items() if not n.startswith("drawing.")}
        weights |= {n: w for n, w in plan.state_dict().items() if n.startswith("drawing.")}
    for name, expected in plan.state_dict().items():
        if weights[name].shape != expected.shape:
            size = (expected.shape[-2], expected.shape[-1])
            grid = weights[name].float()
            weights[name] = F.interpolate(grid, size, mode="bilinear", align_corners=True)
    plan.load_state_dict(weights)


def load_motion(run: Path) -> tuple[Motion, StateSpec]:
    """The averaged weights of a run of the stage `motion`, frozen, and the state that it moves."""
    return _load_of_state(run, "motion", MotionConfig, Motion)


def load_events(run: Path) -> tuple[Events, StateSpec]:
    """The averaged weights of a run of the stage `events`, frozen, and the state of its numbers."""
    return _load_of_state(run, "events", EventsConfig, Events)


def _load_of_state(
    run: Path, stage: str, kind: type[C], make: Callable[[C, StateSpec], M]
) -> tuple[M, StateSpec]:
    config = build_config(kind, _model_table(run, stage), f"{run / CONFIG}: model")
    spec = build_config(StateSpec, read_toml(run / STATE_SPEC), str(run / STATE_SPEC))
    model = make(config, spec)
    _load_average(model, run, "ema.")
    return model, spec


def _model_table(run: Path, stage: str) -> Mapping[str, Any]:
    """The table [model] of a run of a stage; a run of another one is a `ConfigError`."""
    table = read_toml(run / CONFIG)
    if table.get("stage") != stage:
        raise ConfigError(
            f"{run}: expected a run of the stage {stage!r}, found {table.get('stage')!r}"
        )
    return dict(table["model"])


def load_transformer(run: Path, config: ModelConfig) -> WorldTransformer:
    """The averaged weights of a run of any stage that trains a transformer, frozen."""
    model = WorldTransformer(config)
    _load_average(model, run, "ema.")
    return model


def _load_average(model: nn.Module, run: Path, prefix: str) -> None:
    tensors, header = load_tensors(run / STATE)
    loop = read_toml(run / CONFIG).get("loop", {})
    # Of a run that was given minutes the state knows how many steps they are, once that is known.
    steps = loop.get("steps") or header.get("steps", 0)
    if header.get("step", 0) < steps or (loop.get("minutes") and not steps):
        raise UnfinishedError(
            f"{run}: is at step {header.get('step')} of {steps or 'a number not known yet'}; "
            "finish it with `worldmodel train`"
        )
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{run / STATE}: does not fit the config: {error}") from error
    if broken := broken_weight(model):
        raise CheckpointError(
            f"{run / STATE}: {broken} holds values that are not numbers; train it again in an "
            "empty folder, with lower learning rates"
        )
    model.requires_grad_(requires_grad=False).eval()
