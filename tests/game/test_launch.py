"""The command line, from arguments to exit code, on the drawn world."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.game.drawn_world import DrawnWorld
from worldmodel.game.cli import Choice, main
from worldmodel.recording import load_recording, read_recording
from worldmodel.world import World

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
    assert Path("a.jsonl").read_text() == Path("b.jsonl").read_text()
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
    lines = path.read_text().splitlines()
    row = json.loads(lines[8])
    row["hash"] = "0" * 16
    lines[8] = json.dumps(row)
    path.write_text("\n".join(lines))
    assert play("--replay", path, "--headless") == 1
    assert (
        "20 of 21 frames identical; the first different one is frame 7" in capsys.readouterr().out
    )


def test_a_replay_says_which_settings_differ(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    play("--headless", "--frames", 5, "--record", "walk")
    path = Path("walk.jsonl")
    path.write_text(path.read_text().replace('"dtype": "uint8"', '"dtype": "float9"'))
    assert play("--replay", path, "--headless") == 0
    out = capsys.readouterr().out
    assert "frames may differ, because settings do: dtype (float9 then, uint8 now)" in out


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
        (["--record", "blocked/clip"], "--record blocked/clip: cannot be written"),
        (["--scale", "0"], "--scale 0"),
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
    Path("blocked").write_text("a file where a folder should be")
    assert play(*arguments, *how) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("play: ")


@pytest.mark.parametrize("arguments", [["--frames", "-3"], ["--fps", "x"], ["--nonsense"]])
def test_a_wrong_flag_is_exit_2(play: Play, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        play(*arguments)
