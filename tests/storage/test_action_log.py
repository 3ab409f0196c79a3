import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.storage.recordings import HEADER, record
from worldmodel.storage.action_log import RecordingError, read_recording


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", '{"format": "other"}', json.dumps({"format": "worldmodel recording 1"})],
)
def test_what_is_no_recording_is_called_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordingError, match=r"x.jsonl: not a recording"):
        read_recording(path)
    with pytest.raises(RecordingError, match="not a recording"):
        read_recording(tmp_path / "missing.jsonl")


@pytest.mark.parametrize(
    "wrong",
    [
        {"settings": "x"},
        {"start": "1"},
        {"start": -1},
        {"seed": "x"},
        {"seed": 10**30},
        {"identity": 3},
        {"frame_size": [48]},
        {"buttons": "KeyW"},
        {"frames_per_second": 0},
        {"frames_per_second": 10**400},
        {"versions": ["torch"]},
    ],
)
def test_a_header_with_a_wrong_value_is_an_error_that_names_it(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    path = tmp_path / "x.jsonl"
    table = {"format": "worldmodel recording 1", **asdict(HEADER), **wrong}
    path.write_text(json.dumps(table), encoding="utf-8")
    names = f"{next(iter(wrong))}|beyond all bounds"
    with pytest.raises(
        RecordingError, match=rf"x.jsonl: not a recording: the first line.*({names})"
    ):
        read_recording(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"index": 2', '"index": 1e999'),
        ('"mouse": [', '"mouse": [NaN, '),
        ('"time": 0.', '"time": -0.'),
        ('"time": 0.', '"time": 9e299, "late": 0.'),
        ("{", "[" * 99_999),
    ],
)
def test_a_number_that_is_none_is_an_error_too(tmp_path: Path, old: str, new: str) -> None:
    path = record(tmp_path / "walk", 5)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].replace(old, new).replace(", 0.2, 0.0]", ", 0.0]")
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(RecordingError, match="line 4 is not a frame"):
        read_recording(path)


def test_empty_lines_of_an_editor_are_no_frames(tmp_path: Path) -> None:
    path = record(tmp_path / "walk", 5)
    expected = read_recording(path)
    path.write_text(path.read_text(encoding="utf-8").replace("\n", "\n\n \n"), encoding="utf-8")
    assert read_recording(path) == expected


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = record(tmp_path / "walk", 5)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3][:20]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(RecordingError, match="line 4 is not a frame"):
        read_recording(path)
