from dataclasses import replace
from pathlib import Path

import pytest
import torch

from studies.distillation.measure import check_chunk, draw_next_frames, played_actions
from studies.distillation.rows import (
    Comparison,
    Contender,
    Row,
    find_contender,
    read_comparison,
    sampler_of,
)
from studies.distillation.training_costs import cost_of, keep_records
from studies.distillation.yardstick import CLIP, PAST, STRIDE, YardstickPlan
from tests.studies.distillation.make_run import DOOM_MODEL, make_run
from tests.worlds.make_world import make_world
from worldmodel.config import ConfigError
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.rollout import Rollout
from worldmodel.worlds.world_folder import read_world_file

SAMPLER = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)
CHUNKS = replace(DOOM_MODEL, context_frames=6, sink_frames=3, chunk_frames=3)


def make_contender(
    folder: Path, model: ModelConfig = DOOM_MODEL, *, holds: bool = False
) -> Contender:
    run = make_run(folder / f"run{model.chunk_frames}", model)
    world = read_world_file(make_world(folder / "world", is_doom=True))
    row = Row(title="it", run=run, sigmas=SAMPLER.sigmas, holds_actions=holds)
    found = find_contender("it", row, world, 24, torch.float32)
    assert isinstance(found, Contender)
    return found


def test_a_run_that_is_not_there_or_not_finished_has_no_figures(tmp_path: Path) -> None:
    world = read_world_file(make_world(tmp_path / "world", is_doom=True))
    row = Row(title="it", run=tmp_path / "none", sigmas=(1.0, 0.0))
    assert find_contender("it", row, world, 24, torch.float32) == "not run"
    half = make_run(tmp_path / "half", steps=10, done=4)
    assert find_contender("it", replace(row, run=half), world, 24, torch.float32) == "not finished"
    small = make_run(tmp_path / "small", replace(DOOM_MODEL, latent_height=2))
    with pytest.raises(ConfigError, match="draws latents"):
        find_contender("it", replace(row, run=small), world, 24, torch.float32)


def test_a_row_without_levels_takes_the_teachers_steps() -> None:
    row = Row(title="teacher", run=Path("x"))
    teacher = sampler_of(row, SAMPLER, 48)
    assert (teacher.steps, teacher.renoise) == (48, False)
    plan = YardstickPlan(drift_frames=2000, teacher_drift_frames=450)
    assert (plan.long_frames(48), plan.long_frames(4)) == (400, 2000)


def test_a_row_trained_without_a_clean_pass_is_played_and_counted_so(tmp_path: Path) -> None:
    one = make_contender(tmp_path, DOOM_MODEL)
    row = replace(one.row, sigmas=(1.0, 0.5, 0.0), cache_from_last_step=True)
    cached = replace(one, row=row, sampler=sampler_of(row, SAMPLER, 24))
    assert cached.sampler.cache_from_last_step
    assert cached.passes == 2
    plain = replace(one, sampler=sampler_of(replace(row, cache_from_last_step=False), SAMPLER, 24))
    assert plain.passes == 3


@pytest.mark.parametrize("model", [DOOM_MODEL, CHUNKS], ids=["frame-wise", "chunk-wise"])
def test_next_frames_are_what_play_draws_after_the_true_ones(
    tmp_path: Path, model: ModelConfig
) -> None:
    one = make_contender(tmp_path, model)
    latents = torch.randn(2, CLIP, *model.latent_shape)
    actions = torch.randn(2, CLIP, model.buttons + 2)
    drawn = draw_next_frames(one, latents, actions)
    assert drawn.shape[:2] == (2, (CLIP - PAST) // STRIDE)
    chunk = model.chunk_frames
    for place in (0, 2):
        at = PAST + place * STRIDE
        play = Rollout(one.model, one.sampler, range(2))
        play.prime(latents[:, :at], actions[:, :at])
        for _ in range(place * one.sampler.steps):
            play._noise()  # what the places before have used
        expected = play.denoise(actions[:, at : at + chunk])[:, :1]
        assert torch.allclose(drawn[:, place : place + 1], expected, atol=1e-4)


def test_a_row_that_holds_actions_hears_only_the_first_of_each_chunk(tmp_path: Path) -> None:
    actions = torch.arange(8.0)[None, :, None]
    held = played_actions(make_contender(tmp_path, CHUNKS, holds=True), actions)
    assert held[0, :, 0].tolist() == [0, 0, 0, 3, 3, 3, 6, 6]
    assert played_actions(make_contender(tmp_path, CHUNKS), actions) is actions


def test_chunks_that_do_not_fit_the_places_are_refused(tmp_path: Path) -> None:
    five = replace(DOOM_MODEL, context_frames=10, sink_frames=0, chunk_frames=5)
    with pytest.raises(ConfigError, match="chunk_frames = 5"):
        check_chunk(make_contender(tmp_path, five))


def make_comparison(tmp_path: Path) -> Comparison:
    first, second = make_run(tmp_path / "runs/a"), make_run(tmp_path / "runs/b", minutes=4.5)
    rows = {"a": Row(title="A", run=second, stage2=(first,), stage3=(second,))}
    return Comparison(world="w", out=tmp_path / "out", rows=rows)


def test_costs_add_up_and_outlive_the_runs(tmp_path: Path) -> None:
    comparison = make_comparison(tmp_path)
    row, out = comparison.rows["a"], comparison.out
    assert cost_of(row.stage2, out) is None
    keep_records(comparison)
    assert {path.name for path in (out / "runs/a").iterdir()} == {
        "config.toml",
        "summary.json",
        "metrics.jsonl",
    }
    for run in comparison.runs:
        (run / "summary.json").unlink()
    keep_records(comparison)
    both = cost_of((*row.stage2, *row.stage3), out)
    assert both is not None
    assert (both.minutes, both.petaflops) == (7.5, 1.0)
    assert cost_of((*row.stage2, Path("runs/c")), out) is None


BROKEN = {
    "unknown row": ('generalisation = ["b"]', "no row 'b'"),
    "levels": ("[rows.c]\ntitle = 'C'\nrun = 'runs/c'\nsigmas = [0.5, 0.0]", r"rows\.c.*fall"),
    "names": ("[rows.c]\ntitle = 'C'\nrun = 'other/a'", "one name"),
    "key": ("[rows.c]\ntitle = 'C'\nrun = 'c'\nsigma = 1", "unknown key 'sigma'"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_wrong_file_of_rows_is_refused_and_says_why(tmp_path: Path, what: str) -> None:
    more, told = BROKEN[what]
    path = tmp_path / "compare.toml"
    head, tail = (more, "") if what == "unknown row" else ("", more)
    path.write_text(
        f"world = 'w'\nout = 'o'\n{head}\n[rows.a]\ntitle = 'A'\nrun = 'runs/a'\n{tail}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=told):
        read_comparison(path)


def test_the_shipped_rows_are_read() -> None:
    comparison = read_comparison(Path(__file__).parents[3] / "configs/doom/compare.toml")
    assert len(comparison.rows) >= 12
    assert not comparison.rows["teacher"].sigmas
    assert all(
        row.stage2 or row.stage3 for name, row in comparison.rows.items() if "teacher" not in name
    )
