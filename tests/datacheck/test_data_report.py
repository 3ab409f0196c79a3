"""Data sets with a fault each, and what is said about them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_clips import record
from tests.training.tiny_data import write_episodes
from worldmodel.__main__ import main
from worldmodel.action import IDLE, Action
from worldmodel.datacheck.data_report import describe
from worldmodel.datacheck.dataset import overlap
from worldmodel.datacheck.faults import check_folder
from worldmodel.datacheck.timing import estimate_timing
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import load_episode, save_episode
from worldmodel.system.printable import counted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_episodes(tmp_path / "data", count=6, length=60)


def change(folder: Path, number: int, **changes: object) -> None:
    path = folder / f"{number:03d}.safetensors"
    save_episode(path, replace(load_episode(path), **changes))  # type: ignore[arg-type]


def shift(folder: Path, by: int) -> None:
    """Put every action `by` rows later (negative: earlier) than the frame it led to."""
    for path in folder.iterdir():
        episode = load_episode(path)
        rows = [IDLE] * max(0, by) + list(episode.actions)[max(0, -by) :]
        rows = (rows + [IDLE] * len(episode))[: len(episode)]
        save_episode(path, replace(episode, actions=rows))


def test_a_good_data_set_has_nothing_against_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "it can be trained on" in out
    assert "360 frames" not in out.replace("frames       360", "")
    assert "actions lag  none" in out
    assert "warning" not in out
    assert "16x8; 10 frames/s" in out


def test_of_many_files_some_can_be_looked_at_from_all_over_the_folder(folder: Path) -> None:
    names = [scan.path.name for scan in check_folder(folder, clip=13, most=3).scans]
    assert names == ["000.safetensors", "002.safetensors", "004.safetensors"]


@pytest.mark.parametrize("by", [-2, -1, 0, 1, 2])
def test_actions_beside_the_wrong_frames_are_noticed(folder: Path, by: int) -> None:
    shift(folder, by)
    data = check_folder(folder, clip=13)
    assert data.timing.lag == -by
    told = [text for text in data.warnings if "the picture answers" in text]
    assert bool(told) == bool(by)
    if by:
        side = "before" if by > 0 else "after"
        assert told[0].startswith(f"the picture answers {counted(abs(by), 'frame')} {side} the row")


def test_timing_is_not_told_where_nothing_answers() -> None:
    rng = np.random.default_rng(0)
    noise = estimate_timing([rng.normal(size=(500, 3))], [rng.normal(size=(500, 5))])
    assert noise.lag is None
    assert "hardly answers" in noise.why
    assert estimate_timing([np.zeros((50, 3))], [np.zeros((50, 5))]).lag is None
    assert estimate_timing([np.zeros((500, 3))], [np.zeros((500, 5))]).lag is None
    assert estimate_timing([], []).lag is None


def test_a_truncated_file_is_named_and_cannot_be_trained_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "003.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    (folder / "004.safetensors").write_bytes(b"")
    assert main(["data", "check", str(folder)]) == 2
    out = capsys.readouterr().out
    assert "003.safetensors: not an episode" in out
    assert "004.safetensors: not an episode" in out
    assert "6, 2 unreadable" in out
    assert "it cannot be trained on as it is" in out


def test_a_folder_of_nothing_readable_is_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 3}\n')
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "none readable" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_files_of_another_size_or_rate_are_named(folder: Path) -> None:
    wide = np.repeat(load_episode(folder / "002.safetensors").frames, 2, axis=2)
    change(folder, 2, frames=wide)
    change(folder, 4, frames_per_second=30.0)
    data = check_folder(folder, clip=13)
    assert data.errors == [
        "frames are 16 x 8 in most files, not in 002.safetensors (32 x 8)",
        "10 frames/s in most files, not in 004.safetensors (30)",
    ]


def test_too_short_and_empty_pictures_are_errors(tmp_path: Path) -> None:
    folder = write_episodes(tmp_path / "data", count=2, length=12)
    assert "no episode is as long as a clip of 13 frames" in check_folder(folder, 13).errors[0]
    for number in range(2):
        change(folder, number, frames=np.zeros((12, 8, 16, 3), np.uint8))
    data = check_folder(folder, 12)
    assert data.errors == ["every frame is of one colour"]
    assert "100.0 % of the frames are of one colour (24 black)" in data.warnings


@pytest.mark.parametrize("shape", [(1, 8, 16, 3), (12, 1, 1, 3), (12, 9, 1, 3), (12, 1, 9, 3)])
def test_single_frames_and_pixels_are_looked_at_like_others(
    tmp_path: Path, shape: tuple[int, int, int, int]
) -> None:
    folder = write_episodes(tmp_path / "data", count=2, length=shape[0])
    for number in range(2):
        change(folder, number, frames=np.full(shape, 50 * number + 50, np.uint8))
    data = check_folder(folder, 13)
    assert data.frames == 2 * shape[0]
    assert any(error.startswith("no episode is as long as a clip") for error in data.errors)


def test_what_players_never_do_is_said(folder: Path) -> None:
    for number in range(6):
        episode = load_episode(folder / f"{number:03d}.safetensors")
        actions = [IDLE, *[Action(frozenset({"KeyA"}), (3.0, 0.0))] * (len(episode) - 1)]
        change(folder, number, actions=actions)
    data = check_folder(folder, clip=13)
    told = "\n".join(data.warnings)
    assert "nobody rests: 1.7 % of the frames are idle" in told
    assert "never pressed: KeyD" in told
    facts = data.facts()
    assert facts["held"] == {"KeyA": pytest.approx(59 / 60, abs=1e-4), "KeyD": 0}
    assert facts["mouse_degrees"] == {"moving": pytest.approx(0.9833), "p50": 3.0, "p99": 3.0}


def test_copies_and_frozen_pictures_are_found(folder: Path) -> None:
    (folder / "copy.safetensors").write_bytes((folder / "001.safetensors").read_bytes())
    change(folder, 5, frames=np.repeat(load_episode(folder / "005.safetensors").frames[:1], 60, 0))
    told = "\n".join(check_folder(folder, clip=13).warnings)
    assert "001.safetensors, copy.safetensors hold the same frames" in told


def test_recorded_too_fast_is_suspected(folder: Path) -> None:
    for path in folder.iterdir():
        episode = load_episode(path)
        actions = [Action(frozenset({"KeyA"}))] * len(episode)
        slow = np.repeat(episode.frames[::4], 4, axis=0)[: len(episode)]
        save_episode(path, replace(episode, frames=slow, actions=actions))
    told = "\n".join(check_folder(folder, clip=13).warnings)
    assert "most frames repeat the one before while a key is held" in told


def test_held_out_play_that_was_trained_on_is_found(tmp_path: Path, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for path in folder.iterdir():
        episode = load_episode(path)
        frames = rng.integers(0, 255, episode.frames.shape).astype(np.uint8)
        save_episode(path, replace(episode, frames=frames))
    unseen = write_episodes(tmp_path / "unseen", count=3, length=60, first=100)
    for number in range(100, 103):
        frames = rng.integers(0, 255, (60, 8, 16, 3)).astype(np.uint8)
        change(unseen, number, frames=frames)
    train = check_folder(folder, 13)
    assert overlap(train, check_folder(unseen, 13)) == 0
    part = load_episode(folder / "001.safetensors").frames[20:]
    leak = np.concatenate((load_episode(unseen / "100.safetensors").frames[:20], part))
    change(unseen, 100, frames=leak)
    share = (len(part) - 7) / (3 * (60 - 7))  # of the stretches of 8 frames
    assert overlap(train, check_folder(unseen, 13)) == pytest.approx(share)


def test_recordings_of_play_are_checked_too(folder: Path) -> None:
    record(folder / "played", folder / "000.safetensors")
    data = check_folder(folder, clip=13)
    assert (data.errors, data.warnings) == ([], [])
    assert data.frames == 7 * 60
    rows = (folder / "played.jsonl").read_text().splitlines()
    (folder / "played.jsonl").write_text("\n".join(rows[:41]) + "\n")
    assert check_folder(folder, 13).warnings == [
        "played.jsonl: 60 frames, 40 rows of actions (rows are missing)"
    ]
    (folder / "played.jsonl").write_text("\n".join(rows).replace("[8, 16]", "[800, 1600]"))
    (complaint,) = check_folder(folder, 13).errors
    assert "played.mp4: the video shows 640 x 320, too small for frames of 1600" in complaint
    (folder / "played.mp4").unlink()
    assert "played.mp4 is missing" in check_folder(folder, 13).errors[0]


def test_different_buttons_are_listed(folder: Path) -> None:
    change(folder, 3, buttons=("KeyA", "KeyD", "Space"))
    told = check_folder(folder, clip=13).warnings
    assert any("different buttons (KeyA KeyD; KeyA KeyD Space)" in text for text in told)


def test_programs_get_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(folder), str(folder), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["fit"]
    assert found["sets"][0]["lag"] == 0
    assert "100.0 % of it is in" in found["sets"][1]["warnings"][0]


def test_memory_does_not_grow_with_an_episodes_length(tmp_path: Path) -> None:
    """A file is read in blocks: ten times the frames take no ten times the memory."""
    import tracemalloc

    peaks = []
    for number, length in enumerate((1000, 10_000)):
        rng = np.random.default_rng(number)
        path = tmp_path / f"{number}" / "e.safetensors"
        frames = rng.integers(0, 255, (length, 24, 32, 3)).astype(np.uint8)
        save_episode(
            path,
            Episode(frames=frames, actions=[IDLE] * length, frames_per_second=10.0, buttons=()),
        )
        del frames
        tracemalloc.start()
        describe(check_folder(path.parent, 13))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 8e6  # the frames alone are 20 MB more


def test_what_could_not_be_told_is_not_called_fit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in list(folder.iterdir())[2:]:
        path.unlink()  # too few frames to tell the lag from
    assert main(["data", "check", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fit"] is None
    assert main(["data", "check", str(folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "whether it can be trained on cannot be told" in last
    assert "fewer than 200 frames" in last


@pytest.mark.parametrize(("by", "said"), [(0, ""), (1, ", but read the warnings")])
def test_praise_ends_where_warnings_begin(
    folder: Path, capsys: pytest.CaptureFixture[str], by: int, said: str
) -> None:
    shift(folder, by)
    assert main(["data", "check", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"it can be trained on{said}"


@pytest.mark.parametrize(
    ("columns", "word"), [(15, "cannot be halved even once"), (12, "suit no config that ships")]
)
def test_frames_of_sizes_that_do_not_halve_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], columns: int, word: str
) -> None:
    for number in range(6):
        frames = load_episode(folder / f"{number:03d}.safetensors").frames
        change(folder, number, frames=frames[:, :, :columns].copy())
    assert main(["data", "check", str(folder)]) == (2 if columns == 15 else 0)
    assert word in capsys.readouterr().out
