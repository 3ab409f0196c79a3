"""--side-by-side from the command line to the clip, and clips of recordings made without it."""

import csv
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from tests.game.drawn_real import LearnedWorld, open_drawn
from tests.game.drawn_world import DrawnWorld
from tests.game.walks import press_keys, record_with_a_branch
from worldmodel.config import UserError
from worldmodel.game.cli import main
from worldmodel.game.reference_play import origin_of
from worldmodel.game.side_by_side_clip import keep_side_by_side
from worldmodel.storage.recording import load_recording, read_recording
from worldmodel.storage.video import read_video

Play = Callable[..., int]
NEARLY = 30.0  # dB: the same frame after H.264


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def run(*arguments: object, world: DrawnWorld | None = None) -> int:
        opened = world or LearnedWorld()
        return main([str(argument) for argument in arguments], lambda _: opened, open_drawn)

    return run


def differences(path: Path) -> list[tuple[int, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(int(row["frame"]), float(row["psnr"])) for row in csv.DictReader(file)]


def test_headless_the_clip_of_both_is_kept_and_the_recording_is_what_it_was(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--headless", "--player", "random", "--frames", 40, "--start", 1, "--record")
    assert play(*arguments, "alone") == 0
    assert play(*arguments, "both", "--side-by-side") == 0
    assert "both_side_by_side.mp4: PSNR to the real game" in capsys.readouterr().out
    texts = [Path(f"{name}.jsonl").read_text(encoding="utf-8") for name in ("alone", "both")]
    assert texts[0] == texts[1]
    assert Path("alone.mp4").read_bytes() == Path("both.mp4").read_bytes()
    assert not Path("alone_side_by_side.mp4").exists()
    found = differences(Path("both_side_by_side.csv"))
    assert [index for index, _ in found] == list(range(41))
    assert min(db for _, db in found) > NEARLY
    pictures = list(read_video(Path("both_side_by_side.mp4")))
    assert len(pictures) == 41
    assert pictures[0].shape == (540, 960, 3)
    assert play("--replay", "both.jsonl", "--headless") == 0
    assert len(load_recording(Path("both.jsonl"))) == 41


def test_every_branch_is_played_in_the_game_too(play: Play) -> None:
    del play
    path = record_with_a_branch("branched")
    origin = LearnedWorld().origin
    # That world begins where its seed says, here 4 steps ahead of the game's start.
    trajectory = origin.trajectory_to(0)
    ahead = [*trajectory.actions, *trajectory.actions, trajectory.actions[0]]
    begun = DrawnWorld().reset(0, 4)
    trajectories = [replace(trajectory, actions=ahead, frame=begun)]
    kept = keep_side_by_side(path, replace(origin, trajectories=trajectories), open_drawn)
    found = differences(kept.path.with_suffix(".csv"))
    assert [index for index, _ in found] == [row.index for row in read_recording(path)[1]]
    assert min(db for _, db in found) > NEARLY
    assert [index for index, _ in kept.points] == list(range(25))


def test_in_the_window_f7_shows_the_game_and_keeps_both_of_what_is_recorded(
    play: Play, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    press_keys(monkeypatch, {5: pygame.KSCAN_F7, 12: pygame.KSCAN_F6})
    assert play("--frames", 60, "--fps", 60, "--player", "random") == 0
    (path,) = Path("recordings").glob("*_side_by_side.csv")
    found = differences(path)
    assert found[0][0] > 8, "begun in the middle of play: the moment knows what was done before"
    assert min(db for _, db in found) > NEARLY
    assert "not shown" not in capsys.readouterr().out


@pytest.mark.parametrize("how", [[], ["--sync"]])
def test_begun_with_it_the_window_shows_both(
    play: Play, how: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from worldmodel.game.window import Window

    seen = []
    real, count = Window.show_view, itertools.count()

    def show_view(self: Window, view: Any) -> None:
        next(count)
        seen.append(view)
        real(self, view)

    monkeypatch.setattr(Window, "show_view", show_view)
    assert play("--side-by-side", "--frames", 120, "--fps", 20, "--player", "random", *how) == 0
    assert any(view.real is not None for view in seen)


def test_without_a_way_it_is_one_sentence_before_play(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play("--headless", "--side-by-side", "--start", 2, "--frames", 5) == 2
    error = capsys.readouterr().err
    assert error.startswith("play: no way leads to a picture; `--start real` begins where it can")
    assert error.count("\n") == 1
    assert play("--headless", "--side-by-side", "--frames", 5, world=DrawnWorld()) == 2
    assert "drawn was not learned from a game that is known here" in capsys.readouterr().err


@pytest.mark.parametrize("broken", [{"exits_at": 9}, {"raises_at": 9}, {"refuses": True}])
def test_a_game_that_breaks_costs_only_the_clip_of_both(
    play: Play, broken: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    world = LearnedWorld(**broken)
    arguments = ("--headless", "--side-by-side", "--frames", 20, "--record", "walk")
    assert play(*arguments, world=world) == 0
    assert "walk.mp4: not shown beside the real game: " in capsys.readouterr().out
    assert len(load_recording(Path("walk.jsonl"))) == 21
    assert not list(Path().glob("*.csv"))


def test_where_the_level_ends_in_the_game_its_last_frame_stays(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    world = LearnedWorld(ends_at=13)
    play("--headless", "--side-by-side", "--frames", 20, "--record", "walk", world=world)
    assert "the game's level has an end here" in capsys.readouterr().out
    assert [index for index, _ in differences(Path("walk_side_by_side.csv"))] == list(range(10))
    assert len(list(read_video(Path("walk_side_by_side.mp4")))) == 21


def test_what_began_at_a_place_of_the_map_is_not_compared_with_a_start(play: Play) -> None:
    """It would be shown beside another place, and look like a bad world."""
    play("--headless", "--frames", 20, "--record", "walk")
    header, _, rows = Path("walk.jsonl").read_text(encoding="utf-8").partition("\n")
    settings = json.loads(header)
    settings["settings"]["at"] = "20, -10, 90°"
    Path("walk.jsonl").write_text(f"{json.dumps(settings)}\n{rows}", encoding="utf-8")
    with pytest.raises(UserError, match=r"began at a place of the map .'20, -10, 90°'"):
        keep_side_by_side(Path("walk.mp4"), origin_of(LearnedWorld()), open_drawn)
    assert not list(Path().glob("*.csv"))
