"""Runs that differ in one thing take the same operations and end in one table."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from studies.ideas.ideas_page import ideas_table
from studies.ideas.try_ideas import PLAN, Ideas, read_ideas, try_ideas
from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, write_episodes
from worldmodel.__main__ import main
from worldmodel.config import ConfigError, merged, read_toml, to_toml
from worldmodel.training.run_stage import make_stage, read_stage, run_stage
from worldmodel.training.teacher_forcing import TeacherTraining
from worldmodel.training.train_loop import count_flops


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A file of ideas about a teacher, whose autoencoder is trained."""
    root = tmp_path_factory.mktemp("ideas")
    data = {
        "data": str(write_episodes(root / "data")),
        "heldout": str(write_episodes(root / "unseen", count=2, first=100)),
    }
    loop = {"learning_rate": 3e-3, "dtype": "float32", "warmup_steps": 2}
    autoencoder = {"stage": "autoencoder", **data, "model": asdict(AUTOENCODER), "batch": 8}
    config = root / "autoencoder.toml"
    config.write_text(to_toml({**autoencoder, "loop": {**loop, "steps": 150}}))
    run_stage(config, root / "autoencoder", threads=1)
    base = {
        "stage": "teacher",
        **data,
        "autoencoder": str(root / "autoencoder"),
        "actions": asdict(SPEC),
        "model": {**asdict(MODEL), "frame_change": 0.3},
        "clips": {"batch": 2, "frames": 6, "own_history": 0.5},
        "loop": loop,
    }
    return {
        "title": "Ideas",
        "petaflops": 5.2e-6,
        "seeds": [0, 1],
        "runs": str(root / "runs"),
        "out": str(root / "ideas.json"),
        "page": str(root / "ideas.md"),
        "figures": {"next_1": "next frame", "roll16_2": "frame 16"},
        "base": base,
        "ideas": {
            "copies": {"title": "four copies", "change": {"clips": {"copies": 4}}},
            "short": {
                "title": "short clips first",
                "first": {"clips": {"frames": 4}},
                "first_share": 0.5,
            },
            "student": {
                "title": "and its student",
                "first": {"stage": "teacher"},
                "begun_as": "teacher",
                "change": {"stage": "student"},
            },
            "shortcut": {"title": "shortcut forcing", "change": {"stage": "shortcut"}},
        },
    }


def write(table: Mapping[str, Any], folder: Path) -> Ideas:
    path = folder / "ideas.toml"
    path.write_text(to_toml(table))
    return read_ideas(path)


def test_every_run_takes_the_operations_that_it_was_given_and_a_dearer_step_means_fewer(
    table: dict[str, Any], tmp_path: Path
) -> None:
    plan = write(table, tmp_path)
    *_, outcomes = try_ideas(plan, threads=1)
    assert list(outcomes) == ["base-0", "base-1", "copies", "short", "student", "shortcut"]
    for found in outcomes.values():
        assert found.figures.keys() == plan.figures.keys()
    steps = {name: found.steps for name, found in outcomes.items()}
    assert steps["copies"] < steps["base-0"] == steps["base-1"] < steps["short"]
    costs = {}
    for name in ("base-0", "copies", "short.first", "short"):
        folder = plan.runs / name
        config = read_stage(folder / PLAN)
        assert isinstance(config, TeacherTraining)
        flops = count_flops(make_stage(config, folder), config.loop.dtype)
        costs[name] = flops * json.loads((folder / "summary.json").read_text())["steps"] / 1e15
    costs["short"] += costs.pop("short.first")
    for cost in costs.values():
        assert cost == pytest.approx(plan.petaflops, rel=0.2)

    # The same seed, so the same numbers: what differs between rows is the idea.
    assert outcomes["base-0"].figures != outcomes["base-1"].figures
    again = dict(list(try_ideas(plan, threads=1))[-1])
    assert again == outcomes, "nothing is trained twice"

    assert main(["ideas", str(tmp_path / "ideas.toml"), "--threads", "1"]) == 0
    page = plan.page.read_text()
    assert "four copies" in page
    assert "short clips first" in page


def test_a_second_part_begins_with_the_first_one_s_weights(
    table: dict[str, Any], tmp_path: Path
) -> None:
    plan = write(table, tmp_path)
    rest = read_toml(plan.runs / "short" / "config.toml")
    assert rest["start"] == str(plan.runs / "short.first")
    assert rest["clips"]["frames"] == table["base"]["clips"]["frames"]
    student = read_toml(plan.runs / "student" / "config.toml")
    assert (student["stage"], student["teacher"]) == ("student", str(plan.runs / "student.first"))


def test_a_gain_is_bold_only_beyond_what_seeds_differ_by(
    table: dict[str, Any], tmp_path: Path
) -> None:
    plan = write(table, tmp_path)
    *_, outcomes = try_ideas(plan, threads=1)
    seeds = [outcomes[f"base-{seed}"].figures["next_1"] for seed in (0, 1)]
    far, near = max(seeds) + 2 * abs(seeds[0] - seeds[1]) + 1e-3, sum(seeds) / 2
    outcomes["copies"].figures["next_1"], outcomes["short"].figures["next_1"] = far, near
    cells = {row.split(" | ")[0]: row.split(" | ")[3] for row in ideas_table(plan, outcomes)[2:]}
    assert cells["| four copies"].startswith("**+")
    assert cells["| short clips first"] == "+0.00"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": {"loop": {"steps": 5}}}, "follows from petaflops"),
        ({"base": {"stage": "world"}}, "no such stage|steps|unknown|expected"),
        ({"seeds": [3]}, "two at least"),
        ({"ideas": {"copies": {"change": {"clips": {"copies": 0}}}}}, "copies"),
        ({"ideas": {"copies": {"change": {}}}}, "changes nothing"),
        ({"figures": {"nothing": "no such figure"}}, "measures no nothing"),
        ({"petaflops": 1e-9}, "expected at least 20"),
        ({"ideas": {"../out": {"title": "out", "change": {"a": 1}}}}, "names a folder"),
        ({"ideas": {"a.first": {"title": "out", "change": {"a": 1}}}}, "names a folder"),
        ({"ideas": {"base-0": {"title": "base", "change": {"a": 1}}}}, "names a folder"),
    ],
)
def test_what_cannot_be_tried_is_told_in_one_sentence(
    table: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = merged(table, change)
    if "petaflops" in change:
        changed["runs"] = str(tmp_path / "runs")
    if change.get("ideas") == {"copies": {"change": {}}}:
        changed["ideas"]["copies"] = {"title": "nothing"}
    with pytest.raises(ConfigError, match=message):
        list(try_ideas(write(changed, tmp_path), threads=1))


def test_a_stage_that_cannot_begin_with_weights_is_refused_before_anything_is_trained(
    table: dict[str, Any], tmp_path: Path
) -> None:
    autoencoder = {"autoencoder", "actions", "model", "clips"}
    base = {key: value for key, value in table["base"].items() if key not in autoencoder}
    base |= {"stage": "autoencoder", "model": asdict(AUTOENCODER), "batch": 8}
    short = {"title": "small batches first", "first": {"batch": 4}}
    changed = {**table, "base": base, "ideas": {"short": short}, "runs": str(tmp_path / "runs")}
    with pytest.raises(ConfigError, match="start"):
        write(changed, tmp_path)


def test_a_run_of_another_config_is_not_mistaken_for_this_one(
    table: dict[str, Any], tmp_path: Path
) -> None:
    list(try_ideas(write(table, tmp_path), threads=1))
    changed = merged(table, {"base": {"clips": {"sigma_shift": 5.0}}})
    with pytest.raises(ConfigError, match="run of another config"):
        list(try_ideas(write(changed, tmp_path), threads=1))
