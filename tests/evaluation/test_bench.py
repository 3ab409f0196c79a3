import json
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from worldmodel.evaluation.bench import bench, print_bench
from worldmodel.world import Frame
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
    assert line["gflop_per_frame"] > 0
    parts = sum(line["split_ms"].values())
    assert parts == pytest.approx(1000 / line["fps"], rel=0.8)
