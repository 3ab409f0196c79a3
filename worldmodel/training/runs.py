"""Finished runs: their averaged weights, for the stages after them and for export."""

from pathlib import Path

from torch import nn

from worldmodel.checkpoint import CheckpointError, load_tensors
from worldmodel.config import AutoencoderConfig, ModelConfig, build_config, read_toml
from worldmodel.model.autoencoder import Autoencoder, channels_last
from worldmodel.model.transformer import WorldTransformer
from worldmodel.training.loop import CONFIG, STATE, UnfinishedError


def load_autoencoder(run: Path) -> Autoencoder:
    """The autoencoder of a run of the stage `autoencoder`, or as the stage `decoder` left it."""
    table = read_toml(run / CONFIG)
    prefix = "ema."
    if table.get("stage") == "decoder":
        prefix = "ema.autoencoder."
        table = read_toml(Path(table["autoencoder"]) / CONFIG)
    where = f"{run / CONFIG}: model"
    model = Autoencoder(build_config(AutoencoderConfig, table.get("model", {}), where))
    _load_average(model, run, prefix)
    return channels_last(model)


def load_transformer(run: Path, config: ModelConfig) -> WorldTransformer:
    """The averaged weights of a run of the stage `teacher` or `student`, frozen."""
    model = WorldTransformer(config)
    _load_average(model, run, "ema.")
    return model


def _load_average(model: nn.Module, run: Path, prefix: str) -> None:
    tensors, header = load_tensors(run / STATE)
    steps = read_toml(run / CONFIG).get("loop", {}).get("steps", 0)
    if header.get("step", 0) < steps:
        raise UnfinishedError(
            f"{run}: is at step {header.get('step')} of {steps}; finish it with `worldmodel train`"
        )
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{run / STATE}: does not fit the config: {error}") from error
    model.requires_grad_(requires_grad=False).eval()
