"""Sessions that come, go and move between rows are those that are played alone, bit for bit."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, make_lively
from tests.training.tiny_data import AUTOENCODER
from worldmodel.engine import Engine, openvino
from worldmodel.engine.graphs import FrameInputs, FrameOutputs
from worldmodel.engine.openvino import OpenVinoEngine
from worldmodel.engine.rows import BatchedEngine, RowDecoder, RowEngine, most_of, sizes_of
from worldmodel.engine.saved_state import load_playing, save_playing
from worldmodel.engine.static_rollout import StaticRollout
from worldmodel.engine.torch_engine import CompiledEngine
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.transformer import WorldTransformer

CONFIG = replace(TINY, latent_channels=4, latent_width=4)
SAMPLER = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True, context_sigma=0.2, latent_step=0.25)
FRAMES, PAST = 14, 2  # window 3 and one sink make four slots: the ring wraps several times
JOINS, LEAVES = (0, 0, 3, 5, 6), (14, 4, 14, 9, 14)


def models() -> tuple[WorldTransformer, Autoencoder]:
    torch.manual_seed(0)
    model = make_lively(WorldTransformer(CONFIG)).eval().requires_grad_(False)
    return model, Autoencoder(AUTOENCODER).eval().requires_grad_(False)


@pytest.fixture(
    params=["openvino-float32", "openvino-bfloat16", "lanes-bfloat16", "torch-compiled-float32"]
)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Engine:
    monkeypatch.setattr(openvino, "cache_folder", lambda: tmp_path / "cache")
    name, _, dtype = request.param.rpartition("-")
    if name == "torch-compiled":
        return CompiledEngine(*models(), SAMPLER, dtype, torch.device("cpu"), fuse=False)
    pytest.importorskip("openvino")
    cores = 2 if name == "lanes" else 1
    return OpenVinoEngine(*models(), SAMPLER, dtype, threads=1, key="tiny", batch_threads=cores)


def script(seed: int) -> tuple[Tensor, Tensor]:
    """Latents of a past, and the actions in it and after it."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, PAST, *CONFIG.latent_shape, generator=generator)
    return latents, torch.randn(1, PAST + FRAMES, CONFIG.buttons + 2, generator=generator)


def begin(engine: Engine, seed: int) -> StaticRollout:
    latents, actions = script(seed)
    playing = engine.begin([seed])
    assert isinstance(playing, StaticRollout)
    playing.prime(latents, actions[:, :PAST])
    return playing


def alone(engine: Engine, seed: int, frames: int) -> tuple[list[Tensor], dict[str, Any]]:
    playing, drawn = begin(engine, seed), []
    for action in script(seed)[1][:, PAST : PAST + frames].split(1, dim=1):
        drawn.append(playing.denoise(action))
        playing.remember()
    return drawn, dict(save_playing(playing))


def test_sessions_that_join_and_leave_at_any_frame_are_those_played_alone(engine: Engine) -> None:
    assert isinstance(engine, RowEngine)
    rows = BatchedEngine(engine, engine.rows(5))
    playing: dict[int, StaticRollout] = {}
    drawn: dict[int, list[Tensor]] = {seed: [] for seed in range(5)}
    for tick in range(max(JOINS) + FRAMES):
        for seed, joins in enumerate(JOINS):
            if joins == tick:
                playing[seed] = begin(rows, seed)
        for seed, rollout in playing.items():
            rollout.ready(script(seed)[1][:, [PAST + len(drawn[seed])]])
        rows.run(list(playing.values()))
        for seed in list(playing):
            drawn[seed].append(playing[seed].take())
            playing[seed].remember()
            if len(drawn[seed]) == LEAVES[seed]:
                frames, state = alone(engine, seed, LEAVES[seed])
                assert all(map(torch.equal, drawn[seed], frames)), f"session {seed}"
                found = save_playing(playing.pop(seed))
                assert found.keys() == state.keys()
                assert all(np.array_equal(found[name], state[name]) for name in found)
    assert not playing
    assert not torch.equal(drawn[0][0], drawn[1][0]), "sessions that are all the same prove nothing"


def test_a_saved_session_goes_on_in_another_row_and_alone(engine: Engine) -> None:
    assert isinstance(engine, RowEngine)
    rows = BatchedEngine(engine, engine.rows(2))
    frames, _ = alone(engine, 3, FRAMES)
    first, other = begin(rows, 3), begin(rows, 4)
    actions = script(3)[1][:, PAST:].split(1, dim=1)
    for action in actions[:5]:
        first.denoise(action)
        first.remember()
    state = save_playing(first)
    for goes_on in (other, engine.begin([0])):
        load_playing(goes_on, state)
        for i in range(5, FRAMES):
            assert torch.equal(goes_on.denoise(actions[i]), frames[i]), i
            goes_on.remember()


def test_a_row_is_free_again_once_its_session_is_gone(engine: Engine) -> None:
    assert isinstance(engine, RowEngine)
    rows = BatchedEngine(engine, engine.rows(1))
    first = rows.begin([0])
    with pytest.raises(ValueError, match="all 1 rows are in use"):
        rows.begin([1])
    del first
    gc.collect()
    begin(rows, 1)
    with pytest.raises(ValueError, match="no row of a batch"):
        rows.run([engine.begin([0])])


def test_frames_decoded_together_are_those_decoded_one_by_one(engine: Engine) -> None:
    assert isinstance(engine, RowEngine)
    rows = BatchedEngine(engine, engine.rows(7))
    assert 1 in rows.pool.decoded
    generator = torch.Generator().manual_seed(3)
    latents = [torch.randn(1, 1, *CONFIG.latent_shape, generator=generator) for _ in range(7)]
    for count in (7, 5, 1):
        frames = rows.decode_all(latents[:count], [None] * count)
        assert len(frames) == count
        for latent, frame in zip(latents, frames, strict=False):
            assert np.array_equal(frame, engine.decode(latent)[0])


def test_rows_are_shared_among_programs_that_run_side_by_side() -> None:
    assert [most_of(8, lanes) for lanes in (1, 2, 4)] == [8, 4, 4]
    assert most_of(16, 2) == 8


def test_a_size_whose_frames_differ_is_not_decoded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = CompiledEngine(*models(), SAMPLER, "float32", torch.device("cpu"), fuse=False)
    exact = CompiledEngine.row_decoder

    def rounds_otherwise(self: CompiledEngine, count: int) -> RowDecoder | None:
        decoder = exact(self, count)
        assert decoder is not None

        def once() -> None:
            decoder.run()
            if count > 1:
                with torch.inference_mode():
                    decoder.frames[-1, 0, 0, 0] ^= 1

        return replace(decoder, run=once)

    monkeypatch.setattr(CompiledEngine, "row_decoder", rounds_otherwise)
    assert engine.rows(5).decoded == [1]


def test_a_size_that_is_not_exact_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = CompiledEngine(*models(), SAMPLER, "float32", torch.device("cpu"), fuse=False)
    exact = CompiledEngine.row_run

    def rounds_otherwise(
        self: CompiledEngine, inputs: FrameInputs, outputs: FrameOutputs
    ) -> Callable[[], None]:
        run = exact(self, inputs, outputs)

        def once() -> None:
            run()
            if len(inputs.actions) > 1:
                outputs.k[-1, 0, 0, 0, 0] *= 1 + 1e-6

        return once

    monkeypatch.setattr(CompiledEngine, "row_run", rounds_otherwise)
    assert engine.rows(5).sizes == [1]


def test_sizes_of_programs_waste_no_row() -> None:
    assert [sizes_of(rows) for rows in (1, 2, 5, 8)] == [[1], [2, 1], [4, 2, 1], [8, 4, 2, 1]]
