"""The command line, from arguments to exit code, on the drawn world."""

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.conftest import Play
from tests.game.walks import hashes, press_keys
from worldmodel.game.choice import Choice
from worldmodel.game.recording_control import Place
from worldmodel.game.window import Window
from worldmodel.storage.moments import load_moment
from worldmodel.storage.recording import load_recording, read_recording
from worldmodel.world import Frame


def test_headless_the_same_seed_gives_the_same_frames(play: Play) -> None:
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        code = play("--headless", "--frames", 25, "--seed", seed, "--record", name)
        assert code == 0
    assert hashes(Path("a.jsonl")) == hashes(Path("b.jsonl"))
    assert Path("a.jsonl").read_text(encoding="utf-8") == Path("b.jsonl").read_text(
        encoding="utf-8"
    )
    assert hashes(Path("a.jsonl")) != hashes(Path("c.jsonl"))
    assert len(load_recording(Path("a.jsonl"))) == 26


def test_without_a_display_it_says_so_and_leaves_a_clip(
    play: Play, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert play("--frames", 20) == 0
    out = capsys.readouterr().out
    assert "no display here: the random player plays a short session instead" in out
    assert "20 frames, " in out
    assert "fps; action to frame p50" in out
    (clip,) = Path("recordings").glob("drawn_*.mp4")
    assert str(clip) in out


def test_with_a_window_it_plays_records_and_ends(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--player", "random", "--frames", 20, "--fps", 0, "--record", "walk")
    assert play(*arguments) == 0
    assert len(read_recording(Path("walk.jsonl"))[1]) == 21
    assert "fps" in capsys.readouterr().out


def test_the_window_and_sync_and_headless_give_the_same_frames(play: Play) -> None:
    common = ("--player", "random", "--frames", 20, "--fps", 0, "--record")
    play(*common, "window")
    play(*common, "sync", "--sync")
    play("--frames", 20, "--headless", "--record", "headless")
    assert hashes(Path("window.jsonl")) == hashes(Path("sync.jsonl"))
    assert hashes(Path("window.jsonl")) == hashes(Path("headless.jsonl"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--frames", "-3"],
        ["--fps", "x"],
        ["--fps", "1e-300"],
        ["--fps", "nan"],
        ["--nonsense"],
        ["--seed", "9" * 30],
        ["--seed", str(2**63)],
        ["--seed", "9" * 5000],
        ["--threads", "1025"],
        ["--scale", "0"],
        ["--scale", "100000"],
    ],
)
def test_a_wrong_flag_is_exit_2(play: Play, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        play(*arguments)


@pytest.mark.parametrize("how", [["--headless"], ["--player", "random"]])
@pytest.mark.parametrize("part", ["write", "close"])
def test_a_lost_recording_is_exit_2_after_play_went_on(
    play: Play,
    how: list[str],
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"worldmodel.storage.video.VideoWriter.{part}", full)
    assert play("--frames", 20, "--fps", 0, "--record", "walk", *how) == 2
    captured = capsys.readouterr()
    assert "fps" in captured.out
    assert "walk.mp4\n" not in captured.out, "a lost clip is no result"
    assert "play: walk.mp4: recording stopped: No space left on device" in captured.err


def test_without_a_window_the_usual_folder_is_tried_before_play(
    play: Play, chosen: list[Choice], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("recordings").write_text("a file where a folder should be", encoding="utf-8")
    assert play("--headless", "--frames", 5) == 2
    assert "play: recordings: cannot be recorded there" in capsys.readouterr().err
    assert not chosen


@pytest.mark.parametrize("where", [".", "..", "there", "new/", "new/sub/"])
def test_to_record_into_a_folder_names_the_files_after_world_and_time(
    play: Play, where: str
) -> None:
    Path("there").mkdir()
    assert play("--headless", "--frames", 2, "--record", where) == 0
    assert len(list(Path(where).glob("drawn_*-*.mp4"))) == 1


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a\\b", "..", "C:evil", "x" * 300])
def test_a_worlds_name_cannot_leave_the_folder(name: str) -> None:
    path = Place().path(name)
    assert path.parent == Path("recordings")
    assert len(path.name) < 120
    assert not set(path.name) & set('/\\:<>|"?*')
    assert not path.name.startswith(".")


def test_a_root_can_be_asked_for_and_a_file_ending_is_dropped() -> None:
    assert Place.of("/") == Place(Path("/"))
    assert Place.of("walk.mp4") == Place(Path(), "walk")
    assert Place.of("") == Place(Path("recordings"))


def test_a_window_that_breaks_in_the_middle_ends_every_thread_at_once(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = Window.show, itertools.count()
    broke = 0.0

    def show(window: Window, frame: Frame) -> float:
        nonlocal broke
        if next(count) == 5:
            broke = time.perf_counter()
            raise RuntimeError("the screen broke")
        return real(window, frame)

    monkeypatch.setattr(Window, "show", show)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="the screen broke"):
        play("--player", "random", "--fps", 0, "--record", "walk")
    assert time.perf_counter() - broke < 1
    assert threading.active_count() == before
    assert len(load_recording(Path("walk.jsonl"))) == 5


def test_f5_saves_and_load_goes_on_from_there(
    play: Play,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLDMODEL_DATA", str(tmp_path / "data"))
    press_keys(monkeypatch, {12: pygame.KSCAN_F5})
    assert play("--frames", 30, "--fps", 0, "--seed", 3) == 0
    (path,) = (tmp_path / "data" / "moments" / "drawn").iterdir()
    assert f"saved this moment: {path}" in capsys.readouterr().out
    index = load_moment(path).header.index
    assert 12 <= index <= 14
    for wanted in ([], [path]):
        assert play("--load", *wanted, "--headless", "--frames", 5, "--record", "on") == 0
    header, rows = read_recording(Path("on.jsonl"))
    assert (header.first_frame, header.seed, len(rows)) == (index, 3, 6)
