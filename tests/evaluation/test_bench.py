import json
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from worldmodel.evaluation.bench import bench, flop_per_frame, print_bench
from worldmodel.world import Frame
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.settings import Settings

KEYS = {
    "world", "device", "dtype", "threads", "torch", "fps", "latency_ms", "split_ms",
    "gflop_per_frame", "peak_gflops", "efficiency", "rss_mb", "steps",
}  # fmt: skip


def test_the_last_line_holds_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[Frame] = []
    settings = Settings(threads=1, dtype="float32")
    result = bench(str(make_world(tmp_path / "tiny")), settings, 10, shown.append, growth=False)
    print_bench(result)
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(line) >= KEYS
    assert set(line["latency_ms"]) == {"p50", "p95", "p99"}
    assert set(line["split_ms"]) == {"denoise", "clean", "decode", "present"}
    assert len(shown) == 50  # warm-up and measured frames were all shown
    assert 0 < line["efficiency"] < 1
    assert sum(line["split_ms"].values()) < 3 * 1000 / line["fps"]


def test_the_work_of_a_frame_is_counted_attention_included(tmp_path: Path) -> None:
    """Against a count by hand of the transformer's products, to which the decoder adds a little."""
    world = NativeWorld.load(make_world(tmp_path / "tiny"), Settings(threads=1, dtype="float32"))
    world.warm_up()
    model = world.file.transformer
    tokens, width, passes = model.tokens_per_frame, model.width, world.sampler.steps + 1
    seen = (model.context_frames + model.sink_frames) * tokens
    linear = (4 + 2 * model.feed_forward_ratio) * width * width * tokens
    attention = 2 * tokens * seen * width
    by_hand = passes * 2 * model.layers * (linear + attention)
    assert by_hand < flop_per_frame(world) < 2 * by_hand
