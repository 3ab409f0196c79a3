"""The command line, from arguments to exit code, on the drawn world."""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_world import DrawnWorld
from worldmodel.game.choice import Choice
from worldmodel.game.cli import main
from worldmodel.game.controls import Command
from worldmodel.game.input import Taken
from worldmodel.game.play_session import Session
from worldmodel.game.recording_control import Place, RecordingControl
from worldmodel.game.window import Window
from worldmodel.players import RandomPlayer
from worldmodel.storage.moments import load_moment
from worldmodel.storage.recording import load_recording, read_recording
from worldmodel.world import Frame, World

Play = Callable[..., int]


@pytest.fixture
def chosen() -> list[Choice]:
    return []


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: list[Choice]) -> Play:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def open_world(choice: Choice) -> World:
        chosen.append(choice)
        return DrawnWorld()

    return lambda *arguments: main([str(argument) for argument in arguments], open_world)


def hashes(path: Path) -> list[str]:
    return [row.hash for row in read_recording(path)[1]]


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


@pytest.mark.parametrize("how", [["--headless"], [], ["--sync"]])
def test_a_replay_finds_the_same_frames(
    play: Play, how: list[str], chosen: list[Choice], capsys: pytest.CaptureFixture[str]
) -> None:
    play("--headless", "--frames", 20, "--seed", 3, "--start", 1, "--steps", 2, "--record", "walk")
    assert play("--replay", "walk.jsonl", "--fps", 0, *how) == 0
    assert "21 of 21 frames identical" in capsys.readouterr().out
    assert chosen[-1].steps == 2, "the recording's settings are used"


def test_a_replay_names_the_first_changed_frame(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    play("--headless", "--frames", 20, "--record", "walk")
    path = Path("walk.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[8])
    row["hash"] = "0" * 16
    lines[8] = json.dumps(row)
    path.write_text("\n".join(lines), encoding="utf-8")
    assert play("--replay", path, "--headless") == 1
    assert (
        "20 of 21 frames identical; the first different one is frame 7" in capsys.readouterr().out
    )


def test_a_replay_says_which_settings_differ(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    play("--headless", "--frames", 5, "--record", "walk")
    path = Path("walk.jsonl")
    path.write_text(
        path.read_text(encoding="utf-8").replace('"dtype": "float32"', '"dtype": "bfloat16"'),
        encoding="utf-8",
    )
    assert play("--replay", path, "--headless") == 0
    out = capsys.readouterr().out
    assert "frames may differ, because settings do: dtype (bfloat16 then, float32 now)" in out


def test_what_a_recording_asks_for_and_nobody_knows_here_can_be_overruled(
    play: Play, chosen: list[Choice], capsys: pytest.CaptureFixture[str]
) -> None:
    play("--headless", "--frames", 5, "--record", "walk")
    path = Path("walk.jsonl")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"engine": "auto"', '"engine": "abacus"'), encoding="utf-8")
    assert play("--replay", path, "--headless") == 2
    assert "walk.jsonl: settings: engine = 'abacus': choose from" in capsys.readouterr().err
    assert play("--replay", path, "--headless", "--engine", "torch") == 0
    assert chosen[-1].engine == "torch"


def test_a_recording_can_be_played_on_as_a_player(play: Play) -> None:
    play("--headless", "--frames", 20, "--seed", 3, "--record", "walk")
    play("--headless", "--player", "walk.jsonl", "--seed", 3, "--record", "again")
    assert hashes(Path("walk.jsonl")) == hashes(Path("again.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "9"], "--start 9: drawn has the starts 0 the red room; 1 the blue room"),
        (["--start", "no.png"], "--start no.png: neither a number nor a file"),
        (["--player", "nobody"], "--player nobody: no such file; choose human, idle, random"),
        (["--replay", "missing.jsonl"], "missing.jsonl: not a recording"),
        (["--controls", "missing.toml"], "missing.toml: cannot be read as TOML"),
        (["--record", "blocked/clip"], f"{Path('blocked/clip')}: cannot be recorded there"),
        (["--record", "x" * 300], "--record xxx"),
        (["--start", "9" * 5000], "neither a number nor a file"),
        (["--player", "x" * 5000], "no such file"),
        (["--replay", "x.mp4"], "x.mp4: the video does not hold the actions; give the .jsonl"),
    ],
)
@pytest.mark.parametrize("how", [["--headless"], []])
def test_a_mistake_is_one_sentence_and_exit_2(
    play: Play,
    arguments: list[str],
    message: str,
    how: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("blocked").write_text("a file where a folder should be", encoding="utf-8")
    assert play(*arguments, *how) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("play: ")


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"steps": "x"}, "steps"), ({"world": 3}, "world"), ({"threads": 10**30}, "threads")],
)
def test_a_recording_with_impossible_settings_is_one_sentence(
    play: Play,
    settings: dict[str, object],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    play("--headless", "--frames", 2, "--record", "walk")
    path = Path("walk.jsonl")
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    table = json.loads(header)
    table["settings"] |= settings
    path.write_text("\n".join([json.dumps(table), *rows]), encoding="utf-8")
    assert play("--replay", path, "--headless") == 2
    error = capsys.readouterr().err
    assert "play: walk.jsonl: settings" in error
    assert message in error


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


def record_with_a_branch(name: str) -> Path:
    """A person who plays 20 frames, goes back 6, and plays 10 more."""
    world = DrawnWorld()
    player = RandomPlayer(world.actions, seed=5)
    turned = itertools.count(1)
    session = Session(world, lambda _: Taken(player.act(next(turned)), None), seed=4)
    recording_control = RecordingControl(Place(Path(), name), lambda _: None)
    recording_control.is_rolling = True
    recording_control.show(session, session.begin(), None)

    def play_on(frames: int) -> None:
        for _ in range(frames):
            step = session.turn(None)
            assert step is not None
            session.remember()
            recording_control.show(session, step, None)

    play_on(20)
    session.turn(Command.REWIND)
    for _ in range(6):
        step = session.turn(None)
        assert step is not None
        recording_control.show(session, step, None)
    session.turn(Command.GO_ON)
    play_on(10)
    recording_control.close()
    return Path(f"{name}.jsonl")


@pytest.mark.parametrize("how", [["--headless"], [], ["--sync"]])
def test_a_replay_follows_every_branch(
    play: Play, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = record_with_a_branch("branched")
    rows = read_recording(path)[1]
    assert [row.index for row in rows] == [*range(21), *range(15, 25)]
    assert [row.back_to for row in rows if row.back_to is not None] == [14]
    assert play("--replay", path, "--fps", 0, *how) == 0
    assert "31 of 31 frames identical" in capsys.readouterr().out


def test_a_branched_recording_is_one_episode_of_its_last_branch(play: Play) -> None:
    path = record_with_a_branch("branched")
    rows = read_recording(path)[1]
    episode = load_recording(path)
    assert len(episode) == 25
    assert list(episode.actions) == [row.action for row in (*rows[:15], *rows[21:])]
    play("--headless", "--player", path, "--seed", 4, "--record", "again")
    assert hashes(Path("again.jsonl")) == [row.hash for row in (*rows[:15], *rows[21:])]


def press_keys(monkeypatch: pytest.MonkeyPatch, keys: dict[int, int]) -> None:
    """Put a key press into the queue when the window shows a picture of that number."""
    real, count = Window.show, itertools.count()

    def show(self: Window, frame: Frame) -> float:
        if (scancode := keys.get(next(count))) is not None:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, scancode=scancode, mod=0))
        return real(self, frame)

    monkeypatch.setattr(Window, "show", show)


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


def test_a_broken_session_is_offered_once_and_loaded(
    play: Play,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLDMODEL_DATA", str(tmp_path / "data"))
    real, count = Window.show, itertools.count()

    def show(window: Window, frame: Frame) -> float:
        if next(count) == 9:
            raise RuntimeError("the screen broke")
        return real(window, frame)

    with monkeypatch.context() as patch:
        patch.setattr(Window, "show", show)
        with pytest.raises(RuntimeError, match="the screen broke"):
            play("--fps", 0)
    capsys.readouterr()
    assert play("--frames", 2, "--fps", 0) == 0
    assert "a session in drawn broke off just now, at frame" in capsys.readouterr().out
    assert play("--load", "--frames", 2, "--fps", 0) == 0
    assert "going on from frame" in capsys.readouterr().out
    assert play("--frames", 2, "--fps", 0) == 0
    assert "broke off" not in capsys.readouterr().out
    (path,) = (tmp_path / "data" / "moments" / "drawn").glob("*")
    assert not path.name.startswith("autosave")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--load"], "--load: nothing is saved yet, F5 saves"),
        (["--load", "--world", "x"], "--load: nothing is saved of x yet"),
        (["--load", "no.safetensors"], "no.safetensors: cannot be read: No such file"),
        (["--load", "."], ".: cannot be read: not a file"),
        (["--load", "text"], "text: a broken moment"),
        (["--load", "x" * 5000], "cannot be read: File name too long"),
    ],
)
def test_a_moment_that_cannot_be_loaded_is_one_sentence(
    play: Play,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLDMODEL_DATA", str(tmp_path / "nothing"))
    Path("text").write_text("no moment", encoding="utf-8")
    assert play(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_recording_begun_in_the_middle_of_play_replays(
    play: Play, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    press_keys(monkeypatch, {12: pygame.KSCAN_F6})
    assert play("--frames", 30, "--fps", 0, "--seed", 3, "--player", "random") == 0
    (path,) = Path("recordings").glob("*.jsonl")
    header, rows = read_recording(path)
    assert header.first_frame > 0
    assert play("--replay", path, "--headless") == 0
    assert f"{len(rows)} of {len(rows)} frames identical" in capsys.readouterr().out
    path.with_suffix(".moment").rename("elsewhere.moment")
    assert play("--replay", path, "--headless") == 2
    assert "with what came before, is not beside it" in capsys.readouterr().err
