"""What is remembered of the steps of a recipe."""

import os
import time
from pathlib import Path

import pytest

from worldmodel.config import ConfigError
from worldmodel.recipe.ledger import FILE, Ledger, key_of


def test_a_key_changes_with_what_a_step_says_and_with_what_came_before() -> None:
    keys = {key_of({"a": 1}), key_of({"a": 2}), key_of({"a": 1}, ["x"]), key_of({"a": 1}, ["y"])}
    assert len(keys) == 4
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_a_step_is_done_under_its_key_alone(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.begin("teacher", "one")
    assert not ledger.is_done("teacher", "one")
    ledger.finish("teacher")
    again = Ledger.open(tmp_path)
    assert again.is_done("teacher", "one")
    assert not again.is_done("teacher", "two")


def test_a_step_that_goes_on_keeps_its_minutes_and_a_changed_one_begins_anew(
    tmp_path: Path,
) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.begin("teacher", "one").minutes = 7.0
    (tmp_path / "teacher").mkdir()
    ledger.save()
    assert Ledger.open(tmp_path).begin("teacher", "one").minutes == 7.0
    assert (tmp_path / "teacher").is_dir()
    assert Ledger.open(tmp_path).begin("teacher", "two").minutes == 0.0
    assert not (tmp_path / "teacher").exists()
    assert (tmp_path / "teacher.before").is_dir()


def test_the_time_of_a_killed_session_counts_up_to_the_last_file_it_wrote(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    entry = ledger.begin("teacher", "one")
    entry.since = time.time() - 500  # and then nobody says that it has stopped
    ledger.save()
    state = tmp_path / "teacher" / "state"
    state.parent.mkdir()
    state.write_text("x")
    os.utime(state, (entry.since + 120, entry.since + 120))
    assert Ledger.open(tmp_path).spent == pytest.approx(120, abs=1)


def test_a_ledger_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        Ledger.open(tmp_path)


def test_a_folder_that_no_step_has_made_stays_where_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "teacher" / "thesis.txt"
    mine.parent.mkdir()
    ledger = Ledger.open(tmp_path)
    ledger.begin("teacher", "one")  # an empty folder is in nobody's way
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    (tmp_path / FILE).unlink()
    with pytest.raises(ConfigError, match=r"teacher: is in the way, .*--run"):
        Ledger.open(tmp_path).begin("teacher", "one")
    assert mine.read_text() == "mine"
