import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from tests.worlds.make_world import make_world
from worldmodel.config import ConfigError
from worldmodel.evaluation.bench_report import print_bench, print_comparison
from worldmodel.evaluation.machine_peak import measure_machine, products
from worldmodel.evaluation.random_world import parse_size
from worldmodel.evaluation.scaling import measure_sizes, print_sizes
from worldmodel.evaluation.speed import (
    apply_settings,
    bench,
    compare,
    flop_per_frame,
)
from worldmodel.world import Frame
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

KEYS = {
    "world", "device", "engine", "dtype", "threads", "torch", "fps", "latency_ms", "split_ms",
    "gflop_per_frame", "peak_gflops", "efficiency", "rss_mb", "steps",
}  # fmt: skip
TORCH = RunSettings(threads=1, dtype="float32", engine="torch")


@dataclass
class Wall:
    """A screen that only keeps what it is shown."""

    shown: list[Frame] = field(default_factory=list)
    convert_ms: float = 0.5
    present_ms: float = 0.25

    def show(self, frame: Frame) -> None:
        self.shown.append(frame)


def test_the_last_line_holds_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wall = Wall()
    result = bench(str(make_world(tmp_path / "tiny")), TORCH, 10, wall, soak=[60, 120, 60])
    print_bench(result)
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(line) >= KEYS
    assert set(line["latency_ms"]) == {"p50", "p95", "p99"}
    assert set(line["split_ms"]) == {"denoise", "clean", "decode", "convert", "present", "wait"}
    assert (line["split_ms"]["convert"], line["split_ms"]["present"]) == (0.5, 0.25)
    assert [row["frame"] for row in line["soak"]] == [60, 120]
    assert len(wall.shown) == 50 + 120  # warm-up, measured frames and the soak: all shown
    assert 0 < line["efficiency"] < 1


def test_two_settings_are_compared_in_turns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More denoising steps take longer, whatever else the machine does."""
    folder = str(make_world(tmp_path / "tiny"))
    result = compare(folder, TORCH, ("steps=1", "steps=8"), 80, Wall())
    print_comparison(result)
    assert result["ratio"] > 1.5
    assert result["ratio_range"][0] <= result["ratio"] <= result["ratio_range"][1]
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result


def test_a_comparison_gives_each_setting_its_own_threads(tmp_path: Path) -> None:
    seen: list[int] = []

    class Counting(Wall):
        def show(self, frame: Frame) -> None:
            del frame
            seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    pair = ("threads=2", "threads=1")
    result = compare(str(make_world(tmp_path / "tiny")), TORCH, pair, 60, Counting())
    torch.set_num_threads(before)
    assert "2 threads" in result["a"]["on"]
    assert "1 thread" in result["b"]["on"]
    assert seen[-60:] == ([2] * 20 + [1] * 20 + [2] * 20 + [1] * 20)[-60:]


def test_a_setting_that_does_not_exist_is_named() -> None:
    assert apply_settings(TORCH, "threads=2,dtype=bfloat16").threads == 2
    for text in ("speed=3", "threads", "threads=two", "engine=magic"):
        with pytest.raises(ConfigError, match=text.split("=")[0]):
            apply_settings(TORCH, text)


def test_the_work_of_a_frame_is_counted_attention_included(tmp_path: Path) -> None:
    """Against a count by hand of the transformer's products, to which the decoder adds a little."""
    world = NativeWorld.load(make_world(tmp_path / "tiny"), TORCH)
    model = world.file.transformer
    tokens, width, passes = model.tokens_per_frame, model.width, world.sampler.steps + 1
    seen = (model.context_frames + model.sink_frames) * tokens
    linear = (4 + 2 * model.feed_forward_ratio) * width * width * tokens
    attention = 2 * tokens * seen * width
    by_hand = passes * 2 * model.layers * (linear + attention)
    assert by_hand < flop_per_frame(world) < 2 * by_hand
    one_block = sum(2 * rows * inner * columns for rows, inner, columns in products(model))
    assert one_block == 2 * linear


def test_the_machine_is_measured_in_every_dtype(tmp_path: Path) -> None:
    world = NativeWorld.load(make_world(tmp_path / "tiny"), TORCH)
    machine = measure_machine(world.file.transformer, torch.device("cpu"))
    for rates in (machine.square, machine.model_shapes):
        assert set(rates) == {"float32", "bfloat16"}
        assert all(rate > 0 for rate in rates.values())
    assert machine.copy_gb_per_s > 0.1


def test_a_world_of_random_weights_is_measured_by_its_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = (
        "random:width=64,layers=1,head_width=32,rows=1,columns=2,channels=4,context=2,decoder=16"
    )
    results = measure_sizes([small, small.replace("layers=1", "layers=2")], TORCH, 5, Wall())
    assert results[1]["parameters"] > results[0]["parameters"]
    assert results[1]["gflop_per_frame"] >= results[0]["gflop_per_frame"]
    assert results[0]["frame_size"] == [16, 32]
    print_sizes(results)
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("text", ["99m", "width", "width=x", "depth=3", "layers=0", "decoder=12"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)
