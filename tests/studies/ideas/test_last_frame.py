"""A decoder that is shown the last frame too begins where it was, and learns from it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from studies.ideas.last_frame import LastFrameStage, LastFrameTraining, encode_last_frames, widen
from tests.training.tiny_data import AUTOENCODER, write_episodes
from worldmodel.config import to_table, to_toml
from worldmodel.model.autoencoder import encode_frames
from worldmodel.storage.episodes import find_episodes, load_episode
from worldmodel.training.decoder import DecoderStage, DecoderTraining
from worldmodel.training.run_stage import run_stage
from worldmodel.training.runs import load_autoencoder
from worldmodel.training.stage import LoopConfig
from worldmodel.training.torch_streams import torch_stream

LOOP = LoopConfig(steps=20, learning_rate=3e-3, warmup_steps=5, dtype="float32")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("last")
    data, heldout = write_episodes(root / "data", 3), write_episodes(root / "unseen", 1, first=9)
    table = {"stage": "autoencoder", "data": str(data), "heldout": str(heldout), "batch": 8}
    table |= {"model": to_table(AUTOENCODER), "loop": to_table(LOOP)}
    (root / "autoencoder.toml").write_text(to_toml(table))
    run_stage(root / "autoencoder.toml", root / "autoencoder", threads=1, rehearses=True)
    return root


def test_a_wider_first_layer_answers_as_before() -> None:
    first = torch.nn.Conv2d(4, 6, 3, padding=1)
    x, last = torch.randn(2, 2, 4, 3, 5)
    torch.testing.assert_close(widen(first)(torch.cat((x, last), dim=1)), first(x))


def test_the_last_frame_is_the_one_before_and_a_first_frame_its_own(root: Path) -> None:
    autoencoder = load_autoencoder(root / "autoencoder")
    found = encode_last_frames(root / "data", 7, autoencoder)
    paths = find_episodes(root / "data")
    frames = [torch.from_numpy(load_episode(path).frames) for path in paths]
    expected = [encode_frames(autoencoder, x[None, [0, 6, 13]])[0] for x in frames]
    assert len(found) == sum(len(range(0, len(x), 7)) for x in frames)
    torch.testing.assert_close(found[:3], expected[0])
    torch.testing.assert_close(found[9:12], expected[1])


def test_it_begins_where_the_decoder_does_and_learns_from_the_last_frame(root: Path) -> None:
    shared: dict[str, Any] = {
        "data": root / "data",
        "heldout": root / "unseen",
        "batch": 8,
        "frame_stride": 3,
    }
    shared |= {"autoencoder": root / "autoencoder", "loop": LOOP}
    plain = DecoderStage(DecoderTraining(stage="decoder", **shared), root / "plain")
    stage = LastFrameStage(
        LastFrameTraining(stage="decoder_with_last_frame", **shared), root / "wide"
    )
    before = stage.sample(root, 0)
    frame = torch.randn(1, *AUTOENCODER.latent_shape)
    torch.testing.assert_close(stage.shown.decode(frame), plain.shown.decode(frame))
    assert before["heldout_psnr"] == pytest.approx(plain.sample(root, 0)["heldout_psnr"])
    optimizer = torch.optim.AdamW(stage.student.parameters(), lr=3e-3)
    for step in range(30):
        loss, _ = stage.loss(step, torch_stream("cpu", step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    first = stage.student.autoencoder.decoder.layers[0]
    assert isinstance(first, torch.nn.Conv2d)
    assert first.weight[:, AUTOENCODER.latent_channels :].abs().max() > 1e-3
    stage.ema.load_state_dict(stage.student.state_dict())
    assert stage.sample(root, 30)["heldout_psnr"] > before["heldout_psnr"]
