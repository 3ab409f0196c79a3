"""The picture that a Matrix-Game session begins with: its features, and its latents."""

from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.wan import matrix_cases as cases
from tests.wan.image_tensors import released_shapes
from tests.wan.numbers import weights
from tests.wan.reference import GOLDEN
from tests.worlds.wan.wan_tiny import TINY_VAE
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.wan.identify import recognise
from worldmodel.wan.image_encoder import (
    ImageEncoder,
    ImageEncoderConfig,
    image_encoder_of,
    load_image_encoder,
    used_part,
)
from worldmodel.wan.pictures import (
    CHANGING,
    PictureCondition,
    encode_picture,
    load_pictures,
    save_pictures,
)
from worldmodel.wan.vae import WanVAE

VIT_H = ImageEncoderConfig(width=1280, layers=31, feed_forward=5120, patch=14, side=224)


def released(config: ImageEncoderConfig) -> dict[str, Tensor]:
    """A file of these sizes: one more layer, what comes after it, and a piece of the text half."""
    shapes = released_shapes(config, config.layers + 1)
    d = config.width
    shapes |= {"visual.post_norm.weight": (d,), "visual.post_norm.bias": (d,)}
    shapes["visual.head"] = (d, 8)
    found = weights(shapes, cases.GAIN)
    return {
        **found,
        "textual.token_embedding.weight": torch.zeros(3, 4),
        "log_scale": torch.ones(1),
    }


def test_features_equal_the_reference_encoder() -> None:
    """Resizing, which does not keep the shape, and all but the last layer."""
    encoder = image_encoder_of(released(cases.IMAGE_ENCODER), "x")
    expected = load_file(GOLDEN / "matrix_game2.safetensors")["features"]
    found = encoder.encode(cases.picture_bytes())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_every_tensor_of_the_file_is_accounted_for(tmp_path: Path) -> None:
    tensors = released(cases.IMAGE_ENCODER)
    assert recognise(tensors, "x") == "image encoder"
    used = used_part(tensors, "x")
    layer = [name for name in tensors if name.startswith("visual.transformer.2.")]
    left = {"visual.post_norm.weight", "visual.post_norm.bias", "visual.head"}
    left |= {*layer, "textual.token_embedding.weight", "log_scale"}
    assert tensors.keys() - used.keys() == left
    assert used_part(used, "x").keys() == used.keys()  # what was kept is not cut again
    save_tensors(tmp_path / "kept.safetensors", used, {})
    whole, kept = image_encoder_of(tensors, "x"), load_image_encoder(tmp_path / "kept.safetensors")
    picture = cases.picture_bytes()
    assert torch.equal(whole.encode(picture), kept.encode(picture))
    with pytest.raises(CheckpointError, match="x: extra is no tensor of CLIP"):
        used_part({**tensors, "extra": torch.zeros(1)}, "x")
    with pytest.raises(CheckpointError, match="1 unexpected"):
        image_encoder_of({**tensors, "visual.extra": torch.zeros(1)}, "x")
    del tensors["visual.pre_norm.bias"]
    with pytest.raises(CheckpointError, match="1 missing"):
        image_encoder_of(tensors, "x")


def test_a_conversion_for_transformers_gives_that_library_s_own_features() -> None:
    """`CLIPVisionModel` keeps q, k and v apart; its last layer is not used, as in Wan's file."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=80, num_hidden_layers=3, num_attention_heads=1, intermediate_size=96,
            image_size=28, patch_size=14, hidden_act="gelu",
        )
    ).eval()  # fmt: skip
    tensors = {f"vision_model.{name}": x for name, x in theirs.state_dict().items()}
    tensors["vision_model.embeddings.position_ids"] = torch.arange(5)  # in older files
    assert recognise(tensors, "x") == "image encoder"
    ours = image_encoder_of(tensors, "x")
    picture = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        expected = theirs(picture, output_hidden_states=True).hidden_states[2]
        torch.testing.assert_close(ours(picture), expected, rtol=1e-4, atol=1e-5)
    del tensors["vision_model.encoder.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(CheckpointError, match=r"[qkv]_proj\.weight"):
        image_encoder_of(tensors, "x")


def test_the_full_encoder_has_the_tensors_of_the_released_file() -> None:
    """392 of the picture's half, 632 076 800 numbers; of these 31 layers are needed."""
    encoder = ImageEncoder(VIT_H)
    shapes = released_shapes(VIT_H, VIT_H.layers + 1)
    behind = 2 * 1280 + 1280 * 1024  # post_norm, head
    assert sum(prod(shape) for shape in shapes.values()) + behind == 632_076_800
    assert len(shapes) + 3 == 392
    used = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    encoder.load({name: x for name, x in used.items() if ".31." not in name}, "x")
    with pytest.raises(CheckpointError, match="16 unexpected"):
        encoder.load(used, "x")


def test_latents_of_grey_stop_changing() -> None:
    """So play needs no more than that, however long it lasts."""
    torch.manual_seed(0)
    vae = WanVAE(TINY_VAE).eval().double()
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    longer = encode_picture(vae, picture, CHANGING + 4)
    assert torch.equal(longer[:CHANGING], encode_picture(vae, picture))
    change = (longer - longer[-1]).abs().amax(dim=(1, 2, 3))
    assert change[CHANGING - 1 :].max() == 0
    assert change[CHANGING - 2] > 0  # in fp64; a picture that play can tell from grey is long over
    assert change[:10].min() > 1e-3
    start = PictureCondition(torch.zeros(5, 20), longer[:CHANGING])
    assert torch.equal(start.channels(CHANGING - 2, 3, 4)[0, 2], start.channels(1000, 1, 4)[0, 0])


def test_a_mask_says_which_frame_is_the_picture() -> None:
    latents = torch.arange(4).float()[:, None, None, None].expand(4, 16, 2, 2)
    start = PictureCondition(torch.zeros(5, 20), latents)
    first, later = start.channels(0, 3, 4), start.channels(3, 3, 4)
    assert first.shape == later.shape == (1, 3, 20, 2, 2)
    assert first[0, :, 0, 0, 0].tolist() == first[0, :, 3, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert later[0, :, 0, 0, 0].tolist() == [0.0, 0.0, 0.0]
    assert first[0, :, 4, 0, 0].tolist() == [0.0, 1.0, 2.0]
    assert later[0, :, 19, 1, 1].tolist() == [3.0, 3.0, 3.0]


def test_pictures_are_kept_by_name_and_broken_ones_are_told(tmp_path: Path) -> None:
    path = tmp_path / "pictures.safetensors"
    pictures = {
        name: PictureCondition(torch.randn(5, 20), torch.randn(3, 16, 2, 4)) for name in "ab"
    }
    save_pictures(path, pictures)
    found = load_pictures(path)
    assert list(found) == ["a", "b"]
    assert torch.equal(found["b"].latents, pictures["b"].latents)
    for broken, told in (
        (PictureCondition(torch.full((5, 20), float("nan")), torch.zeros(3, 16, 2, 4)), "finite"),
        (PictureCondition(torch.zeros(20), torch.zeros(3, 16, 2, 4)), "tokens x width"),
        (PictureCondition(torch.zeros(5, 20, dtype=torch.int8), torch.zeros(3, 16, 2, 4)), "found"),
    ):
        save_pictures(path, {"a": broken})
        with pytest.raises(CheckpointError, match=told):
            load_pictures(path)
    save_tensors(path, {"picture.00000.features": torch.zeros(1)}, {"format": 1, "pictures": ["a"]})
    with pytest.raises(CheckpointError, match="expected features and latents of each"):
        load_pictures(path)
