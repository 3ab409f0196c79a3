"""One run of the whole recipe for all tests that look at what it leaves."""

from pathlib import Path

import pytest

from tests.training.tiny_recipe import run_recipe


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe(tmp_path_factory.mktemp("recipe"))
