"""The whole evaluation, small, on a world of random weights against the real game."""

import json
import math
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from worldmodel.evaluation.report import Evaluation, EvaluationPlan, evaluate, print_report

pytest.importorskip("vizdoom")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    root = tmp_path_factory.mktemp("evaluate")
    plan = EvaluationPlan(
        clips=2,
        drift_frames=20,
        seed=900_000,
        teacher_steps=3,
        out=root / "out",
        next_clips=8,
        judge_clips=4,
        judge_steps=10,
    )
    return evaluate(str(make_world(root / "random", is_doom=True)), plan), root / "out"


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
