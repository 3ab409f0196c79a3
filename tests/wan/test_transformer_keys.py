from pathlib import Path

import pytest
import torch
from torch import Tensor

from worldmodel.config import load_config
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.wan.identify import recognise
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.transformer_keys import (
    config_of,
    diffusers_name,
    released_name,
    released_names,
)
from worldmodel.wan.weight_files import load_strict

SIZES = Path(__file__).parents[2] / "configs" / "wan"
# name of a size -> tensors, parameters
FULL = {
    "wan-1.3b": (825, 1_418_996_800),
    "wan-1.3b-action2v": (885, 1_489_821_760),
    "wan-14b": (1095, 14_288_491_584),
}


def full_size(name: str) -> tuple[WanConfig, WanTransformer]:
    config = load_config(WanConfig, SIZES / f"{name}.toml")
    with torch.device("meta"):
        return config, WanTransformer(config)


def on_meta(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the same shapes that are no parameters, as a file would hold them."""
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", FULL)
def test_names_and_sizes_of_the_full_models_round_trip(name: str) -> None:
    config, model = full_size(name)
    tensors = on_meta(model.state_dict())
    assert (len(tensors), sum(t.numel() for t in tensors.values())) == FULL[name]
    assert config_of(tensors, "x") == config
    assert recognise(tensors, "x") == "transformer"
    theirs = {diffusers_name(key): tensor for key, tensor in tensors.items()}
    assert len(theirs) == len(tensors)
    assert not theirs.keys() & {"text_embedding.0.weight", "head.head.weight"}
    back = released_names(theirs)
    assert {key: t.shape for key, t in back.items()} == {k: t.shape for k, t in tensors.items()}
    load_strict(model, back, "x")


def test_the_affine_norm_is_called_otherwise_in_diffusers() -> None:
    assert diffusers_name("blocks.3.norm3.weight") == "blocks.3.norm2.weight"
    assert released_name("blocks.3.norm2.bias") == "blocks.3.norm3.bias"
    assert released_name("scale_shift_table") == "head.modulation"
    assert released_name("blocks.0.scale_shift_table") == "blocks.0.modulation"


def test_an_image_to_video_model_is_refused_by_its_shapes() -> None:
    _, model = full_size("wan-1.3b")
    tensors = on_meta(model.state_dict())
    tensors["patch_embedding.weight"] = torch.empty(1536, 36, 1, 2, 2, device="meta")
    with pytest.raises(CheckpointError, match="36 latent channels"):
        config_of(tensors, "x.pt")


def test_a_file_of_something_else_shows_what_it_holds() -> None:
    with pytest.raises(CheckpointError, match=r"x\.pt: 1 tensors of an unknown model \(a\.weight"):
        recognise({"a.weight": torch.zeros(1)}, "x.pt")
