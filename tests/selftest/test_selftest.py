"""The selftest holds on a world that is right, and finds what is wrong with one that is not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.game.drawn_world import DrawnWorld
from tests.worlds.make_world import make_world
from worldmodel.__main__ import main
from worldmodel.action import Action
from worldmodel.selftest import trials
from worldmodel.selftest.cuts import kill
from worldmodel.selftest.fuzz import check, fuzz
from worldmodel.selftest.soak import soak
from worldmodel.selftest.targets import FuzzError, Target
from worldmodel.selftest.trials import SelftestError
from worldmodel.world import Frame, SavedState, World

Trial = Callable[[World, int], object]
TRIALS: list[Trial] = [trials.save_and_load, trials.branch, trials.faults, trials.replay]


class ForgetfulWorld(DrawnWorld):
    """Goes on from a state as if some of it had not been kept."""

    def load_state(self, state: SavedState) -> None:
        super().load_state(state)
        self._place[0] += 5.0


class UnsteadyWorld(DrawnWorld):
    """Every reset begins a little elsewhere."""

    resets = 0

    def reset(self, start: int, seed: int) -> Frame:
        self.resets += 1
        super().reset(start, seed)
        self._place[0] += 3.0 * self.resets
        return self._draw()


class LeakyWorld(DrawnWorld):
    """Every frame takes a megabyte and never gives it back."""

    def __init__(self) -> None:
        super().__init__()
        self.leak: list[bytes] = []

    def generate(self, action: Action) -> Frame:
        self.leak.append(b"x" * (1 << 20))
        return super().generate(action)


@pytest.mark.parametrize("trial", TRIALS)
def test_a_world_that_is_right_holds(trial: Trial) -> None:
    for number in range(4):
        trial(DrawnWorld(), number)


def try_all(trial: Trial, world: World) -> None:
    for number in range(8):
        trial(world, number)


@pytest.mark.parametrize("trial", [trials.save_and_load, trials.branch, trials.faults])
def test_a_world_that_forgets_is_found(trial: Trial) -> None:
    with pytest.raises(SelftestError):
        try_all(trial, ForgetfulWorld())


def test_a_world_that_is_another_one_each_time_is_found() -> None:
    with pytest.raises(SelftestError, match="frames identical"):
        try_all(trials.replay, UnsteadyWorld())


def test_memory_that_grows_is_found() -> None:
    soak(DrawnWorld(), 0.2)
    with pytest.raises(SelftestError, match="memory grew"):
        soak(LeakyWorld(), 0.2)


def test_a_reader_that_breaks_is_found_and_named(tmp_path: Path) -> None:
    def parse(path: Path) -> object:
        return json.loads(path.read_bytes())

    done = fuzz([Target("json", "x.json", parse, (b'{"a": 12}',))], 0.3)
    assert done.inputs > 20
    with pytest.raises(FuzzError, match=r"files broke a reader: json: (JSON|Unicode)DecodeError"):
        check(done)
    del tmp_path


def test_a_killed_recording_is_counted() -> None:
    rows, shown = kill(0)
    assert rows - 22 <= shown <= rows


def test_the_command_prints_a_table_and_ends_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_world(tmp_path / "tiny")
    assert main(["selftest", "--world", str(folder), "--minutes", "0.02"]) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    results = json.loads(last)["results"]
    assert [result["is_fine"] for result in results] == [True] * 7
