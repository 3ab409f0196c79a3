"""What the command line asks for is checked before anything slow begins."""

import itertools
import json
import re
from pathlib import Path

import pytest

from tests.game.conftest import Play
from tests.game.drawn_world import DrawnWorld
from tests.game.walks import hashes
from worldmodel.action import IDLE
from worldmodel.config import UserError
from worldmodel.game.choice import Choice
from worldmodel.game.flags import make_parser
from worldmodel.game.jumps import Elsewhere
from worldmodel.game.request import Request
from worldmodel.game.window import Window
from worldmodel.players import RandomPlayer
from worldmodel.system.limits import MOST_FOREIGN_STEPS
from worldmodel.world import Frame


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


def request(*flags: object) -> Request:
    return Request(make_parser().parse_args([str(flag) for flag in flags]), None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--headless --fullscreen", "--headless and --fullscreen: there is no window"),
        ("--headless --no-hud", "--headless and --no-hud: there is no window"),
        ("--load --start 1", "--load and --start: the moment says which"),
        ("--replay a.jsonl --start 1", "--replay and --start: the recording says which"),
        ("--replay a.jsonl --seed 2", "--replay and --seed: the recording says which"),
        ("--replay a.jsonl --player random", "--replay and --player: the recording says which"),
        ("--replay a.jsonl --headless --side-by-side", "--side-by-side is of a clip: add --record"),
        ("--load --replay walk.jsonl", "--load and --replay: one of them"),
        ("--at 1,2,3 --load", "--at and --load: each says where play begins"),
        ("--at 1,2,3 --start 1", "--at and --start: each says where play begins"),
        (
            "--at 1,2,3 --side-by-side",
            "--at and --side-by-side: the real game begins at its starts",
        ),
        ("--start real", "--start real: no real game can be started here"),
    ],
)
def test_flags_that_leave_each_other_nothing_to_do_are_told(
    play: Play, flags: str, message: str
) -> None:
    play("--headless", "--frames", 2, "--record", "walk")
    with pytest.raises(UserError, match=re.escape(message)):
        request(*flags.split())


def test_who_plays_and_for_how_long_is_said_by_flag_recording_or_script(play: Play) -> None:
    play("--headless", "--frames", 7, "--seed", 4, "--start", 1, "--record", "walk")
    Path("script.txt").write_text("3 KeyW\n2 idle\n", encoding="utf-8")
    world = DrawnWorld()

    replayed = request("--replay", "walk.jsonl")
    assert (replayed.frames(), replayed.start(world), replayed.is_human) == (7, 1, False)
    scripted = request("--player", "script.txt")
    assert scripted.frames() == 5
    acts = [scripted.player(world)(index).action.buttons for index in range(1, 6)]
    assert acts == [frozenset({"KeyW"})] * 3 + [frozenset()] * 2
    assert request("--player", "script.txt", "--frames", 2).frames() == 2
    chance = request("--player", "random", "--seed", 3)
    take, same = chance.player(world), RandomPlayer(world.actions, 3)
    assert [take(i).action for i in range(1, 20)] == [same.act(i) for i in range(1, 20)]
    assert request("--player", "idle").player(world)(1).action == IDLE
    assert request().frames() is None
    assert request().is_human


def test_only_who_says_nothing_is_asked_what_to_play(play: Play) -> None:
    play("--headless", "--frames", 2, "--record", "walk")
    assert request("--seed", 5).is_silent
    for said in (["--world", "x"], ["--start", 1], ["--record"], ["--frames", 3]):
        assert not request(*said).is_silent
    assert not request("--replay", "walk.jsonl").is_silent
    assert not request("--player", "idle").is_silent


def test_another_world_takes_over_how_it_is_shown_and_nothing_of_the_first(play: Play) -> None:
    play("--headless", "--frames", 2, "--record", "walk")
    asked = request("--replay", "walk.jsonl", "--scale", 2, "--threads", 3, "--prompt", "x")
    options = asked.options_for(Elsewhere("other", Path("kept.safetensors")))
    assert (options.world, options.load) == ("other", "kept.safetensors")
    assert (options.scale, options.threads) == (2, 3)
    assert (options.replay, options.prompt, options.player, options.start) == (
        None,
        None,
        "human",
        "0",
    )


def test_a_recording_of_countless_steps_is_played_only_when_that_is_said(play: Play) -> None:
    play("--headless", "--frames", 2, "--record", "walk")
    path = Path("walk.jsonl")
    steps = MOST_FOREIGN_STEPS + 1
    path.write_text(path.read_text(encoding="utf-8").replace('"steps": 0', f'"steps": {steps}'))
    with pytest.raises(UserError, match=f"if that is meant, say --steps {steps}"):
        request("--replay", "walk.jsonl")
    assert request("--replay", "walk.jsonl", "--steps", 4).choice.steps == 4
