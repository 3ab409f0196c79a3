"""How a run of a stage begins, and what it refuses to begin with."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from worldmodel.config import ConfigError
from worldmodel.training.run_stage import read_stage, run_stage
from worldmodel.training.train_loop import STATE


@pytest.mark.parametrize("failures", [1, 2])
def test_a_compiler_that_fails_is_asked_once_more(
    failures: int,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = failures

    def compile_badly(function: Callable[..., object]) -> Callable[..., object]:
        """What torch does where a file of its cache vanishes under it; else no compiling at all."""

        def compiled(*args: object) -> object:
            nonlocal left
            if left:
                left -= 1
                raise BackendCompilerFailed("inductor", OSError("no such file\nand more"), None)
            return function(*args)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_badly)
    text = (recipe / "teacher.toml").read_text(encoding="utf-8")
    path = tmp_path / "teacher.toml"
    assert text.count("\ncompile = false\n") == 1
    text = text.replace("\ncompile = false\n", "\ncompile = true\n")
    path.write_text(text, encoding="utf-8")
    if failures == 1:
        assert run_stage(path, tmp_path / "run")["steps"] > 0
        told = capsys.readouterr().err
        assert "torch failed to compile (OSError: no such file); once more" in told
    else:
        with pytest.raises(ConfigError, match=r"OSError: no such file\); set compile = false"):
            run_stage(path, tmp_path / "run")


def test_a_state_of_another_model_is_refused(recipe: Path, tmp_path: Path) -> None:
    text = (recipe / "autoencoder.toml").read_text().replace("blocks = 1", "blocks = 2")
    (tmp_path / "autoencoder.toml").write_text(text)
    run = tmp_path / "run"
    run.mkdir()
    for name in (STATE, "config.toml"):
        (run / name).write_bytes((recipe / "runs" / "autoencoder" / name).read_bytes())
    before = (run / "config.toml").read_bytes()
    with pytest.raises(ConfigError, match="another model than this config describes"):
        run_stage(tmp_path / "autoencoder.toml", run, threads=1)
    assert (run / "config.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "must be at least 1"), (-3, "must be at least 1"), (2**62, "expected 1 to 65536")],
)
def test_a_batch_that_no_machine_holds_is_told_with_the_file(
    recipe: Path, tmp_path: Path, value: int, told: str
) -> None:
    text = (recipe / "teacher.toml").read_text(encoding="utf-8")
    path = tmp_path / "teacher.toml"
    path.write_text(re.sub(r"(?m)^batch = \d+$", f"batch = {value}", text), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"teacher\.toml: clips: batch = {value}: {told}"):
        read_stage(path)
