"""What the check says of a data set's state: of real Doom, and of the same with a fault each."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.tiny_data import write_episodes
from worldmodel.datacheck.data_report import describe
from worldmodel.datacheck.dataset import DataSet
from worldmodel.datacheck.faults import check_folder
from worldmodel.datacheck.state_facts import steps
from worldmodel.state_spec import StateNumber, StateSpec, StateTrack, track_of
from worldmodel.storage.episodes import find_episodes, load_episode, save_episode
from worldmodel.system.printable import counted

pytest.importorskip("vizdoom")

Values = NDArray[np.float32]


@pytest.fixture(scope="module")
def doom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.data_sources.recorded_doom import record_doom

    folder = tmp_path_factory.mktemp("doom")
    record_doom(folder, frames=1200, episode_frames=300)
    return folder


@pytest.fixture
def folder(doom: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(doom, tmp_path / "data"))


def change(path: Path, do: Callable[[StateTrack], StateTrack | None]) -> None:
    episode = load_episode(path)
    assert episode.state is not None
    save_episode(path, replace(episode, state=do(episode.state)))


def change_all(folder: Path, do: Callable[[Values], Values]) -> DataSet:
    """Every file's rows through `do`."""
    for path in find_episodes(folder):
        change(path, lambda track: track_of(track.spec, list(do(track.values.copy()))))
    return check_folder(folder, clip=13)


def told(data: DataSet, *words: str) -> list[str]:
    """The warnings that are about the state."""
    return [text for text in data.warnings if any(word in text for word in words)]


ABOUT = ("state", "mouse", "heading", "jump")


def test_doom_tells_a_state_that_nothing_is_wrong_with(doom: Path) -> None:
    data = check_folder(doom, clip=13)
    assert told(data, *ABOUT) == []
    assert data.state is not None
    assert data.state.timing.lag == 0
    assert data.state.turnings[0].degrees == pytest.approx(-1, abs=0.05)
    lines = describe(data)
    files = len(data.scans)
    assert f"  state        14 numbers in {files} of {files} files" in lines
    assert "    health      count: always 100" in lines
    assert any(line.startswith("    heading     heading: ") for line in lines)
    assert any(line.startswith("  state lag    none; explained") for line in lines)
    facts = data.facts()["state"]
    assert facts["numbers"]["clock"]["step"] == 2  # it wraps the short way
    assert facts["numbers"]["heading"]["step"] <= 20.1
    assert facts["lag"] == 0


@pytest.mark.parametrize("by", [-1, 1, 2])
def test_a_state_beside_the_wrong_frames_is_noticed(folder: Path, by: int) -> None:
    data = change_all(folder, lambda values: roll(values, by))
    assert data.state is not None
    assert data.state.timing.lag == -by
    side = "before" if by > 0 else "after"
    assert told(data, f"the picture moves {counted(abs(by), 'frame')} {side} the row of the state")
    late = "after" if by > 0 else "before"
    assert told(data, f"heading follows the mouse {counted(abs(by), 'row')} {late} its own")


def roll(values: Values, by: int) -> Values:
    """Rows `by` later (negative: earlier), the first or last one repeated."""
    index = np.clip(np.arange(len(values)) - by, 0, len(values) - 1)
    return values[index]


def test_a_heading_that_grows_the_other_way_or_is_of_another_view_is_noticed(folder: Path) -> None:
    def mirror(values: Values) -> Values:
        values[:, 3] = 360 - values[:, 3]
        return values

    (text,) = told(change_all(folder, mirror), "heading")
    assert "heading goes +1.00 for each degree of the mouse to the right; expected -1.00" in text

    def scramble(values: Values) -> Values:
        values[:, 3] = np.random.default_rng(0).uniform(0, 360, len(values))
        return values

    (text,) = told(change_all(folder, scramble), "heading")
    assert "heading does not follow the mouse: it explains" in text


def test_a_place_that_jumps_is_told_with_the_file_and_the_frame(folder: Path) -> None:
    path = find_episodes(folder)[1]

    def teleport(track: StateTrack) -> StateTrack:
        values = track.values.copy()
        values[50:, 0] += 3000
        return StateTrack(track.spec, values)

    change(path, teleport)
    data = check_folder(folder, clip=13)
    (text,) = told(data, "jump")
    assert re.match(r"x, y, z of the state: 1 jump, the largest of [23]\d{3} map units", text)
    assert f"map units, the first in {path.name}, frame 50 " in text


def test_numbers_that_are_never_known_or_never_change_are_found(folder: Path) -> None:
    def forget(values: Values) -> Values:
        values[:, 7] = np.nan
        values[::4, 8] = np.nan
        return values

    data = change_all(folder, forget)
    assert told(data, "never known: health of the state")
    lines = describe(data)
    assert "    health      count: never known" in lines
    assert any("armor       count:" in line and "; not known in 25." in line for line in lines)
    assert "    ammo        count: always -1" in lines
    assert data.state is not None
    assert data.state.numbers["dead"].is_constant


def test_files_that_tell_none_or_another_state_are_counted(folder: Path) -> None:
    first, second, *_ = find_episodes(folder)
    change(first, lambda _: None)
    other = StateSpec({"speed": StateNumber(kind="number")})
    change(second, lambda track: StateTrack(other, track.values[:, :1]))
    data = check_folder(folder, clip=13)
    count = len(data.scans)
    assert told(data, f"{count - 1} of {count} files tell their state")
    assert told(data, f"files tell different states: {count - 2} of {count - 1} have x, y, z,")


def test_it_is_said_when_the_rows_cannot_be_told(tmp_path: Path) -> None:
    folder = write_episodes(tmp_path / "data", count=6, length=60)
    assert check_folder(folder, 13).state is None
    assert not any("state" in line for line in describe(check_folder(folder, 13)))
    rng = np.random.default_rng(0)
    for kind, why in (
        ("number", "it has neither a position nor a heading"),
        ("position", "the picture hardly answers the changes of the state"),
    ):
        spec = StateSpec({"n": StateNumber(kind=kind)})  # type: ignore[arg-type]
        for path in find_episodes(folder):
            episode = load_episode(path)
            values = rng.normal(size=(len(episode), 1)).astype(np.float32)
            save_episode(path, replace(episode, state=StateTrack(spec, values)))
        data = check_folder(folder, 13)
        assert data.state is not None
        assert data.state.timing.lag is None
        assert f"  state lag    cannot be told ({why})" in "\n".join(describe(data))


def test_what_wraps_steps_the_short_way_round() -> None:
    heading = StateNumber(kind="heading", high=360.0)
    clock = StateNumber(kind="phase", low=5.0, high=25.0)
    plain = StateNumber(kind="number", high=360.0)
    assert steps(np.array([350, 10, 340], np.float32), heading).tolist() == [20, -30]
    assert steps(np.array([23, 5, 24], np.float32), clock).tolist() == [2, -1]
    assert steps(np.array([350, 10], np.float32), plain).tolist() == [-340]
