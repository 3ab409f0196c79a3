"""Named numbers a frame: what they may be, and that nothing is lost on the way to a file."""

import json
from pathlib import Path

import numpy as np
import pytest

from worldmodel.config import ConfigError, build_config, load_config, to_table, to_toml
from worldmodel.state_spec import (
    StateNumber,
    StateSpec,
    StateTrack,
    from_plain,
    join_specs,
    read_spec,
    to_plain,
    track_of,
)

SPEC = StateSpec(
    {
        "x": StateNumber(kind="position", unit="map units", low=-160.5, high=1120.0),
        "view.heading": StateNumber(kind="heading", unit="degrees", low=0.0, high=360.0),
        "clock": StateNumber(kind="phase", unit="tics", low=0.0, high=20.0),
        "dead": StateNumber(kind="flag"),
    }
)


def test_a_spec_knows_its_numbers_by_name_and_place() -> None:
    assert SPEC.names == ("x", "view.heading", "clock", "dead")
    assert (len(SPEC), SPEC.width, SPEC.index("clock")) == (4, 4, 2)
    with pytest.raises(ConfigError, match=r"no number 'y' in the state; it has x, view\.heading"):
        SPEC.index("y")


def test_a_spec_reads_back_from_toml_and_from_json_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "state.toml"
    path.write_text(to_toml(SPEC))
    again = load_config(StateSpec, path)
    assert again == SPEC
    assert again.names == SPEC.names
    assert read_spec(SPEC.to_json(), "here") == SPEC
    assert json.loads(SPEC.to_json())["x"]["kind"] == "position"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"here: a state has 0 numbers: expected 1 to 64"),
        ({f"n{i}": {"kind": "count"} for i in range(65)}, "65 numbers: expected 1 to 64"),
        ({"a b": {"kind": "count"}}, "here: the number's name 'a b'"),
        ({"x" * 65: {"kind": "count"}}, "the number's name"),
        ({"x": {"kind": "colour"}}, r"here\.x: kind = 'colour': choose from 'position'"),
        ({"x": {}}, r"here\.x: the key 'kind' is missing"),
        ({"x": {"kind": "count", "size": 1}}, r"here\.x: unknown key 'size'"),
        ({"x": {"kind": "count", "low": 2, "high": 1}}, r"here\.x: low \(2\.0\) must be"),
        ({"x": {"kind": "count", "high": float("inf")}}, "expected a finite number"),
        ({"x": {"kind": "phase"}}, "a phase must wrap somewhere"),
        ({"x": {"kind": "count", "unit": "\x1b[2J"}}, "the unit"),
        ([], "here = .*: expected a table"),
        ({"x": 3}, r"here\.x = 3: expected a table"),
    ],
)
def test_what_is_no_state_is_refused_with_the_reason(table: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config(StateSpec, table, "here")  # type: ignore[arg-type]
    if "finite" not in message:
        with pytest.raises(ConfigError, match=message):
            read_spec(json.dumps(table), "here")


def test_a_hostile_name_is_shown_on_one_short_line() -> None:
    with pytest.raises(ConfigError) as told:
        build_config(StateSpec, {"a\n\x1b" + "b" * 5000: {}}, "here")
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 400


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="here should be JSON"):
        read_spec("{", "here")


def test_a_track_says_the_range_that_was_seen() -> None:
    rows = [
        np.array([3.0, 350.0, 18.0, 0.0], np.float32),
        np.array([np.nan, 4.0, 0.0, 0.0], np.float32),
        np.array([-1.0, 9.0, 2.0, 0.0], np.float32),
    ]
    track = track_of(SPEC, rows)
    ranges = {name: (n.low, n.high) for name, n in track.spec.numbers.items()}
    # What wraps keeps its range; a flag that was never up told nothing.
    assert ranges == {"x": (-1, 3), "view.heading": (0, 360), "clock": (0, 20), "dead": (0, 0)}
    np.testing.assert_array_equal(track.column("clock"), [18, 0, 2])
    part = track.cut(1, 3)
    np.testing.assert_array_equal(part.values, track.values[1:])
    assert not np.shares_memory(part.values, track.values)


def test_a_heading_that_never_turned_and_a_number_never_known_are_constant() -> None:
    rows = [np.array([np.nan, 90.0, 1.0, 1.0], np.float32)] * 2
    numbers = track_of(SPEC, rows).spec.numbers
    assert (numbers["view.heading"].low, numbers["view.heading"].high) == (90, 90)
    assert (numbers["x"].low, numbers["x"].high) == (0, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 5), np.float32), r"float32 \(3, 5\), expected float32, rows of 4"),
        (np.zeros((3, 4), np.float64), r"float64 \(3, 4\)"),
        (np.zeros(4, np.float32), "rows of 4"),
        (np.full((3, 4), np.inf, np.float32), "beyond all bounds"),
    ],
)
def test_values_that_are_no_state_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StateTrack(SPEC, values)


def test_a_row_survives_json_bit_for_bit() -> None:
    row = np.array([0.1, -1e-40, 3.4e38, 1 / 3], np.float32).tolist()
    again = from_plain(json.loads(json.dumps(to_plain([*row, float("nan")]))))
    np.testing.assert_array_equal(np.asarray(again[:4], np.float32), np.asarray(row, np.float32))
    assert np.isnan(again[4])
    assert to_plain(row)[0] == 0.1  # not 0.10000000149011612
    for bad in ([1e39], [float("inf")], [float("nan")], ["x"], 3):
        with pytest.raises((ValueError, TypeError)):
            from_plain(bad)  # type: ignore[arg-type]


def test_specs_of_one_game_join_and_others_do_not() -> None:
    def spec(low: float, high: float, heading: float) -> StateSpec:
        return StateSpec(
            {
                "x": StateNumber(kind="position", low=low, high=high),
                "heading": StateNumber(kind="heading", low=heading, high=heading),
            }
        )

    both = join_specs([spec(0, 2, 90), spec(-1, 1, 180), spec(0, 1, 90)])
    assert to_table(both)["x"] == {"kind": "position", "unit": "", "low": -1.0, "high": 2.0}
    assert (both.numbers["heading"].low, both.numbers["heading"].high) == (0, 360)
    with pytest.raises(
        ConfigError, match=r"one state has x \(position, map units\), view.*another x \(position\)"
    ):
        join_specs([SPEC, spec(0, 1, 0)])
