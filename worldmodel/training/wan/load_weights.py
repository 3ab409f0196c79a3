"""Where a network's weights come from: a world, a released file, or a finished run.

A run with LoRA keeps only what it trained; its frozen weights are those that it began with, and
both are put together here. So every stage begins with plain, whole weights, whatever came before.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from worldmodel.config import ConfigError, UserError, build_config, read_toml
from worldmodel.model.context import Device
from worldmodel.storage.checkpoint import CheckpointError, refuse_broken
from worldmodel.storage.tensor_files import open_tensors
from worldmodel.system.limits import LARGEST_WEIGHTS
from worldmodel.system.printable import shown
from worldmodel.training.torch_streams import seed_default
from worldmodel.training.train_loop import CONFIG, STATE, UnfinishedError
from worldmodel.training.wan.stage_config import WanModel
from worldmodel.wan.float8 import refuse_float8
from worldmodel.wan.lora import LoraConfig, adapted, merged
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.samplers import RECIPES
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.transformer_keys import released_names
from worldmodel.wan.vae import WanVAE, load_vae
from worldmodel.wan.vae_config import WAN21_VAE
from worldmodel.wan.weight_files import load_strict, read_tensors
from worldmodel.worlds.wan.world_file import TRANSFORMER, VAE, read_wan_world
from worldmodel.worlds.world_folder import WORLD_FILE

# The key of each stage's config that says what its network began with.
BEGINNINGS = {
    "teacher": "start",
    "bidirectional": "start",
    "student": "teacher",
    "ode": "teacher",
    "dmd": "student",
}
CAMERA = "self_attn.prope_o."  # the weights that a model without cameras lacks; zero at first


def load_network(path: Path, config: WanConfig, device: Device = "cpu") -> WanTransformer:
    """The fp32 weights at `path` in a transformer of these sizes, none of them trained yet."""
    with torch.device("meta"):
        model = WanTransformer(config)
    tensors = whole_weights(path, config)
    load_strict(model, tensors, str(path))
    # Copied: what stays mapped could change on disk, and a run's weights are written to.
    refuse_broken(tensors, str(path))
    own = {name: tensor.float().clone() for name, tensor in tensors.items()}
    model.load_state_dict(own, assign=True)
    return model.requires_grad_(requires_grad=False).to(device)


def make_student(base: WanTransformer, lora: LoraConfig | None, seed: int) -> WanTransformer:
    """A network that is trained: all of it, or small matrices beside it."""
    if lora is None:
        return base.requires_grad_(requires_grad=True)
    seed_default(seed)
    return adapted(base, lora)


def whole_weights(path: Path, config: WanConfig) -> dict[str, Tensor]:
    """Weights for these sizes; a model without cameras gets a branch for them that adds nothing."""
    tensors = weights_at(path)
    if not config.cameras or any(CAMERA in name for name in tensors):
        return tensors
    branch = {
        f"blocks.{layer}.{CAMERA}{kind}": torch.zeros(shape)
        for layer in range(config.layers)
        for kind, shape in (("weight", (config.width, config.width)), ("bias", (config.width,)))
    }
    return {**tensors, **branch}


def weights_at(path: Path) -> dict[str, Tensor]:
    """Whole weights under their released names."""
    if (path / CONFIG).is_file():
        return run_weights(path)
    if (path / WORLD_FILE).is_file():
        read_wan_world(path)
        tensors = read_tensors(path / TRANSFORMER)
        refuse_float8(tensors, str(path / TRANSFORMER), "trained")
        return tensors
    if path.is_dir():
        raise ConfigError(
            f"{path}: neither a world nor a finished run; name one, or a file of weights"
        )
    return released_names(read_tensors(path))


def check_sight(path: Path, key: str, *, whole: bool) -> None:
    """Refuse weights that are known to see clips otherwise than the config's `key` needs: whole
    ones, or chunks and their past.

    Tensors do not tell the two apart; a run's stage and an imported world's recipe do. Of a file
    of weights nothing is known.
    """
    if (path / CONFIG).is_file():
        kind = str(read_toml(path / CONFIG).get("stage"))
        is_whole = kind == "bidirectional"
    elif (path / WORLD_FILE).is_file() and (kind := read_wan_world(path).recipe) in RECIPES:
        is_whole = RECIPES[kind].is_whole
    else:
        return
    if is_whole != whole:
        sees = "sees whole clips" if is_whole else "sees no later frames"
        wanted = (
            "sees whole clips (`bidirectional`)" if whole else "goes chunk by chunk (`teacher`)"
        )
        raise ConfigError(
            f"{key} = {path}: it is of the kind {shown(kind)}, which {sees}; name a run or a "
            f"released model that {wanted}"
        )


def run_weights(run: Path) -> dict[str, Tensor]:
    """The averaged weights of a finished run, frozen and trained ones together."""
    table = read_toml(run / CONFIG)
    stage = str(table.get("stage"))
    try:
        if stage not in BEGINNINGS or table["model"]["kind"] != "wan":
            raise KeyError(stage)
        steps, begun = int(table["loop"]["steps"]), Path(table[BEGINNINGS[stage]])
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{run}: a run of the stage {shown(stage)}, which trains no Wan transformer"
        ) from error
    tensors = averaged(run, steps)
    if "lora" not in table:
        return tensors
    lora = build_config(LoraConfig, table["lora"], f"{run / CONFIG}: lora")
    model = build_config(WanModel, table["model"], f"{run / CONFIG}: model")
    try:
        before = whole_weights(begun, model.load_size())
    except RecursionError as error:
        raise ConfigError(f"{run}: a run that begins with itself") from error
    return merged({**before, **tensors}, lora)


def averaged(run: Path, steps: int) -> dict[str, Tensor]:
    """The moving average in a run's state, nothing else of it being read."""
    path, prefix = run / STATE, "ema."
    if not path.is_file():
        raise UnfinishedError(f"{run}: has no {STATE} yet; finish it with `worldmodel train`")
    try:
        with open_tensors(path, LARGEST_WEIGHTS, "pt") as file:
            step = int(json.loads((file.metadata() or {}).get("step", "0")))
            names = [name for name in list(file.keys()) if name.startswith(prefix)]
            tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except UserError:
        raise
    except (OSError, SafetensorError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a whole state of a run ({error})") from error
    if step < steps:
        raise UnfinishedError(
            f"{run}: is at step {step} of {steps}; finish it with `worldmodel train`"
        )
    return tensors


def load_autoencoder(path: Path) -> WanVAE:
    """The Wan autoencoder of a world or in a file."""
    if (path / WORLD_FILE).is_file():
        return load_vae(path / VAE, read_wan_world(path).vae)
    return load_vae(path, WAN21_VAE)
