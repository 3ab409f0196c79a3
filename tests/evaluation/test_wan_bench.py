import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.worlds.wan import matrix_tiny, wan_tiny
from tests.worlds.wan.wan_tiny import make_wan_world, save_student, save_taehv, save_vae, save_words
from worldmodel.__main__ import main
from worldmodel.action import IDLE
from worldmodel.config import ConfigError, UserError
from worldmodel.evaluation import wan_bench as module
from worldmodel.evaluation.wan_bench import wan_bench
from worldmodel.evaluation.wan_bench_plan import (
    WanPlan,
    choose_steps,
    load_size,
    plan_of,
    played_as_released,
)
from worldmodel.model.counting import count
from worldmodel.wan.float8 import FLOAT8
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.world import step
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.importer import import_files
from worldmodel.worlds.wan.world import WanWorld

TINY_CHUNK = WindowConfig(rows=4, columns=6)
TINY = WanPlan(
    config=WanConfig(width=64, heads=2, layers=2, feed_forward=96, text_width=12, time_features=16),
    device=torch.device("cpu"),
    windows=(2, 4),
    steps=(1, 2),
    chunk=TINY_CHUNK,
    dtype="float32",
    decoders=("taehv",),
)


def test_every_window_and_number_of_steps_is_measured_with_decoding() -> None:
    result = wan_bench("tiny", TINY)
    assert [(row["window"], row["steps"]) for row in result["rows"]] == [
        (2, 1), (2, 2), (4, 1), (4, 2)
    ]  # fmt: skip
    assert not result["not_measured"]
    for row in result["rows"]:
        assert row["fps"] > 0
        assert row["action_to_frame_ms"] >= row["denoise_ms"]
        assert row["decode_ms"] > 0
        assert 0 <= row["efficiency"] < 1
    json.dumps(result)


def test_a_machine_that_is_too_small_or_too_slow_says_so_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_measure", lambda *_: pytest.fail("measured"))
    full = replace(
        TINY,
        config=load_size("wan-1.3b", 0),
        chunk=WindowConfig(rows=60, columns=104),
        windows=(21,),
    )
    monkeypatch.setattr(module, "free_bytes", lambda _: 8e9)
    assert "8.0 GB are free" in wan_bench("wan-1.3b", full)["not_measured"]
    monkeypatch.setattr(module, "free_bytes", lambda _: 1e12)
    monkeypatch.setattr(module, "product_rate", lambda *_: 100.0)
    result = wan_bench("wan-1.3b", full)
    assert "--layers 1" in result["not_measured"]
    assert all("fps" not in row and row["expected_fps"] > 0 for row in result["rows"])


def test_sizes_steps_and_windows_that_do_not_exist_are_named() -> None:
    assert load_size("wan-14b", 3).layers == 3
    with pytest.raises(UserError, match=r"knows the sizes .*wan-1\.3b, .*wan-14b"):
        load_size("wan-7b", 0)
    with pytest.raises(UserError, match="choose from 1, 2, 4"):
        choose_steps(3)
    assert choose_steps(0) == (1, 2, 4)
    with pytest.raises(ConfigError, match="at least chunk_frames"):
        replace(TINY, windows=(6, 2), chunk=replace(TINY_CHUNK, chunk_frames=3))
    with pytest.raises(ConfigError, match="a multiple of chunk_frames"):
        replace(TINY_CHUNK, chunk_frames=3, sink_frames=1)


def test_an_imported_world_is_measured_at_its_own_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_wan_world(tmp_path / "world")
    command = ["bench", "--world", str(folder), "--decoder", "taehv", "--steps", "1"]
    assert main([*command, "--device", "cpu", "--dtype", "float32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "48 x 32" in lines[0]
    assert json.loads(lines[-1])["rows"][0]["window"] == 18


@pytest.mark.parametrize("decoder", ["taehv", "vae"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, FLOAT8])
def test_memory_by_formula_is_that_of_a_world_that_is_played(
    tmp_path: Path, decoder: str, dtype: torch.dtype
) -> None:
    """Sinks are kept twice, and the decoder keeps what it remembers."""
    files = [save_student(tmp_path / "m.pt"), save_words(tmp_path / "w.safetensors")]
    files.append((save_taehv if decoder == "taehv" else save_vae)(tmp_path / "d.pth"))
    folder = tmp_path / "world"
    import_files(files, folder, replace(wan_tiny.plan(), dtype=dtype))
    world = WanWorld.load(folder, RunSettings(device="cpu", dtype="bfloat16", threads=1))
    world.reset(0, seed=0)
    for _ in range(8):
        step(world, IDLE)
    plan = plan_of(folder, replace(TINY, dtype="bfloat16", decoders=(decoder,), steps=(2,)))
    assert plan.chunk.sink_frames == 3
    found = plan.memory(plan.windows[0], decoder)
    session, parts = world.session, world.parts
    assert found.weights == sum(tensor.nbytes for tensor in parts.transformer.state_dict().values())
    cache = session.rollout.cache
    assert found.cache == cache.bytes == cache.frames.k.nbytes * 2 * (18 + 2 * 3) // (18 + 3)
    assert found.text == sum(k.nbytes + v.nbytes for k, v in cache.text)
    assert found.decoder == sum(tensor.nbytes for tensor in parts.decoder.parameters())
    assert found.remembered == sum(tensor.nbytes for tensor in session.stream.state().values())
    latent = torch.randn(1, 16, 1, 4, 6)
    with torch.inference_mode():
        decode = session.stream.decode
        cost = count(lambda: (decode(latent).sum(), decode(latent).sum()))
    assert cost.peak_bytes == pytest.approx(found.remembered + found.decoding, rel=0.1)


def test_float8_weights_and_sinks_are_measured_too() -> None:
    plan = replace(TINY, float8=True, chunk=replace(TINY_CHUNK, sink_frames=2), steps=(2,))
    plain, result = wan_bench("tiny", TINY), wan_bench("tiny", plan)
    for row, other in zip(result["rows"], plain["rows"][1::2], strict=True):
        assert row["fps"] > 0
        assert row["memory"]["weights"] < other["memory"]["weights"]
        assert row["memory"]["cache"] * row["window"] == other["memory"]["cache"] * (
            row["window"] + 4
        )
        assert row["tflop_a_chunk"] >= other["tflop_a_chunk"]


def test_a_model_with_keys_and_mouse_is_measured_as_it_is_played() -> None:
    plan = played_as_released("matrix-game2", replace(TINY, config=load_size("matrix-game2", 2)))
    assert (plan.chunk.rows, plan.chunk.columns, plan.chunk.chunk_frames) == (44, 80, 3)
    assert (plan.windows, plan.chunk.action_frames, plan.steps) == ((6,), 6, (3,))
    assert plan.levels[3] == pytest.approx((1.0, 0.9088, 0.714, 0.0), abs=1e-4)
    assert plan.config.actions is not None
    assert plan.config.actions.layers == (0, 1)
    tiny = replace(
        plan,
        config=matrix_tiny.size(layers=2),
        chunk=replace(plan.chunk, rows=4, columns=6),
    )
    (row,) = wan_bench("matrix-game2", tiny)["rows"]
    assert row["fps"] > 0
    assert row["action_to_frame_ms"] >= row["denoise_ms"]
    gta = played_as_released("matrix-game2-gta", tiny)
    (row,) = wan_bench("x", replace(gta, chunk=replace(gta.chunk, rows=4, columns=6)))["rows"]
    assert row["window"] == 4
    assert row["fps"] > 0
    assert played_as_released("wan-1.3b", TINY) == TINY
    base = played_as_released("forgewm-base", replace(TINY, config=load_size("forgewm-base", 0)))
    assert (base.chunk.rows, base.chunk.chunk_frames, base.windows, base.steps) == (
        44,
        3,
        (21,),
        (4,),
    )


def test_the_released_size_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """Expected figures and memory where nothing can be measured."""
    command = ["bench", "--world", "matrix-game2", "--random-weights", "--decoder", "taehv"]
    assert main([*command, "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("a chunk is shown for 1000 ms; a key waits until it ends" in line for line in lines)
    result = json.loads(lines[-1])
    (row,) = result["rows"]
    assert result["chunk_ms"] == 1000.0  # twelve frames, at twelve a second
    assert result["size"] == "640 x 352"
    assert row["memory"]["weights"] == 2 * 1_619_242_304
    frames = (
        30 * 880 * 1536 * 2 * 2 * 6
    )  # of layers, tokens, channels, key and value, bytes, window
    mouse, keys = (15 * places * 1024 * 2 * 2 * 6 for places in (880, 1))
    assert row["memory"]["cache"] == frames + mouse + keys
    assert row["expected_fps"] > 0
    assert "fps" not in row


def test_memory_by_formula_is_that_of_a_played_world_with_keys_and_mouse(tmp_path: Path) -> None:
    folder = matrix_tiny.make_matrix_world(tmp_path / "world", "matrix-game2-gta")
    world = WanWorld.load(folder, RunSettings(device="cpu", dtype="bfloat16", threads=1))
    world.reset(0, seed=0)
    for _ in range(24):
        step(world, IDLE)
    plan = plan_of(folder, replace(TINY, dtype="bfloat16"))
    assert (plan.windows, plan.chunk.action_frames, plan.steps) == ((4,), 4, (3,))
    found = plan.memory(plan.windows[0], "taehv")
    session, parts = world.session, world.parts
    assert found.weights == sum(tensor.nbytes for tensor in parts.transformer.state_dict().values())
    assert found.cache == session.rollout.cache.bytes
    assert found.text == sum(k.nbytes + v.nbytes for k, v in session.rollout.cache.text)
    assert found.remembered == sum(tensor.nbytes for tensor in session.stream.state().values())
