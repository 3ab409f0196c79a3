"""`bench --serve`: its players are real sockets, and its figures hang together."""

from tests.serve.drawn_world import DrawnWorld
from worldmodel.serve.bench import bench_served
from worldmodel.worlds.native import NativeWorld


def test_it_counts_the_players_and_their_frames(tiny: NativeWorld) -> None:
    found = bench_served(tiny, most=2, seconds=2.0)
    first = found["rows"][0]
    assert first["sessions"] == 1
    assert found["sessions_at_full_rate"] in (0, 1, 2)
    for row in found["rows"]:
        p50, p95, p99 = row["spacing_ms"]
        assert 0 < p50 <= p95 <= p99
        assert 0 < row["frames_per_second"] < 1.2 * tiny.frames_per_second
        assert 0 <= row["in_time"] <= 1
        assert row["cpu_ms_a_tick"] > 0
        assert row["memory_mb"] > 50
        assert 0 < row["first_frame_ms"][0] <= row["first_frame_ms"][1]


def test_a_world_of_one_session_has_one_row() -> None:
    found = bench_served(DrawnWorld(), most=8, seconds=1.0)
    assert [row["sessions"] for row in found["rows"]] == [1]
