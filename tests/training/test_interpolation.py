"""Weights on the line between two runs, as a run of their own."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.tiny_data import MODEL
from worldmodel.config import ConfigError, to_toml
from worldmodel.training.interpolation import WeightInterpolation, interpolate
from worldmodel.training.run_stage import run_stage
from worldmodel.training.runs import lineage, load_transformer
from worldmodel.training.train_loop import CONFIG, STATE


def between(recipe: Path, share: float = 0.75) -> WeightInterpolation:
    runs = recipe / "runs"
    return WeightInterpolation(
        stage="interpolation", student=runs / "dmd", start=runs / "student", share=share
    )


def test_the_weights_lie_between_those_of_both_runs(recipe: Path, tmp_path: Path) -> None:
    path, run = tmp_path / "interpolation.toml", tmp_path / "run"
    path.write_text(to_toml(between(recipe)), encoding="utf-8")
    summary = run_stage(path, run, threads=1)
    assert summary == json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["parameters"] > 0

    model = lineage(run).model
    begun, ended, found = (
        load_transformer(folder, model).state_dict()
        for folder in (recipe / "runs" / "student", recipe / "runs" / "dmd", run)
    )
    assert any(not torch.equal(begun[name], ended[name]) for name in ended)
    for name, weight in found.items():
        assert torch.allclose(weight, 0.25 * begun[name] + 0.75 * ended[name], atol=1e-6), name


def test_a_run_between_two_has_the_lineage_of_both(recipe: Path, tmp_path: Path) -> None:
    interpolate(between(recipe), tmp_path / "run")
    found, ended = lineage(tmp_path / "run"), lineage(recipe / "runs" / "dmd")
    assert set(found.runs) == {*ended.runs, tmp_path / "run"}
    assert found.runs[-1] == tmp_path / "run"
    assert found.teacher == ended.teacher
    assert found.autoencoder == ended.autoencoder


def test_runs_that_did_not_lead_to_one_another_are_refused(recipe: Path, tmp_path: Path) -> None:
    stranger = replace(between(recipe), start=recipe / "runs" / "ode")
    with pytest.raises(ConfigError, match=r"ode': expected a run that led to .*student"):
        interpolate(stranger, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_models_of_different_settings_have_nothing_between_them(
    recipe: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    text = (recipe / "runs" / "dmd" / CONFIG).read_text(encoding="utf-8")
    changed = text.replace(f"layers = {MODEL.layers}", f"layers = {MODEL.layers + 1}")
    assert changed != text
    (other / CONFIG).write_text(changed, encoding="utf-8")
    with pytest.raises(ConfigError, match="have models of different settings"):
        interpolate(replace(between(recipe), student=other), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_one_run_learned_is_added_to_another(recipe: Path, tmp_path: Path) -> None:
    """`ode` and `dmd` both began with the teacher's weights."""
    runs = recipe / "runs"
    added = replace(between(recipe), start=runs / "teacher", base=runs / "ode", share=1.0)
    interpolate(added, tmp_path / "run")
    model = lineage(tmp_path / "run").model
    before, after, base, found = (
        load_transformer(run, model).state_dict()
        for run in (runs / "teacher", runs / "dmd", runs / "ode", tmp_path / "run")
    )
    for name, weight in found.items():
        assert torch.allclose(weight, base[name] + after[name] - before[name], atol=1e-6), name
    assert lineage(tmp_path / "run").runs[-1] == tmp_path / "run"
    assert runs / "ode" in lineage(tmp_path / "run").runs
    with pytest.raises(ConfigError, match=r"student': expected a run that led to .*ode "):
        interpolate(replace(added, start=runs / "student"), tmp_path / "other")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_must_leave_something_of_both(share: float, recipe: Path) -> None:
    with pytest.raises(ConfigError, match=r"share .* must be above 0 and at most"):
        between(recipe, share)


def test_a_run_of_another_stage_is_left_alone(recipe: Path) -> None:
    run = recipe / "runs" / "dmd"
    before = [(run / name).read_bytes() for name in (CONFIG, STATE)]
    with pytest.raises(ConfigError, match="holds a run of another stage"):
        interpolate(between(recipe), run)
    assert [(run / name).read_bytes() for name in (CONFIG, STATE)] == before
