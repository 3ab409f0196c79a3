import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.wan import cases
from tests.wan.numbers import uniform, weights
from tests.worlds.wan.wan_tiny import TINY_VAE
from worldmodel.config import ConfigError, UserError, build_config
from worldmodel.wan.streaming_decoder import LayerCaches
from worldmodel.wan.vae import WanVAE, load_vae
from worldmodel.wan.vae_config import WAN21_VAE, VaeConfig
from worldmodel.wan.vae_keys import diffusers_name, released_names
from worldmodel.wan.vae_layers import channels_last
from worldmodel.wan.weight_files import load_strict

GOLDEN = Path(__file__).with_name("golden")


def on_meta(config: VaeConfig) -> WanVAE:
    with torch.device("meta"):
        return WanVAE(config)


def diffusers_weights(config: VaeConfig) -> dict[str, Tensor]:
    """The numbers that the reference was filled with, under its own names."""
    shapes = {
        diffusers_name(config, name): tuple(tensor.shape)
        for name, tensor in on_meta(config).state_dict().items()
    }
    return weights(shapes, cases.VAE_GAIN)


@pytest.fixture(scope="module")
def vae() -> WanVAE:
    model = on_meta(cases.VAE)
    names = list(model.state_dict())
    tensors = diffusers_weights(cases.VAE)
    load_strict(model, released_names(cases.VAE, names, tensors), "numbers")
    channels_last(model)
    return model.eval()


def test_encoder_and_decoder_give_what_the_reference_gives(vae: WanVAE) -> None:
    golden = load_file(GOLDEN / "vae.safetensors")
    torch.testing.assert_close(
        vae.encode(uniform(cases.VIDEO, 0)), golden["latents"], rtol=0, atol=1e-5
    )
    frames = vae.decode(2 * uniform(cases.LATENTS, 0))
    torch.testing.assert_close(frames, golden["frames"], rtol=0, atol=1e-5)


def test_what_does_not_move_is_encoded_once_and_gives_the_same_latents(vae: WanVAE) -> None:
    """Grey after a picture, as an image-to-video model is told; then frames that move again."""
    frames = 4 * 34 + 1
    video = torch.zeros(1, 3, frames, 24, 32)
    video[:, :, 0] = uniform((1, 3, 24, 32), 1)
    video[:, :, -6:] = uniform((1, 3, 6, 24, 32), 2)
    steps = Counter[str]()
    layers = {"finest": vae.encoder.conv1, "coarsest": vae.encoder.head["2"]}
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: steps.update([name]))
        for name, layer in layers.items()
    ]
    found = vae.encode(video)
    for hook in hooks:
        hook.remove()
    assert steps["finest"] <= 11 < 28 <= steps["coarsest"] <= 34  # of 35
    parts, past = [], LayerCaches()
    with torch.no_grad():
        for chunk in (video[:, :, :1], *video[:, :, 1:].split(4, dim=2)):
            x = chunk.contiguous(memory_format=torch.channels_last_3d)
            for layer in (layer for level in vae.encoder.levels() for layer in level):
                x = layer(x, past)
            parts.append(x)
            past = LayerCaches(past.after)
        means = vae.conv1(torch.cat(parts, dim=2)).chunk(2, dim=1)[0]
    mean, std = (
        torch.tensor(x)[:, None, None, None] for x in (WAN21_VAE.latent_mean, WAN21_VAE.latent_std)
    )
    torch.testing.assert_close(found, (means - mean) / std, rtol=0, atol=1e-6)
    assert not torch.equal(found[:, :, -1], found[:, :, -3])


def test_a_stream_gives_the_frames_of_the_whole_clip_bit_for_bit(vae: WanVAE) -> None:
    latents = torch.randn(2, 16, 5, 3, 4)
    whole = vae.decode(latents)
    assert whole.shape == (2, 3, 17, 24, 32)
    one, other = vae.stream(), vae.stream()
    frames = []
    for latent in latents.split(1, dim=2):
        frames.append(one.decode(latent))
        other.decode(latent.flip(0))  # a second stream on the same weights disturbs nothing
    assert [part.shape[2] for part in frames] == [1, 4, 4, 4, 4]
    assert torch.equal(torch.cat(frames, dim=2), whole)


def test_the_stream_equals_one_pass_of_the_decoder_over_all_latents(vae: WanVAE) -> None:
    """Not by the same code path: the frames after the first are computed in a single call."""
    latents = torch.randn(1, 16, 4, 3, 4)
    streamed = vae.decode(latents)
    with torch.inference_mode():
        past = LayerCaches()
        first = vae.step(latents[:, :, :1], past)
        rest = vae.step(latents[:, :, 1:], LayerCaches(past.after))
    torch.testing.assert_close(torch.cat((first, rest), 2), streamed, rtol=0, atol=1e-5)


def test_a_frame_depends_on_its_own_and_earlier_latents_only(vae: WanVAE) -> None:
    latents = torch.randn(1, 16, 3, 3, 4)
    changed = latents.clone()
    changed[:, :, 2] += 1
    before, after = vae.decode(latents), vae.decode(changed)
    assert torch.equal(before[:, :, :5], after[:, :, :5])
    assert not torch.equal(before[:, :, 5:], after[:, :, 5:])


def test_a_saved_state_goes_on_bit_for_bit(vae: WanVAE, tmp_path: Path) -> None:
    latents = torch.randn(1, 16, 4, 3, 4).split(1, dim=2)
    stream = vae.stream()
    assert stream.state() == {}
    stream.decode(latents[0])
    stream.decode(latents[1])
    state = stream.state()
    save_file(state, tmp_path / "state.safetensors")
    expected = [stream.decode(latents[2]), stream.decode(latents[3])]
    for kept in (state, load_file(tmp_path / "state.safetensors")):
        other = vae.stream()
        other.load_state(kept)
        assert all(
            torch.equal(other.decode(latent), frames)
            for latent, frames in zip(latents[2:], expected, strict=True)
        )
    stream.load_state({})
    assert torch.equal(stream.decode(latents[0]), vae.decode(latents[0]))


def test_a_state_of_another_decoder_is_named(vae: WanVAE) -> None:
    stream = vae.stream()
    stream.decode(torch.randn(1, 16, 1, 3, 4))
    state = stream.state()
    wrong = {**state, "past.03": state["past.03"][:, :1]}
    with pytest.raises(
        UserError, match=r"past\.03 is \(1, 1, 3, 4, 32\), expected \(1, 2, 3, 4, 32"
    ):
        stream.load_state(wrong)
    del state["past.04"]
    with pytest.raises(UserError, match=r"past\.04 is missing"):
        stream.load_state(state)
    with pytest.raises(UserError, match=r"past\.00 is missing"):
        stream.load_state({"x": torch.zeros(1)})


@pytest.mark.parametrize("shape", [(16, 1, 3, 4), (1, 8, 1, 3, 4), (1, 16, 2, 3, 4)])
def test_a_latent_that_does_not_fit_is_refused(vae: WanVAE, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="expected b x 16 x 1 x h x w"):
        vae.stream().decode(torch.zeros(shape))


def test_a_stream_keeps_its_size(vae: WanVAE) -> None:
    stream = vae.stream()
    first = stream.decode(torch.zeros(1, 16, 1, 3, 4))
    with pytest.raises(UserError, match=r"1 x 16 x 1 x 4 x 4, expected 1 x 16 x 1 x 3 x 4"):
        stream.decode(torch.zeros(1, 16, 1, 4, 4))
    stream.decode(torch.zeros(1, 16, 1, 3, 4))  # the refusal spoiled nothing
    stream.reset()
    assert torch.equal(stream.decode(torch.zeros(1, 16, 1, 3, 4)), first)


def test_encoding_a_part_equals_the_part_of_the_encoding(vae: WanVAE) -> None:
    video = torch.rand(1, 3, 9, 24, 32) * 2 - 1
    whole = vae.encode(video)
    torch.testing.assert_close(vae.encode(video[:, :, :5]), whole[:, :, :2], rtol=0, atol=1e-6)
    assert vae.encode(video[:, :, :1]).shape == (1, 16, 1, 3, 4)


@pytest.mark.parametrize("shape", [(1, 3, 4, 24, 32), (1, 3, 5, 20, 32), (1, 1, 5, 24, 32)])
def test_a_video_that_cannot_be_encoded_says_why(vae: WanVAE, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"1 \+ a multiple of 4 frames"):
        vae.encode(torch.zeros(shape))


def test_the_released_names_and_diffusers_names_are_one_to_one() -> None:
    released = on_meta(WAN21_VAE).state_dict()
    assert len(released) == 194
    assert sum(tensor.numel() for tensor in released.values()) == 126_892_531
    assert released["decoder.upsamples.3.time_conv.weight"].shape == (768, 384, 3, 1, 1)
    assert released["decoder.upsamples.4.shortcut.weight"].shape == (384, 192, 1, 1, 1)
    assert released["encoder.middle.1.to_qkv.weight"].shape == (1152, 384, 1, 1)
    theirs = {diffusers_name(WAN21_VAE, name): tensor for name, tensor in released.items()}
    assert len(theirs) == 194
    assert "decoder.up_blocks.1.resnets.0.conv_shortcut.weight" in theirs
    assert not [name for name in theirs if re.search("residual|samples|middle|head", name)]
    back = released_names(WAN21_VAE, list(released), theirs)
    assert all(back[name] is tensor for name, tensor in released.items())


@pytest.mark.parametrize("layout", ["released", "diffusers"])
def test_a_file_of_either_layout_is_loaded(tmp_path: Path, vae: WanVAE, layout: str) -> None:
    path = tmp_path / "vae"
    if layout == "released":
        torch.save(vae.state_dict(), path)
    else:
        save_file(diffusers_weights(cases.VAE), path)
    latents = torch.randn(1, 16, 1, 3, 4)
    assert torch.equal(load_vae(path, cases.VAE).decode(latents), vae.decode(latents))


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    tensors = diffusers_weights(cases.VAE)
    del tensors["decoder.conv_in.bias"]
    save_file(tensors, tmp_path / "vae")
    with pytest.raises(UserError, match=r"1 missing \(decoder\.conv1\.bias\)"):
        load_vae(tmp_path / "vae", cases.VAE)


def test_bfloat16_stays_near_fp32_with_latent_statistics_unrounded(vae: WanVAE) -> None:
    half = on_meta(cases.VAE).to_empty(device="cpu").bfloat16().eval()
    half.load_state_dict(vae.state_dict())
    latents = torch.randn(1, 16, 3, 3, 4)
    frames = half.decode(latents)
    assert frames.dtype == torch.bfloat16
    assert (frames - vae.decode(latents)).abs().mean() < 0.02
    assert half.encode(torch.zeros(1, 3, 1, 24, 32)).dtype == torch.float32


def test_a_config_that_contradicts_itself_is_refused() -> None:
    table = {
        "width": 8,
        "multipliers": [1, 2],
        "blocks": 1,
        "time_halvings": [True],
        "latent_channels": 2,
        "latent_mean": [0, 0],
        "latent_std": [1, 1],
    }
    assert build_config(VaeConfig, table, "vae.toml").frames_per_latent == 2
    for key, value in (("time_halvings", [True, True]), ("latent_std", [1]), ("width", 0)):
        with pytest.raises(ConfigError, match=key):
            build_config(VaeConfig, {**table, key: value}, "vae.toml")


def test_encoding_says_how_far_it_is_only_where_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("worldmodel.system.progress.LINE_SECONDS", 0.0)
    vae, video = WanVAE(TINY_VAE).eval(), torch.zeros(1, 3, 5, 16, 16)
    silent = vae.encode(video)
    assert capsys.readouterr().err == ""
    assert torch.equal(vae.encode(video, desc="a picture"), silent)
    assert "a picture: 1 of 2 latent frames" in capsys.readouterr().err
