import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.worlds.wan_tiny import make_wan_world
from worldmodel.__main__ import main
from worldmodel.config import ConfigError, UserError
from worldmodel.evaluation import wan_bench as module
from worldmodel.evaluation.wan_bench import (
    WanPlan,
    check_windows,
    choose_steps,
    load_size,
    wan_bench,
)
from worldmodel.wan.config import WanConfig

TINY = WanPlan(
    config=WanConfig(width=64, heads=2, layers=2, feed_forward=96, text_width=12, time_features=16),
    device=torch.device("cpu"),
    windows=(2, 4),
    steps=(1, 2),
    rows=4,
    columns=6,
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
    full = replace(TINY, config=load_size("wan-1.3b", 0), rows=60, columns=104, windows=(21,))
    monkeypatch.setattr(module, "free_bytes", lambda _: 8e9)
    assert "8.0 GB are free" in wan_bench("wan-1.3b", full)["not_measured"]
    monkeypatch.setattr(module, "free_bytes", lambda _: 1e12)
    monkeypatch.setattr(module, "product_rate", lambda *_: 100.0)
    result = wan_bench("wan-1.3b", full)
    assert "--layers 1" in result["not_measured"]
    assert all("fps" not in row and row["expected_fps"] > 0 for row in result["rows"])


def test_sizes_steps_and_windows_that_do_not_exist_are_named() -> None:
    assert load_size("wan-14b", 3).layers == 3
    with pytest.raises(UserError, match=r"knows the sizes wan-1\.3b, .*wan-14b"):
        load_size("wan-7b", 0)
    with pytest.raises(UserError, match="choose from 1, 2, 4"):
        choose_steps(3)
    assert choose_steps(0) == (1, 2, 4)
    with pytest.raises(ConfigError, match="multiples of block_frames"):
        check_windows([6, 7], block_frames=3)


def test_an_imported_world_is_measured_at_its_own_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_wan_world(tmp_path / "world")
    command = ["bench", "--world", str(folder), "--decoder", "taehv", "--steps", "1"]
    assert main([*command, "--device", "cpu", "--dtype", "float32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "48 x 32" in lines[0]
    assert json.loads(lines[-1])["rows"][0]["window"] == 21
