"""Recipes: what they may say, and what follows from them."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.recipe.tiny_recipe import tiny_table, write_recipe
from worldmodel.config import ConfigError
from worldmodel.data_sources.parallel_record import record_together
from worldmodel.recipe.derive import budgeted, share_settings, source_of
from worldmodel.recipe.recipe_file import Recipe, read_recipe
from worldmodel.recipe.schedule_of_steps import share_of_rest
from worldmodel.storage.episodes import find_episodes, load_episode

ROOT = Path(__file__).parents[2]
SHIPPED = (
    "configs/siege/recipe.toml",
    "configs/doom/h200.toml",
)


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    return tiny_table(tmp_path / "NOTICE")


def read(tmp_path: Path, table: dict[str, Any]) -> Recipe:
    return read_recipe(write_recipe(tmp_path, table))


def test_without_a_student_the_teacher_is_played(tmp_path: Path, table: dict[str, Any]) -> None:
    assert read(tmp_path, table).played_stage == "student"
    stages = [stage for stage in table["stages"] if stage["stage"] != "student"]
    recipe = read(tmp_path, {**table, "stages": stages})
    assert recipe.played_stage == "teacher"
    shared = share_settings(recipe, tmp_path)
    assert shared.world({}, "")["student"] == str(tmp_path / "teacher")


def test_a_teacher_that_is_trained_longer_is_what_others_learn_from(
    tmp_path: Path, table: dict[str, Any]
) -> None:
    stages = table["stages"]
    teacher = next(stage for stage in stages if stage["stage"] == "teacher")
    place = stages.index(teacher) + 1
    longer = {**teacher, "stage": "teacher_longer"}
    recipe = read(tmp_path, {**table, "stages": [*stages[:place], longer, *stages[place:]]})
    shared = share_settings(recipe, tmp_path)
    parts = {part.stage: shared.config(part, 0.5) for part in recipe.parts}
    first, second = parts["teacher"], parts["teacher_longer"]
    assert second == {**first, "start": str(tmp_path / "teacher")}
    assert parts["student"]["teacher"] == str(tmp_path / "teacher_longer")


def test_what_a_recipe_cannot_mean_is_refused(tmp_path: Path, table: dict[str, Any]) -> None:
    stages = table["stages"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"doom": {"levels": ["my_way_home"]}}, "expected one game"),
        ({"minutes": 0.0}, "must be above 0"),
        ({"name": "/etc"}, "it becomes a folder's, expected no path, for instance _etc"),
        ({"name": "../squares"}, "expected no path"),
        ({"name": ".."}, "expected no path"),
        ({"name": ""}, "expected no path"),
        (
            {"evaluate": {"inverse_dynamics_clips": 0}},
            "inverse_dynamics_clips = 0: must be at least 1",
        ),
        ({"evaluate": {"minutes": -1.0}}, "minutes = -1.0: must be at least 0"),
        ({"stages": [{**stages[0], "stage": ["a"]}]}, r"stage 1: \['a'\]; choose from"),
        ({"stages": stages[1:]}, "teacher needs autoencoder before it"),
        ({"stages": [*stages, stages[3]]}, "decoder is there twice"),
        ({"stages": stages[:1]}, "needs the stages autoencoder and teacher at least"),
        ({"stages": [{**stages[0], "share": 1.0}]}, "a share of the minutes above 0, or steps"),
        ({"play": {**table["play"], "dmd_share": 0.5}}, "dmd_share = 0.5 needs the stage dmd"),
        ({"play": {**table["play"], "dmd_share": 0.0}}, "above 0 and at most 1"),
        ({"stages": [{**stages[0], "stage": "vae"}]}, "'vae'; choose from autoencoder"),
    ]
    for change, told in wrong:
        with pytest.raises(ConfigError, match=told):
            read(tmp_path, {**table, **change})


def test_a_recipe_names_the_numbers_that_are_recorded_beside_the_frames(
    tmp_path: Path, table: dict[str, Any]
) -> None:
    table["gym"]["state"] = {"place": "obs.0:position"}
    source = source_of(read(tmp_path, table))
    done = record_together(source, tmp_path / "data", 30, first=0, episode_frames=30, processes=1)
    track = load_episode(find_episodes(tmp_path / "data")[0]).state
    assert done == 30
    assert track is not None
    assert track.spec.names == ("reward", "terminated", "place")
    assert track.spec.numbers["place"].kind == "position"
    table["gym"]["state"] = {"place": "observation.0"}
    with pytest.raises(ConfigError, match=r"\[gym\]: state place=observation\.0: expected info"):
        share_settings(read(tmp_path, table), tmp_path)


def test_a_mistake_in_a_late_stage_is_told_before_anything_begins(
    tmp_path: Path, table: dict[str, Any]
) -> None:
    table["stages"][3]["batches"] = 3
    with pytest.raises(ConfigError, match="the stage decoder: unknown key 'batches'"):
        share_settings(read(tmp_path, table), tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("batch", 0, "batch = 0: expected 1 to 65536"),
        ("batch", 2**62, "expected 1 to 65536"),
        ("frame_stride", 0, "frame_stride = 0: expected 1 to"),
        ("frame_stride", -6, "frame_stride = -6: expected 1 to"),
        ("loop", 3, "loop = 3: expected a table"),
        ("loop", {"learning_rate": ["a"]}, "learning_rate = ['a']: expected float"),
        ("loop", {"muon_learning_rate": "x"}, "muon_learning_rate = 'x': expected float"),
        ("loop", {"learning_rate": True}, "learning_rate = True: expected float"),
        ("own_play", "x", "own_play = 'x': expected a table"),
    ],
)
def test_a_number_that_no_training_takes_is_told_before_anything_begins(
    tmp_path: Path, table: dict[str, Any], key: str, value: object, told: str
) -> None:
    stage = next(s for s in table["stages"] if s["stage"] == "decoder")
    stage[key] = {**stage["loop"], **value} if isinstance(value, dict) else value
    with pytest.raises(ConfigError, match=re.escape(told)):
        share_settings(read(tmp_path, table), tmp_path)


def test_minutes_rates_and_batches_go_into_a_stage_s_own_config() -> None:
    table = {"batch": 32, "loop": {"learning_rate": 0.4, "muon_learning_rate": 0.2}}
    found = budgeted(table, minutes=7.5, rate=0.5, split=4)
    assert found["loop"] == {
        "learning_rate": 0.2, "muon_learning_rate": 0.1, "minutes": 7.5, "micro_batches": 4,
    }  # fmt: skip
    assert found["batch"] == 8
    assert table["batch"] == 32


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_describe_stages_that_can_be_trained(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for rehearse in (False, True):
        recipe = read_recipe(Path(name), rehearse=rehearse)
        share_settings(recipe, Path("runs") / recipe.name)
        assert recipe.notice.is_file()


def test_minutes_that_a_step_has_lost_are_lost_to_all_that_come_after_it() -> None:
    recipe = read_recipe(ROOT / SHIPPED[0])
    shared = share_settings(recipe, Path("runs") / recipe.name)
    shares = {part.stage: part.share for part in recipe.parts}
    end = 0.3 + recipe.evaluate.minutes
    early = share_of_rest(shared, "teacher", 40, 10 * 60, {"autoencoder"})
    rest = sum(shares.values()) - shares["autoencoder"]
    assert early == pytest.approx((30 - end) * shares["teacher"] / rest)
    before = shares.keys() - {"decoder"}
    late = share_of_rest(shared, "decoder", 40, 30 * 60, before)
    assert late == pytest.approx(10 - end)
    with pytest.raises(ConfigError, match=r"39\.0 of 40 minutes are over .* more --minutes"):
        share_of_rest(shared, "decoder", 40, 39 * 60, before)


def test_a_recipe_with_every_stage_hands_each_what_it_needs(
    tmp_path: Path, table: dict[str, Any]
) -> None:
    autoencoder, teacher, student, decoder = table["stages"]
    loop = teacher["loop"]
    whole = {"stage": "bidirectional", "clips": {"batch": 2, "frames": 6, "known": 2}, "loop": loop}
    dmd = {"stage": "dmd", "rollouts": {"batch": 2, "frames": 8}, "critic_learning_rate": 1e-3}
    dmd |= {"loop": loop}
    table["stages"] = [autoencoder, teacher, whole, student, dmd, decoder]
    recipe = read(tmp_path, table)
    shared = share_settings(recipe, tmp_path / "runs")
    tables = {part.stage: shared.config(part, 0.4) for part in recipe.parts}
    run = {stage: str(tmp_path / "runs" / stage) for stage in tables}
    assert tables["bidirectional"]["start"] == run["teacher"]
    assert tables["student"]["teacher"] == run["teacher"]
    assert (tables["dmd"]["student"], tables["dmd"]["real"]) == (
        run["student"],
        run["bidirectional"],
    )
    table["stages"] = [autoencoder, teacher, whole, dmd, decoder]
    shorter = share_settings(read(tmp_path, table), tmp_path / "runs")
    assert shorter.config(shorter.recipe.parts[3], 0.4)["student"] == run["teacher"]
    assert tables["decoder"]["own_play"]["student"] == run["dmd"]
    assert shared.world({}, "")["student"] == run["dmd"]
    models = [t["model"] for stage, t in tables.items() if stage not in ("autoencoder", "decoder")]
    assert all(model == models[0] for model in models)
    assert (models[0]["latent_height"], models[0]["latent_width"]) == (2, 4)
    assert (models[0]["buttons"], models[0]["frame_change"]) == (2, 0.4)
