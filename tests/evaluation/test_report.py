"""The whole evaluation, small, on a world of random weights against the real game."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from worldmodel.__main__ import main
from worldmodel.config import UserError
from worldmodel.evaluation.kept_parts import FILE, KeptParts, say_nothing
from worldmodel.evaluation.quality import Score
from worldmodel.evaluation.report import headline, print_report, summarise
from worldmodel.evaluation.whole_evaluation import Evaluation, EvaluationPlan, evaluate
from worldmodel.worlds.world_folder import check_weights, read_world_file, write_measured

pytest.importorskip("vizdoom")


SAID: list[str] = []
PLAN = EvaluationPlan(
    clips=2,
    drift_frames=200,
    seed=900_000,
    teacher_steps=3,
    next_clips=8,
    inverse_dynamics_clips=4,
    inverse_dynamics_steps=10,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    root = tmp_path_factory.mktemp("evaluate")
    world = str(make_world(root / "random", is_doom=True))
    measured = evaluate(world, PLAN, root / "out", SAID.append)
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
        FILE,
        "parts",
    }


def test_every_part_is_said_and_what_it_found_is_on_disk(
    measured: tuple[Evaluation, Path], tmp_path: Path
) -> None:
    begun = [line for line in SAID if line.endswith("…")]
    numbers = [line.split("]")[0].removeprefix("[").split("/") for line in begun]
    assert [int(number) for number, _ in numbers] == [*range(1, len(begun) + 1)]
    assert {total for _, total in numbers} == {str(len(begun))}, "it knows how many there are"
    kept = json.loads((measured[1] / FILE).read_text(encoding="utf-8"))
    assert kept.pop("parts") == f"{len(begun)} of {len(begun)}"
    whole = json.loads(json.dumps(summarise(measured[0])))
    assert {k: str(v) for k, v in kept.items()} == {k: str(v) for k, v in whole.items()}  # nan too

    parts = KeptParts(2, tmp_path, SAID.append)
    parts.keep("one", parts.take("one", "one", lambda: 1))

    def break_off() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.take("two", "two", break_off)
    assert json.loads((tmp_path / FILE).read_text()) == {"one": 1, "parts": "1 of 2"}


def test_an_evaluation_goes_on_where_it_was_stopped(
    measured: tuple[Evaluation, Path], tmp_path: Path
) -> None:
    """Stopped in every part, each is measured once, and the figures are those of one whole run."""
    world, out = str(measured[1].parent / "random"), tmp_path / "out"
    plan, total = replace(PLAN, drift_frames=0, only_student=True), 6
    for stopped in range(1, total + 1):
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)  # noqa: B023  # of this round
            if line.startswith(f"[{stopped}/") and line.endswith("…"):  # noqa: B023
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            evaluate(world, plan, out, say)
        begun = [line for line in said if line.endswith("…")]
        assert len(begun) == min(2, stopped), "the part that was stopped, and this one"
        assert all(line.endswith(("measured before", "again")) for line in said[: stopped - 2])
    last: list[str] = []
    found = evaluate(world, plan, out, last.append)
    assert [line for line in last if line.endswith("…")] == [last[total - 1]]
    assert str(summarise(found)) == str(summarise(evaluate(world, plan)))
    assert not (out / "parts" / "lessons.safetensors").exists()
    assert found.real_frames.equal(measured[0].real_frames)


@pytest.mark.parametrize("harm", ["cut", "another"])
def test_a_part_that_is_broken_or_of_another_stamp_is_measured_again(
    tmp_path: Path, harm: str
) -> None:
    first = KeptParts(1, tmp_path, say_nothing, "a", [Score])
    assert first.take("x", "x", lambda: Score(1.0, float("nan"))).psnr == 1.0
    path = tmp_path / "parts" / "x.safetensors"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    second = KeptParts(1, tmp_path, say_nothing, "a" if harm == "cut" else "b", [Score])
    assert second.take("x", "x", lambda: Score(2.0, 0.0)).psnr == 2.0


def test_only_what_an_evaluation_left_is_removed(tmp_path: Path) -> None:
    mine = tmp_path / "parts" / "engine.step"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(UserError, match="parts: holds files that no evaluation left there"):
        KeptParts(1, tmp_path, say_nothing, "a").begin()
    assert mine.read_text() == "mine"
    mine.unlink()
    first = KeptParts(1, tmp_path, say_nothing, "a")
    first.begin()
    first.take("x", "x", lambda: 1)
    mine.write_text("mine")
    KeptParts(1, tmp_path, say_nothing, "b").begin()
    assert {path.name for path in mine.parent.iterdir()} == {"engine.step", "stamp.txt"}


def test_no_gap_is_printed_where_there_is_none(
    measured: tuple[Evaluation, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(measured[0])
    table = capsys.readouterr().out
    assert "share of the gap" not in table
    assert "nan %" not in table
    assert "verdict: FAILED" in table
    near = measured[0].next_frame
    drawn = {name: replace(near.limit, psnr=20.0) for name in near.drawn}
    good = replace(near, copy=replace(near.copy, psnr=10.0), limit=near.limit, drawn=drawn)
    better = replace(good, limit=replace(near.limit, psnr=30.0))
    print_report(replace(measured[0], next_frame=better))
    table = capsys.readouterr().out
    assert "50 %" in table
    assert "verdict: good: next frame 20.0 dB, a copy of the last 10.0 dB" in table


def test_an_inverse_dynamics_model_that_reads_nothing_is_named_and_kept_out_of_the_world(
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


def test_where_nobody_turns_the_model_must_read_keys(
    measured: tuple[Evaluation, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    real = replace(measured[0].real_reading, turn_correlation=math.nan)
    for accuracy, is_blind in ((0.5, True), (math.nan, True), (0.9, False)):
        reading = replace(real, button_accuracy=accuracy)
        whole = replace(measured[0], real_reading=reading, turns=False)
        print_report(whole)
        said = capsys.readouterr().out
        assert ("has not learned to read keys from real frames" in said) == is_blind
        assert ("button_accuracy" in str(headline(whole))) != is_blind
        assert "nan" not in said.splitlines()[-1].replace("NaN", "")


@pytest.mark.parametrize(
    ("is_quick", "advice"), [(True, "without --quick"), (False, "--inverse-dynamics-c")]
)
def test_a_model_that_has_not_learned_is_told_with_a_flag_that_is_taken(
    is_quick: bool,
    advice: str,
    measured: tuple[Evaluation, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    blind = replace(measured[0].real_reading, turn_correlation=0.0)
    print_report(replace(measured[0], real_reading=blind, is_quick=is_quick))
    told = next(line for line in capsys.readouterr().out.splitlines() if "model has not" in line)
    assert advice in told
    assert ("--inverse-dynamics-clips" in told) != is_quick


def test_the_command_line_says_how_much_the_inverse_dynamics_model_learns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[EvaluationPlan] = []

    def note(name: str | None, plan: EvaluationPlan, *_: object) -> Evaluation:
        del name
        plans.append(plan)
        raise UserError("enough")

    monkeypatch.setattr("worldmodel.evaluation.whole_evaluation.evaluate", note)
    assert main(["evaluate"]) != 0
    assert main(["evaluate", "--inverse-dynamics-clips", "5", "--inverse-dynamics-steps", "7"]) != 0
    assert [(plan.inverse_dynamics_clips, plan.inverse_dynamics_steps) for plan in plans] == [
        (320, 1200),
        (5, 7),
    ]


@pytest.mark.parametrize("other", ["--write", "--places", "--clips 9", "--teacher-steps 2"])
def test_a_quick_look_takes_no_flag_that_it_would_ignore(
    other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--quick", *other.split()]) == 2
    assert f"--quick and {other.split()[0]}" in capsys.readouterr().err
