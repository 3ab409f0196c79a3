import math
from dataclasses import replace
from pathlib import Path

import pytest

from studies.distillation.rows import read_comparison
from studies.ideas.try_ideas import read_ideas
from tests.conftest import TINY
from worldmodel.config import (
    ConfigError,
    build_config,
    load_config,
    read_derived_toml,
    read_toml,
    to_toml,
)
from worldmodel.model.configs import AutoencoderConfig, ModelConfig, SamplerConfig
from worldmodel.recipe.recipe_file import DRAWS, INTERPOLATION, Measuring, read_recipe
from worldmodel.training.run_stage import Config, read_stage
from worldmodel.wan.model_config import WanConfig, WindowConfig

ROOT = Path(__file__).parents[1]
SIZE = {"rows": 4, "columns": 6}  # of latents


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        SamplerConfig(sigmas=(1.0, 0.25, 0.0), renoise=True),
        AutoencoderConfig(
            widths=(8, 16), blocks=1, latent_channels=4, frame_height=8, frame_width=12
        ),
    ],
)
def test_a_config_written_as_toml_reads_back_the_same(config: object, tmp_path: Path) -> None:
    path = write(tmp_path / "config.toml", to_toml(config))
    assert load_config(type(config), path) == config


def test_any_table_of_figures_survives_being_written_as_toml(tmp_path: Path) -> None:
    table = {"a": float("inf"), "b.c": {"ü x": [1, {"d": 0.5}]}, "none": None, "e": -0.0}
    again = read_toml(write(tmp_path / "t.toml", to_toml(table)))
    assert again == {"a": float("inf"), "b.c": {"ü x": [1, {"d": 0.5}]}, "e": 0.0}
    assert math.isnan(read_toml(write(tmp_path / "n.toml", to_toml({"n": math.nan})))["n"])


def test_an_unknown_key_is_an_error_that_names_file_key_and_choices(tmp_path: Path) -> None:
    path = write(tmp_path / "config.toml", to_toml(TINY) + "n_heads = 3\n")
    with pytest.raises(ConfigError, match=r"config\.toml: unknown key 'n_heads'.*heads, layers"):
        load_config(ModelConfig, path)


def test_a_missing_key_a_wrong_type_and_broken_toml_are_named(tmp_path: Path) -> None:
    text = to_toml(TINY)
    missing = write(tmp_path / "a.toml", text.replace("width = 32\n", "", 1))
    with pytest.raises(ConfigError, match=r"a\.toml: the key 'width' is missing"):
        load_config(ModelConfig, missing)
    wrong = write(tmp_path / "b.toml", text.replace("width = 32\n", 'width = "32"\n', 1))
    with pytest.raises(ConfigError, match=r"b\.toml: width = '32': expected int"):
        load_config(ModelConfig, wrong)
    broken = write(tmp_path / "c.toml", "width = = 3")
    with pytest.raises(ConfigError, match=r"c\.toml: cannot be read as TOML"):
        load_config(ModelConfig, broken)
    with pytest.raises(ConfigError, match=r"d\.toml"):
        load_config(ModelConfig, tmp_path / "d.toml")


def test_a_file_like_another_says_only_what_differs(tmp_path: Path) -> None:
    write(tmp_path / "shared.toml", "seed = 1\n[model]\nwidth = 4\nheads = 2\n")
    write(tmp_path / "first.toml", 'like = "shared.toml"\n[model]\nwidth = 8\n')
    table = read_derived_toml(write(tmp_path / "second.toml", 'like = "first.toml"\nseed = 2\n'))
    assert table == {"seed": 2, "model": {"width": 8, "heads": 2}}


@pytest.mark.parametrize(
    ("like", "message"),
    [("3", "expected the name of a file"), ('"a.toml"', "at most 8"), ('"no.toml"', "no.toml")],
)
def test_a_file_like_itself_or_like_none_is_named(tmp_path: Path, like: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_derived_toml(write(tmp_path / "a.toml", f"like = {like}\n"))


def test_impossible_shapes_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="multiple of 4 x heads"):
        load_bad_model(width=30)
    with pytest.raises(ConfigError, match=r"do not divide by 4"):
        AutoencoderConfig(
            widths=(8, 16), blocks=1, latent_channels=4, frame_height=10, frame_width=12
        )
    with pytest.raises(ConfigError, match=r"must fall from 1\.0 to 0\.0"):
        SamplerConfig(sigmas=(1.0, 0.5), renoise=False)


def load_bad_model(width: int) -> ModelConfig:
    return replace(TINY, width=width)


CONFIGS = sorted(
    path
    for path in (ROOT / "configs").rglob("*.toml")
    if path.stem != "shared"  # of others
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_shipped_config_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # sizes of models are named from there
    if path.parent.name == "wan":  # sizes of released models, not stages of a training
        assert load_config(WanConfig, path).layers > 0
    elif path.stem == "compare":  # rows for `evaluate --compare`
        assert read_comparison(path).rows
    elif path.parent.name == "ideas":  # runs of `worldmodel ideas`
        assert read_ideas(path).variants
    elif "stages" in read_toml(path):
        assert read_recipe(path).played_stage in (INTERPOLATION, *DRAWS)
    else:
        assert isinstance(read_stage(path), Config)


def test_a_key_that_was_renamed_is_read_by_its_old_name_and_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = to_toml(read_stage(ROOT / "configs/doom/decoder.toml"))
    new = write(tmp_path / "new.toml", text)
    old = write(tmp_path / "old.toml", text.replace("discriminator_weight", "critic_weight"))
    capsys.readouterr()
    assert read_stage(new) == read_stage(old) == read_stage(old)
    assert capsys.readouterr().err == (
        f"{old}: the key critic_weight is now called discriminator_weight\n"
    )
    both = write(tmp_path / "both.toml", f"critic_width = 8\n{text}")
    with pytest.raises(ConfigError, match="critic_width and discriminator_width are the same key"):
        read_stage(both)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (Measuring, {"judge_clips": 5}, {"inverse_dynamics_clips": 5}),
        (Measuring, {"judge_steps": 5}, {"inverse_dynamics_steps": 5}),
        (WindowConfig, SIZE | {"block_frames": 3}, SIZE | {"chunk_frames": 3}),
    ],
)
def test_every_key_that_was_renamed_is_read(
    kind: type, old: dict[str, int], new: dict[str, int]
) -> None:
    assert build_config(kind, old, "x.toml") == build_config(kind, new, "x.toml")
