from pathlib import Path

import pytest
import torch
from torch import Tensor

from worldmodel.config import load_config
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.wan.identify import recognise
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.transformer_cost import parameters
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
MATRIX = {
    "matrix-game2": (1114, 1_619_242_304),
    "matrix-game2-gta": (1114, 1_619_238_464),
    "matrix-game2-templerun": (964, 1_508_715_584),
    "forgewm": (1114, 1_619_246_144),
    "forgewm-base": (1399, 1_824_413_504),
}
# Of the universal model, as its file has them (a module of a layer, and what is outside layers).
SHAPES = {
    "patch_embedding.weight": (1536, 36, 1, 2, 2),
    "img_emb.proj.0.weight": (1280,),
    "img_emb.proj.1.weight": (1280, 1280),
    "img_emb.proj.3.weight": (1536, 1280),
    "img_emb.proj.4.bias": (1536,),
    "head.head.weight": (64, 1536),
    "blocks.29.cross_attn.k.weight": (1536, 1536),
    "blocks.14.action_model.mouse_mlp.0.weight": (1024, 1560),
    "blocks.14.action_model.mouse_mlp.2.weight": (1024, 1024),
    "blocks.14.action_model.mouse_mlp.3.weight": (1024,),
    "blocks.14.action_model.t_qkv.weight": (3072, 1024),
    "blocks.14.action_model.img_attn_q_norm.weight": (64,),
    "blocks.14.action_model.proj_mouse.weight": (1536, 1024),
    "blocks.14.action_model.keyboard_embed.0.weight": (128, 4),
    "blocks.14.action_model.keyboard_embed.2.weight": (128, 128),
    "blocks.14.action_model.mouse_attn_q.weight": (1024, 1536),
    "blocks.14.action_model.keyboard_attn_kv.weight": (2048, 1536),
    "blocks.14.action_model.key_attn_k_norm.weight": (64,),
    "blocks.14.action_model.proj_keyboard.weight": (1536, 1024),
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


@pytest.mark.parametrize("name", MATRIX)
def test_names_and_sizes_of_matrix_game_round_trip(name: str) -> None:
    """Sizes, the layers with an action module and the mouse are found in the tensors alone."""
    config, model = full_size(name)
    tensors = on_meta(model.state_dict())
    assert (len(tensors), sum(t.numel() for t in tensors.values())) == MATRIX[name]
    assert parameters(config) == MATRIX[name][1]
    assert config_of(tensors, "x") == config
    assert recognise(tensors, "x") == "transformer"
    if name == "matrix-game2":
        assert {key: tuple(tensors[key].shape) for key in SHAPES} == SHAPES
        assert "blocks.15.action_model.t_qkv.weight" not in tensors
    if name == "matrix-game2-templerun":
        assert not any("mouse_mlp" in key or "proj_mouse" in key for key in tensors)
    load_strict(model, tensors, "x")
    del tensors["blocks.3.action_model.key_attn_q_norm.weight"]
    with pytest.raises(CheckpointError, match=r"1 missing \(blocks\.3\.action_model\.key_attn_q_n"):
        load_strict(model, tensors, "x")


# What FastVideo's converter writes for some tensors of Matrix-Game 2 (its `matrixgame` module).
FASTVIDEO = {
    "patch_embedding.weight": "patch_embedding.proj.weight",
    "img_emb.proj.1.bias": "condition_embedder.image_embedder.ff.fc_in.bias",
    "img_emb.proj.4.weight": "condition_embedder.image_embedder.norm2.weight",
    "time_embedding.2.bias": "condition_embedder.time_embedder.mlp.fc_out.bias",
    "time_projection.1.weight": "condition_embedder.time_modulation.linear.weight",
    "head.modulation": "scale_shift_table",
    "blocks.3.modulation": "blocks.3.scale_shift_table",
    "blocks.3.self_attn.q.weight": "blocks.3.to_q.weight",
    "blocks.3.self_attn.norm_k.weight": "blocks.3.norm_k.weight",
    "blocks.3.self_attn.o.bias": "blocks.3.to_out.bias",
    "blocks.3.cross_attn.o.bias": "blocks.3.attn2.to_out.bias",
    "blocks.3.cross_attn.norm_q.weight": "blocks.3.attn2.norm_q.weight",
    "blocks.3.norm3.weight": "blocks.3.self_attn_residual_norm.norm.weight",
    "blocks.3.ffn.2.weight": "blocks.3.ffn.fc_out.weight",
    "blocks.3.action_model.t_qkv.weight": "blocks.3.action_model.t_qkv.weight",
}


@pytest.mark.parametrize("layout", ["diffusers", "patch", "fastvideo"])
def test_conversions_of_matrix_game_have_the_same_sizes(layout: str) -> None:
    """As diffusers would call it, with a patch of FastVideo's, or as FastVideo computes."""
    config, model = full_size("matrix-game2")
    tensors = on_meta(model.state_dict())
    theirs = {diffusers_name(name): tensor for name, tensor in tensors.items()}
    if layout != "diffusers":
        theirs["patch_embedding.proj.weight"] = theirs.pop("patch_embedding.weight")
        theirs["patch_embedding.proj.bias"] = theirs.pop("patch_embedding.bias")
    if layout == "fastvideo":
        theirs = {_fastvideo_name(name): tensor for name, tensor in theirs.items()}
        assert {released_name(there): there for there in theirs}.items() >= FASTVIDEO.items()
    assert len(theirs) == len(tensors)
    assert recognise(theirs, "x") == "transformer"
    back = released_names(theirs)
    assert config_of(back, "x") == config
    load_strict(model, back, "x")


def _fastvideo_name(name: str) -> str:
    for old, new in (
        (".attn1.", "."), (".to_out.0.", ".to_out."), (".net.0.proj.", ".fc_in."),
        (".net.2.", ".fc_out."), (".norm2.", ".self_attn_residual_norm.norm."),
        ("image_embedder.self_attn_residual_norm.norm", "image_embedder.norm2"),
        ("time_embedder.linear_1", "time_embedder.mlp.fc_in"),
        ("time_embedder.linear_2", "time_embedder.mlp.fc_out"),
        ("time_proj", "time_modulation.linear"),
    ):  # fmt: skip
        name = name.replace(old, new)
    return name


def test_wan_s_own_image_to_video_models_are_refused() -> None:
    _, model = full_size("matrix-game2")
    tensors = on_meta(model.state_dict())
    tensors["text_embedding.0.weight"] = torch.empty(1536, 4096, device="meta")
    with pytest.raises(CheckpointError, match="only Matrix-Game 2"):
        config_of(tensors, "x")


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
