"""The whole comparison, small: two runs of random weights against the real game."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data_sources.recorded_doom import record_doom
from tests.studies.distillation.make_run import DOOM_MODEL, make_run
from tests.worlds.make_world import make_world
from worldmodel.__main__ import main

pytest.importorskip("vizdoom")

ROWS = """
world = "{root}/world"
out = "{root}/docs/cost"
training_data = "{root}/data"
generalisation = ["one"]

[claims]
frame_wise = "one"
chunk_wise = "three"
consistency = "one"
regression = "gone"

[rows.one]
title = "frame by frame"
run = "{root}/runs/one"
sigmas = [1.0, 0.0]
stage2 = ["{root}/runs/one"]

[rows.three]
title = "three at a time"
run = "{root}/runs/three"
sigmas = [1.0, 0.5, 0.0]
stage2 = ["{root}/runs/three"]

[rows.held]
title = "three at a time, as played"
run = "{root}/runs/three"
sigmas = [1.0, 0.5, 0.0]
holds_actions = true
stage2 = ["{root}/runs/three"]

[rows.gone]
title = "never trained"
run = "{root}/runs/gone"
sigmas = [1.0, 0.0]
stage2 = ["{root}/runs/gone"]
"""
FLAGS = (
    "--clips 5 --drift-frames 200 --streams 1 --unseen-clips 4 "
    "--inverse-dynamics-clips 3 --inverse-dynamics-steps 3"
)
FIGURES = ("one", "three", "held", "real", "speed", "unseen")


def evaluate(root: Path, *more: str) -> int:
    flags = [*FLAGS.split(), "--speed-frames", "24", "--out", str(root / "pictures"), *more]
    return main(["evaluate", "--compare", str(root / "rows.toml"), *flags])


def kept(root: Path) -> dict[str, str]:
    return {n: (root / f"docs/cost/{n}.json").read_text(encoding="utf-8") for n in FIGURES}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare")
    make_world(root / "world", is_doom=True)
    make_run(root / "runs/one")
    chunks = replace(DOOM_MODEL, context_frames=6, sink_frames=3, chunk_frames=3)
    make_run(root / "runs/three", chunks, minutes=12.0)
    record_doom(root / "data", 400, 100)
    (root / "rows.toml").write_text(ROWS.format(root=root), encoding="utf-8")
    assert evaluate(root) == 0
    return root


def test_every_figure_is_on_the_page_and_rows_without_a_run_have_none(compared: Path) -> None:
    page = (compared / "docs/cost.md").read_text(encoding="utf-8")
    assert "- never trained: not run" in page
    lines = [line for line in page.splitlines() if line.startswith("| never trained")]
    assert lines == ["| never trained | gone: not run | – | – | – | none | – | – |"]
    figures = json.loads(kept(compared)["three"])
    mean = sum(figures["psnr"]["16"]) / len(figures["psnr"]["16"])
    assert any(
        line.startswith("| three at a time |") and f"{mean:.2f}" in line
        for line in page.splitlines()
    )
    assert {path.name for path in (compared / "docs/cost").glob("*.png")} == {
        "horizon.png",
        "cost.png",
        "drift.png",
    }
    assert {path.stem for path in (compared / "pictures").iterdir()} == {
        f"{name}{kind}" for name in ("one", "three", "held") for kind in ("", "_idle", "_random")
    }


def test_a_reader_that_cannot_read_the_real_game_is_none(compared: Path) -> None:
    assert json.loads(kept(compared)["real"])["turn_correlation"]["value"] < 0.5  # three steps
    page = (compared / "docs/cost.md").read_text(encoding="utf-8")
    assert "it has not learned to, and its columns mean nothing" in page


def test_random_weights_know_less_than_a_copy_of_the_last_frame(compared: Path) -> None:
    real, one = (json.loads(kept(compared)[name]) for name in ("real", "one"))
    assert max(one["next_psnr"]) < min(real["copy_psnr"])
    assert len(one["next_psnr"]) == len(real["copy_psnr"]) == len(real["limit_psnr"])
    assert len(one["curve"]) == 64
    assert set(one["drift"]) == {"idle", "random"}


def test_a_chunk_is_told_other_actions_where_it_is_played(compared: Path) -> None:
    figures = kept(compared)
    three, held = json.loads(figures["three"]), json.loads(figures["held"])
    assert three["weights"] == held["weights"]
    assert three["psnr"] != held["psnr"]


def test_the_latency_of_chunks_is_that_of_their_first_frame_and_the_wait(compared: Path) -> None:
    speeds = json.loads(kept(compared)["speed"])["rows"].values()
    assert len(speeds) == 2  # the two chunk-wise rows compute the same
    waits = sorted(speed["wait_ms"] for speed in speeds)
    assert waits == [0.0, 100.0]  # a frame of a world of 10 a second
    for speed in speeds:
        assert 0 < speed["first_frame_ms"] < speed["chunk_ms"]
        frames = 3 if speed["wait_ms"] else 1
        assert speed["frames_per_second"] == pytest.approx(
            1000 * frames / speed["chunk_ms"], rel=1e-3
        )


def test_methods_are_compared_on_the_one_engine_that_plays_them_all(compared: Path) -> None:
    kept_speeds = json.loads(kept(compared)["speed"])
    assert kept_speeds["reference"].keys() == kept_speeds["rows"].keys()
    engines = {speed["engine"] for speed in kept_speeds["reference"].values()}
    assert len(engines) == 1
    assert engines.pop().startswith("torch in ")
    page = (compared / "docs/cost.md").read_text(encoding="utf-8")
    (claim,) = (line for line in page.splitlines() if line.startswith("| first-frame latency"))
    assert "on the reference engine" in claim


def test_what_never_occurs_in_the_data_is_found_and_played(compared: Path) -> None:
    unseen = json.loads(kept(compared)["unseen"])
    assert "forward + back" in unseen["never"]
    assert "forward" not in unseen["never"]
    assert len(unseen["sets"]) == 4
    assert unseen["training_frames"] >= 400


def test_nothing_is_measured_twice_and_hand_written_words_stay(compared: Path) -> None:
    before, page = kept(compared), compared / "docs/cost.md"
    page.write_text(f"Before.\n{page.read_text(encoding='utf-8')}After.\n", encoding="utf-8")
    assert evaluate(compared) == 0
    assert kept(compared) == before
    text = page.read_text(encoding="utf-8")
    assert text.startswith("Before.\n# What distillation costs")
    assert text.endswith("After.\n")
    assert text.count("### Speed") == 1


def test_other_weights_are_measured_again_and_other_rows_are_not(compared: Path) -> None:
    before = kept(compared)
    make_run(compared / "runs/one", seed=5)
    assert evaluate(compared, "--rows", "three") == 0
    page = (compared / "docs/cost.md").read_text(encoding="utf-8")
    assert "- frame by frame: trained again since it was measured" in page
    assert evaluate(compared, "--rows", "one") == 0
    after = kept(compared)
    assert after["three"] == before["three"]
    assert json.loads(after["one"])["psnr"] != json.loads(before["one"])["psnr"]


def test_figures_stay_when_the_run_is_gone_and_other_settings_are_told_apart(
    compared: Path, tmp_path: Path
) -> None:
    (compared / "runs").rename(tmp_path / "runs")
    try:
        assert evaluate(compared) == 0
        page = (compared / "docs/cost.md").read_text(encoding="utf-8")
        assert "three at a time | 2, 3 frames together" in page
        assert evaluate(compared, "--seed", "5") == 0
        page = (compared / "docs/cost.md").read_text(encoding="utf-8")
        assert "- three at a time: measured with other settings" in page
    finally:
        (tmp_path / "runs").rename(compared / "runs")


def test_a_page_without_its_marks_is_left_alone(
    compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = compared / "docs/cost.md"
    whole = page.read_text(encoding="utf-8")
    page.write_text("All mine.\n", encoding="utf-8")
    assert evaluate(compared) == 2
    assert "marks" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == "All mine.\n"
    page.write_text(whole, encoding="utf-8")


def test_a_row_that_there_is_not_is_named(
    compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(compared, "--rows", "four") == 2
    assert "no row 'four'; it has one, three" in capsys.readouterr().err
