"""The whole evaluation, small, on a world of random weights against the real game."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from worldmodel.__main__ import main
from worldmodel.config import UserError
from worldmodel.evaluation.report import (
    Evaluation,
    EvaluationPlan,
    evaluate,
    headline,
    print_report,
    save_pictures,
)
from worldmodel.worlds.folder import check_weights, read_world_file, write_measured

pytest.importorskip("vizdoom")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    root = tmp_path_factory.mktemp("evaluate")
    plan = EvaluationPlan(
        clips=2,
        drift_frames=200,
        seed=900_000,
        teacher_steps=3,
        next_clips=8,
        judge_clips=4,
        judge_steps=10,
    )
    measured = evaluate(str(make_world(root / "random", is_doom=True)), plan)
    save_pictures(measured, root / "out")
    return measured, root / "out"


def test_random_weights_predict_worse_than_copying(measured: tuple[Evaluation, Path]) -> None:
    evaluation, _ = measured
    near = evaluation.next_frame
    assert near.drawn["student, 2 steps"].psnr < near.copy.psnr
    assert math.isnan(near.gap_gained("student, 2 steps"))  # nor is there a gap to gain
    assert set(near.drawn) == {
        "student, 2 steps",
        "student, 1 step",
        "student, 4 steps",
        "teacher, 3 steps",
    }
    assert list(evaluation.rollouts) == list(near.drawn)


def test_the_figures_are_kept_in_the_world_itself(
    measured: tuple[Evaluation, Path], tmp_path: Path
) -> None:
    folder = make_world(tmp_path / "tiny")
    write_measured(folder, headline(measured[0]))
    kept = read_world_file(folder)
    check_weights(folder, kept)
    assert kept.measured == headline(measured[0])
    assert set(kept.measured["drift"]["idle"]["generated_detail"]) <= {
        round(window.detail, 2) for window in measured[0].drift["idle"].generated
    }


def test_every_row_is_in_the_table_and_in_the_last_line(
    measured: tuple[Evaluation, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation, out = measured
    print_report(evaluation)
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    table = "\n".join(lines[:-1])
    for name in evaluation.rollouts:
        assert name in table
        assert set(result["rollout"][name]["psnr"]) == {"1", "8", "16", "32", "64"}
    assert set(result["drift"]) == {"idle", "random"}
    assert {path.name for path in out.iterdir()} == {
        "rollouts.png",
        "drift_idle.png",
        "drift_random.png",
    }


def test_a_judge_that_reads_nothing_is_named_and_kept_out_of_the_world(
    measured: tuple[Evaluation, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = measured[0]
    able, blind = (
        replace(whole, real_reading=replace(whole.real_reading, turn_correlation=r))
        for r in (0.8, math.nan)
    )
    assert "turn_correlation" in str(headline(able))
    assert "frechet" in str(headline(able))
    for word in ("turn_correlation", "button_accuracy", "frechet"):
        assert word not in str(headline(blind))
    assert headline(blind)["rollout"].keys() == headline(able)["rollout"].keys()
    print_report(able)
    assert "has not learned to read" not in capsys.readouterr().out
    print_report(blind)
    assert "has not learned to read turning from real frames" in capsys.readouterr().out


def test_the_command_line_says_how_much_the_judge_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[EvaluationPlan] = []

    def note(name: str | None, plan: EvaluationPlan) -> Evaluation:
        del name
        plans.append(plan)
        raise UserError("enough")

    monkeypatch.setattr("worldmodel.evaluation.report.evaluate", note)
    assert main(["evaluate"]) != 0
    assert main(["evaluate", "--judge-clips", "5", "--judge-steps", "7"]) != 0
    assert [(plan.judge_clips, plan.judge_steps) for plan in plans] == [(320, 1200), (5, 7)]
