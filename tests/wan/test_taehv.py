from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.wan import cases
from tests.wan.numbers import uniform, weights
from worldmodel.config import ConfigError, UserError
from worldmodel.wan.streaming_decoder import LayerCaches
from worldmodel.wan.taehv import Taehv, load_taehv
from worldmodel.wan.taehv_config import TAEW2_1, TaehvConfig
from worldmodel.wan.vae_layers import channels_last
from worldmodel.wan.weight_files import load_strict

GOLDEN = Path(__file__).with_name("golden")
SMALL = TaehvConfig(
    encoder_width=6,
    decoder_widths=(12, 8, 6, 4),
    blocks=2,
    time_halvings=(2, 2, 1),
    time_doublings=(1, 2, 2),
    latent_channels=5,
)


def made(config: TaehvConfig) -> Taehv:
    with torch.device("meta"):
        tiny = Taehv(config)
    load_strict(tiny, numbers(tiny), "numbers")
    channels_last(tiny)
    return tiny.eval()


def numbers(tiny: Taehv) -> dict[str, Tensor]:
    shapes = {name: tuple(tensor.shape) for name, tensor in tiny.state_dict().items()}
    return weights(shapes, cases.TAEHV_GAIN)


@pytest.fixture(scope="module")
def tiny() -> Taehv:
    return made(SMALL)


def test_the_full_size_model_gives_what_the_reference_gives() -> None:
    tiny, golden = made(cases.TAEHV), load_file(GOLDEN / "taehv.safetensors")
    assert len(tiny.state_dict()) == 128
    assert sum(tensor.numel() for tensor in tiny.state_dict().values()) == 11_315_539
    latents = tiny.encode(uniform(cases.VIDEO, 0))
    torch.testing.assert_close(latents, golden["latents"], rtol=0, atol=1e-5)
    frames = tiny.decode(2 * uniform(cases.LATENTS, 0))
    torch.testing.assert_close(frames, golden["frames"], rtol=0, atol=1e-5)


def test_a_stream_gives_the_frames_of_the_whole_clip_bit_for_bit(tiny: Taehv) -> None:
    latents = torch.randn(2, 5, 4, 3, 4)
    whole = tiny.decode(latents)
    stream = tiny.stream()
    frames = [stream.decode(latent) for latent in latents.split(1, dim=2)]
    assert [part.shape[2] for part in frames] == [1, 4, 4, 4]
    assert torch.equal(torch.cat(frames, dim=2), whole)
    past = LayerCaches()
    with torch.inference_mode():  # all later latents in one call
        parts = [tiny.step(latents[:, :, :1], past)]
        parts.append(tiny.step(latents[:, :, 1:], LayerCaches(past.after)))
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=0, atol=1e-5)


def test_a_saved_state_goes_on_bit_for_bit(tiny: Taehv, tmp_path: Path) -> None:
    latents = torch.randn(2, 5, 3, 3, 4).split(1, dim=2)
    stream, other = tiny.stream(), tiny.stream()
    stream.decode(latents[0])
    stream.decode(latents[1])
    save_file(stream.state(), tmp_path / "state.safetensors")
    other.load_state(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(other.decode(latents[2]), stream.decode(latents[2]))
    with pytest.raises(UserError, match=r"past\.00 is"):
        made(replace(SMALL, decoder_widths=(10, 8, 6, 4))).stream().load_state(stream.state())


def test_a_clip_is_encoded_by_fours_its_last_frame_repeated(tiny: Taehv) -> None:
    video = torch.rand(1, 3, 9, 16, 24) * 2 - 1
    filled = torch.cat((video, video[:, :, -1:].expand(-1, -1, 3, -1, -1)), dim=2)
    latents = tiny.encode(video)
    assert latents.shape == (1, 5, 3, 2, 3)
    assert torch.equal(latents, tiny.encode(filled))
    torch.testing.assert_close(tiny.encode(video[:, :, :4]), latents[:, :, :1])
    with pytest.raises(UserError, match="divisible by 8"):
        tiny.encode(video[..., :-1])


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_files_are_loaded_and_may_make_more_frames_than_asked(
    tmp_path: Path, tiny: Taehv, kind: str
) -> None:
    path = tmp_path / "taehv"
    save = torch.save if kind == "pth" else save_file
    save({name: tensor.contiguous() for name, tensor in tiny.state_dict().items()}, path)
    latents = torch.randn(1, 5, 2, 3, 4)
    whole = tiny.decode(latents)
    assert torch.equal(load_taehv(path, SMALL).decode(latents), whole)
    preview = load_taehv(path, replace(SMALL, time_doublings=(1, 2, 1))).decode(latents)
    torch.testing.assert_close(preview, whole[:, :, ::2])  # every second frame, the last included
    with pytest.raises(UserError, match="unexpected"):
        load_taehv(path, replace(SMALL, blocks=1))


def test_the_release_has_these_names() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in Taehv(TAEW2_1).state_dict().items()}
    assert shapes["encoder.2.conv.weight"] == (64, 128, 1, 1)
    assert shapes["encoder.12.conv.weight"] == (64, 64, 1, 1)
    assert shapes["encoder.17.weight"] == (16, 64, 3, 3)
    assert shapes["decoder.3.conv.0.weight"] == (256, 512, 3, 3)
    assert shapes["decoder.7.conv.weight"] == (256, 256, 1, 1)
    assert shapes["decoder.13.conv.weight"] == (256, 128, 1, 1)
    assert shapes["decoder.19.conv.weight"] == (128, 64, 1, 1)
    assert shapes["decoder.22.weight"] == (3, 64, 3, 3)


def test_a_config_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="one number more"):
        replace(SMALL, decoder_widths=(12, 8, 6))
    with pytest.raises(ConfigError, match="above 0"):
        replace(SMALL, time_doublings=(0, 2, 2))
