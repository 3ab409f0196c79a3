"""One command: everything is made, nothing twice, and what goes wrong on the way is survived."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.recipe.tiny_recipe import tiny_table, write_recipe
from worldmodel.action import IDLE
from worldmodel.config import ConfigError, UserError, read_toml
from worldmodel.recipe import maker as making
from worldmodel.recipe.ledger import FILE
from worldmodel.recipe.maker import Job, make
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.files import FileWriteError
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.training.run_stage import SUMMARY, run_stage
from worldmodel.training.runs import lineage, load_transformer
from worldmodel.training.train_loop import STATE, DivergedError
from worldmodel.training.verdict import FailedError
from worldmodel.world import step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_folder import TRANSFORMER, read_world_file

STEPS = ["data", "check", "autoencoder", "latents", "teacher", "student", "decoder", "world"]


def test_a_budget_that_is_overrun_says_by_how_much() -> None:
    assert making.budget_line(8.44, 20) == "[8.4 of 20 min, 11.6 left]"
    assert making.budget_line(21.6, 20) == "[21.6 of 20 min, 1.6 over]"


class Kitchen:
    """A recipe, where it is made, and what was said."""

    def __init__(self, folder: Path) -> None:
        (folder / "NOTICE").write_text("nothing to say")
        self.folder, self.root = folder, folder / "runs" / "squares"
        self.world = folder / "world"
        self.table = tiny_table(folder / "NOTICE")
        self.said: list[str] = []

    def make(self, **how: Any) -> None:
        job = Job(
            recipe=write_recipe(self.folder, self.table),
            root=self.root,
            out=self.world,
            device="cpu",
            threads=1,
            processes=1,
            **how,
        )
        self.said = []
        make(job, self.said.append)

    @property
    def begun(self) -> list[str]:
        """The steps that were not skipped."""
        told = [line.partition("] ")[2].split(": ") for line in self.said if "left]" in line]
        return [
            name for name in STEPS if any(t[0] == name and "unchanged" not in t[1] for t in told)
        ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Kitchen:
    """A recipe that was made once."""
    kitchen = Kitchen(tmp_path_factory.mktemp("kitchen"))
    kitchen.make()
    assert kitchen.begun == STEPS
    return kitchen


def states(kitchen: Kitchen) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in kitchen.root.rglob(STATE)}


def test_a_recipe_leaves_a_world_that_plays(done: Kitchen) -> None:
    world = NativeWorld.load(done.folder / "world", RunSettings(threads=1, dtype="float32"))
    first = world.reset(start=0, seed=0)
    assert first.shape == (8, 16, 3)
    assert len(world.starts) == 3
    shown = step(world, IDLE)
    assert shown.shape == first.shape
    palette = set(world.file.autoencoder.palette)
    assert {"5a5a5a", "dcb41e"} <= palette, "the game's two colours, besides those at edges"
    assert {bytes(pixel).hex() for pixel in shown.reshape(-1, 3)} <= palette


def test_the_same_command_skips_all_that_is_done(done: Kitchen) -> None:
    before = states(done)
    done.make()
    assert done.begun == []
    assert states(done) == before


def test_code_that_plays_is_asked_for_before_anything_is_recorded(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path)
    kitchen.table["gym"]["player"] = "tests.data_sources.squares:random_policy"
    with pytest.raises(UserError, match="add --allow-code"):
        kitchen.make()
    assert not (kitchen.root / "data").exists()


def test_a_changed_stage_is_trained_again_and_only_what_follows_from_it(done: Kitchen) -> None:
    before = states(done)
    done.table["stages"][2]["levels"] = 3
    done.make()
    assert done.begun == ["student", "decoder", "world"]
    after = states(done)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"student", "decoder"}
    assert read_toml(done.root / "student.toml")["levels"] == 3
    assert read_toml(done.root / "student.before" / "config.toml")["levels"] == 2


def test_a_recipe_can_play_a_share_of_what_dmd_changed(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path)
    autoencoder, teacher, student, _ = kitchen.table["stages"]
    loop = {**teacher["loop"], "steps": 4}
    whole = {"stage": "bidirectional", "clips": {"batch": 2, "frames": 6, "known": 2}, "loop": loop}
    dmd = {"stage": "dmd", "rollouts": {"batch": 2, "frames": 8}, "critic_learning_rate": 1e-3}
    longer = {**loop, "steps": 12, "learning_rate": 1e-2}  # until the student has moved
    kitchen.table["stages"] = [autoencoder, teacher, student, whole, {**dmd, "loop": longer}]
    kitchen.table["play"]["dmd_share"] = 0.5
    kitchen.make()
    drawn, begun = (lineage(kitchen.root / run).model for run in ("interpolation", "student"))
    assert drawn == begun
    halfway, student_s, dmd_s = (
        load_transformer(kitchen.root / run, drawn).state_dict()
        for run in ("interpolation", "student", "dmd")
    )
    assert any(not torch.equal(student_s[name], dmd_s[name]) for name in dmd_s)
    for name, weight in halfway.items():
        assert torch.allclose(weight, (student_s[name] + dmd_s[name]) / 2, atol=1e-6), name
    world = read_world_file(tmp_path / "world")
    assert world.training["interpolation"]["share"] == 0.5

    kitchen.table["play"]["dmd_share"] = 0.75
    before = world.sha256[TRANSFORMER]
    kitchen.make()
    assert kitchen.begun == ["world"], "nothing is trained again for it"
    assert read_world_file(tmp_path / "world").sha256[TRANSFORMER] != before


def test_every_stage_can_be_run_again_by_itself(done: Kitchen, tmp_path: Path) -> None:
    for stage in ("autoencoder", "teacher", "student", "decoder"):
        table = read_toml(done.root / f"{stage}.toml")
        assert table["stage"] == stage
    summary = run_stage(done.root / "student.toml", tmp_path / "student", threads=1)
    assert summary["steps"] == 24


def test_a_world_of_any_game_is_held_against_its_unseen_episodes(
    done: Kitchen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {
        "clips": 2,
        "next_clips": 4,
        "inverse_dynamics_clips": 2,
        "inverse_dynamics_steps": 3,
        "teacher_steps": 2,
    }
    monkeypatch.setitem(done.table, "evaluate", few)
    done.make()
    measured = read_world_file(done.world).measured
    assert measured["next_frame"]["limit_psnr"] > measured["next_frame"]["copy_psnr"]
    assert list(measured["rollout"]["student, 1 step"]["psnr"]) == ["1", "8", "16", "32"]
    heading = next(line for line in capsys.readouterr().out.splitlines() if "free roll" in line)
    assert heading.split("frame")[1].split()[:5] == ["1", "8", "16", "32", "sharp"]
    assert (done.root / "evaluation" / "rollouts.png").exists()

    aside = sorted((done.root / "data" / "heldout").glob("*.safetensors"))[1]
    aside.rename(done.folder / "aside")
    monkeypatch.setitem(done.table, "evaluate", {**few, "inverse_dynamics_steps": 4})
    done.make()
    (done.folder / "aside").rename(aside)
    assert any("NOT MEASURED" in line and "holds one episode" in line for line in done.said)


def test_latents_say_themselves_how_much_they_change(done: Kitchen) -> None:
    change = read_toml(done.root / "teacher.toml")["model"]["frame_change"]
    assert json.loads((done.root / FILE).read_text())["autoencoder"]["change"] == change != 1.0


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def failing(times: int, error: Callable[[], BaseException], stage: str) -> Any:
    """`run_stage`, which fails a few times in one stage."""
    left = [times]

    def run(path: Path, *rest: Any, **how: Any) -> dict[str, Any]:
        if path.stem == stage and left[0]:
            left[0] -= 1
            raise error()
        return run_stage(path, *rest, **how)

    return run


def test_a_recipe_that_was_killed_goes_on(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "run_stage", failing(1, KeyboardInterrupt, "student"))
    with pytest.raises(KeyboardInterrupt):
        kitchen.make()
    before = states(kitchen)
    kitchen.make()
    assert kitchen.begun == ["student", "decoder", "world"]
    assert {name: when for name, when in states(kitchen).items() if name in before} == before


def test_what_breaks_in_a_stage_is_tried_again_in_another_way(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter(
        [
            DivergedError("the gradient is not finite"),
            torch.OutOfMemoryError("no memory"),
            FileWriteError("no space left"),
        ]
    )
    monkeypatch.setattr(making, "run_stage", failing(3, lambda: next(errors), "teacher"))
    kitchen.make()
    table = read_toml(kitchen.root / "teacher.toml")
    assert table["loop"]["learning_rate"] == pytest.approx(1.5e-3)
    assert table["loop"]["micro_batches"] == 2
    assert table["clips"]["batch"] == 2
    assert any("half" in line or "0.5 times" in line for line in kitchen.said)
    assert any("MB that can be made again were removed" in line for line in kitchen.said)
    assert load_tensors(kitchen.root / "teacher" / STATE)[1]["step"] == 24


def test_an_autoencoder_that_shows_nothing_ends_the_recipe(kitchen: Kitchen) -> None:
    stage = kitchen.table["stages"][0]
    stage["loop"] = {**stage["loop"], "steps": 2}
    for _ in range(2):  # nor does the same command take it for done
        with pytest.raises(FailedError, match=r"a copy of the frame before at .* Look at .*\.png"):
            kitchen.make()
        assert kitchen.begun[-1] == "autoencoder"
    assert not (kitchen.root / "teacher").exists()
    assert not (kitchen.folder / "world").exists()


def test_it_ends_with_a_verdict_numbers_and_a_picture_and_praises_nothing_weak(
    done: Kitchen,
) -> None:
    done.make()
    assert [line.split(":")[0].strip() for line in done.said[-4:-1]] == [
        "verdict",
        "numbers",
        "picture",
    ]
    summary = done.root / "student" / SUMMARY
    before = summary.read_bytes()
    for verdict, said in (("good: it is", "play it with"), ("weak: it is not", "before you play")):
        table = {**json.loads(before), "verdict": verdict}
        summary.write_text(json.dumps(table), encoding="utf-8")
        done.make()
        assert said in done.said[-1]
        assert f"verdict: {verdict}" in done.said
    summary.write_bytes(before)


def test_more_minutes_help_a_stage_until_it_knows_its_steps(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def run(path: Path, *_: Any, **__: Any) -> None:
        given.append(read_toml(path)["loop"]["minutes"])
        raise ConfigError("too little")

    monkeypatch.setattr(making, "run_stage", run)
    stage = kitchen.table["stages"][0]
    stage["share"] = 1.0
    stage["loop"] = {key: value for key, value in stage["loop"].items() if key != "steps"}
    for minutes in (2.0, 20.0, 40.0):
        with pytest.raises(ConfigError, match="too little"):
            kitchen.make(minutes=minutes)
        if minutes == 20.0:  # what a run leaves that knows
            save_tensors(kitchen.root / "autoencoder" / STATE, {}, {"step": 9, "steps": 50})
    assert given[1] == pytest.approx(given[0] + 18, abs=0.5)
    assert given[2] == given[1]


def test_a_stage_that_always_breaks_is_given_up(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = failing(99, lambda: DivergedError("the gradient is not finite"), "autoencoder")
    monkeypatch.setattr(making, "run_stage", broken)
    with pytest.raises(UserError, match="given up after 4 attempts"):
        kitchen.make()


def test_a_disk_that_is_too_small_is_told_before_anything_begins(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Full)
    with pytest.raises(ConfigError, match=r"GB are needed, 0\.0 GB are free"):
        kitchen.make()
    assert not kitchen.root.exists()


def test_a_world_that_could_not_be_written_is_told_before_anything_begins(
    kitchen: Kitchen,
) -> None:
    (kitchen.folder / "world").touch()
    kitchen.world = kitchen.folder / "world" / "inside"
    with pytest.raises(FileWriteError, match="cannot be written"):
        kitchen.make()
    assert not kitchen.root.exists()


def test_a_world_that_would_replace_other_files_is_told_before_anything_begins(
    kitchen: Kitchen,
) -> None:
    kitchen.world = kitchen.folder / "mine"
    kitchen.world.mkdir()
    (kitchen.world / "thesis.txt").touch()
    with pytest.raises(FileWriteError, match="mine: holds files and is no world"):
        kitchen.make()
    assert not kitchen.root.exists()
    assert (kitchen.world / "thesis.txt").is_file()


def test_a_plan_says_when_each_step_begins_and_makes_nothing(kitchen: Kitchen) -> None:
    for stage, share in zip(kitchen.table["stages"], (4.0, 3.0, 2.0, 1.0), strict=True):
        stage["share"] = share
        stage["loop"] = {k: v for k, v in stage["loop"].items() if k != "steps"}
    kitchen.make(minutes=12.3, plans_only=True)
    minutes = {line.split()[2]: float(line.split()[3]) for line in kitchen.said[1:-1]}
    # 12.3 less 2 for the data and 0.3 for the world; a gym world is not measured.
    assert minutes == {
        "data": 2.0, "autoencoder": 4.0, "teacher": 3.0, "student": 2.0, "decoder": 1.0,
        "world": 0.3,
    }  # fmt: skip
    assert not kitchen.root.exists()
