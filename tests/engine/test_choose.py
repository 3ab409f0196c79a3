import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from tests.conftest import TINY
from worldmodel.engine import EngineError, choose
from worldmodel.engine.choose import choose_engine
from worldmodel.model.floor_plan import Sight
from worldmodel.model.kv_cache import KVCache
from worldmodel.world import Frame


@dataclass
class Sleeper:
    """An engine that takes its time."""

    name: str
    seconds: float
    dtype: str = "float32"
    version: str = "1"
    threads: int = 1
    drawn: int = 0
    pulls: bool = False
    begun: list[int] = field(default_factory=list)
    cache: KVCache = field(default_factory=lambda: KVCache(TINY))
    generators: list[Generator] = field(default_factory=list)

    def broken_weight(self) -> None:
        return None

    def begin(self, seeds: Sequence[int]) -> "Sleeper":
        self.begun.extend(seeds)
        return self

    def prime(self, latents: Tensor, conditions: Tensor) -> None:
        del latents, conditions

    def denoise(self, condition: Tensor) -> Tensor:
        del condition
        time.sleep(self.seconds)
        return torch.zeros(1, 1, *TINY.latent_shape)

    def remember(self, view: Tensor | None = None) -> None:
        del view

    def encode_view(self, sight: Sight) -> Tensor:
        raise AssertionError(f"a world without a floor plan sees {sight}")

    def look(self, views: Tensor) -> Sight:
        raise AssertionError(f"a world without a floor plan looks at {views}")

    def decode(self, latents: Tensor, sight: Sight | None = None) -> Frame:
        del latents, sight
        return np.zeros((1, 8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(choose, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(choose, "disturbance", lambda _: "")  # tests run beside each other
    return tmp_path / "cache"


def test_the_faster_engine_is_chosen_and_remembered() -> None:
    slow, fast = Sleeper("slow", 0.02), Sleeper("fast", 0.001)
    candidates = {"slow": lambda: slow, "fast": lambda: fast}
    chosen = choose_engine(candidates, TINY, "world")
    assert chosen.engine is fast
    assert "slow" in chosen.why
    slow.begun.clear()
    fast.begun.clear()
    assert choose_engine(candidates, TINY, "world").engine is fast
    assert not slow.begun  # nothing was measured again
    assert not fast.begun
    choose_engine(candidates, TINY, "another world")
    assert slow.begun


def test_an_earlier_engine_may_be_a_little_slower() -> None:
    """The first candidates take fewer cores, which are then free for the window."""
    few, many = Sleeper("few", 0.0104), Sleeper("many", 0.01)
    assert choose_engine({"few": lambda: few, "many": lambda: many}, TINY, "w").engine is few
    much = Sleeper("much", 0.005)
    assert choose_engine({"few": lambda: few, "much": lambda: much}, TINY, "w").engine is much


def test_an_engine_that_cannot_be_built_is_left_out() -> None:
    def broken() -> Sleeper:
        raise EngineError("not here")

    fine = Sleeper("fine", 0.0)
    chosen = choose_engine({"broken": broken, "fine": lambda: fine}, TINY, "w")
    assert chosen.engine is fine
    assert "not broken: not here" in chosen.why
    with pytest.raises(EngineError, match="not here"):
        choose_engine({"broken": broken}, TINY, "w")


def test_a_remembered_engine_that_no_longer_works_gives_way_to_the_others() -> None:
    fast, slow = Sleeper("fast", 0.0), Sleeper("slow", 0.01)
    works = {"fast": lambda: fast, "slow": lambda: slow}
    assert choose_engine(works, TINY, "w").engine is fast

    def broken() -> Sleeper:
        raise EngineError("no longer")

    assert choose_engine(works | {"fast": broken}, TINY, "w").engine is slow


def test_a_cache_that_cannot_be_written_costs_nothing(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    fast = Sleeper("fast", 0.0)
    candidates = {"fast": lambda: fast, "slow": lambda: Sleeper("slow", 0.01)}
    assert choose_engine(candidates, TINY, "w").engine is fast


def test_a_broken_cache_file_is_measured_over(cache: Path) -> None:
    choices = cache / "openvino" / "choices.json"
    choices.parent.mkdir(parents=True)
    choices.write_text("{")
    fast = Sleeper("fast", 0.0)
    candidates = {"fast": lambda: fast, "slow": lambda: Sleeper("slow", 0.01)}
    assert choose_engine(candidates, TINY, "w").engine is fast
    assert list(json.loads(choices.read_text()).values()) == ["fast"]


def test_what_was_measured_beside_other_programs_is_not_remembered(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "disturbance", lambda cores: f"disturbed by {cores}")
    fast, slow = Sleeper("fast", 0.0), Sleeper("slow", 0.01)
    assert choose_engine({"fast": lambda: fast, "slow": lambda: slow}, TINY, "w").engine is fast
    assert not (cache / "openvino" / "choices.json").exists()
    fast.seconds, slow.seconds = 0.01, 0.0
    assert choose_engine({"fast": lambda: fast, "slow": lambda: slow}, TINY, "w").engine is slow
