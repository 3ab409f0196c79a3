"""`worldmodel evaluate --places`: a tiny world beside the real game, as it is printed."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.test_perceptual import random_weights
from tests.worlds.make_world import make_world
from worldmodel.config import ConfigError, UserError
from worldmodel.evaluation.places import Places
from worldmodel.evaluation.places_report import evaluate_places, print_places, write_places
from worldmodel.worlds.world_folder import read_world_file, write_measured

GAME = '[game]\nlevel = "my_way_home"\ntics_per_frame = 2\n'


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "alex_shift_tolerant.pth"
    torch.save(random_weights(), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world") / "tiny", is_doom=True)


@pytest.fixture(scope="module")
def places(folder: Path, weights: Path) -> Places:
    return evaluate_places(str(folder), seed=0, walks=1, frames=20, perceptual=weights)


def printed(places: Places, capsys: pytest.CaptureFixture[str]) -> tuple[list[list[str]], str]:
    """The words of each line, and the line of JSON."""
    print_places(places, "tiny")
    *lines, told = capsys.readouterr().out.splitlines()
    return [line.split() for line in lines], told


def test_the_distance_of_looks_is_a_row_of_its_own(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, told = printed(places, capsys)
    at = lines.index(["perceptual", "distance", "world", "limit"])
    one = places.lockstep[16]
    assert lines[at + 1] == ["16", f"{one.perceptual:.3f}", f"{one.perceptual_limit:.3f}"]
    assert 0 < one.perceptual_limit != one.perceptual > 0
    found = json.loads(told)["places"]["lockstep"]["16"]
    assert found["perceptual"] == round(one.perceptual, 3)
    assert found["perceptual_limit"] == round(one.perceptual_limit, 3)


def test_who_names_no_weights_is_told_nothing_of_looks(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    one = replace(places.lockstep[16], perceptual=math.nan, perceptual_limit=math.nan)
    lines, told = printed(replace(places, lockstep={16: one}), capsys)
    assert "perceptual" not in told + str(lines)


def test_a_world_that_knows_no_place_is_nowhere_off(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, told = printed(places, capsys)
    assert lines[3][-2:] == ["no", "place"]
    assert "off" not in json.loads(told)["places"]["lockstep"]["16"]
    off = replace(places.lockstep[16], off=3.25, off_worst=9.75)
    lines, told = printed(replace(places, lockstep={16: off}), capsys)
    assert lines[3][-2:] == ["3.2", "(10)"]
    assert json.loads(told)["places"]["lockstep"]["16"]["off_worst"] == 9.8


def test_figures_stand_in_the_worlds_file_beside_others(folder: Path, places: Places) -> None:
    write_measured(folder, {"speed": {"frames": 3}, "places": {"walks": 7}})
    write_places(folder, replace(places, walks=2))
    measured = read_world_file(folder).measured
    assert measured["speed"] == {"frames": 3}
    assert measured["places"]["walks"] == 2
    assert measured["places"]["turn"]["game"] == round(places.turn.game, 2)


def test_frames_too_small_to_look_at_are_refused_before_anything_is_played(
    tmp_path: Path, weights: Path
) -> None:
    small = make_world(tmp_path / "small")
    file = small / "world.toml"
    text = file.read_text(encoding="utf-8").replace("[game]", GAME)
    file.write_text(text, encoding="utf-8")
    told = "frames are 16 x 8, expected at least 32 x 32; leave it out, or take larger frames"
    with pytest.raises(ConfigError, match=told):
        evaluate_places(str(small), seed=0, walks=1, frames=20, perceptual=weights)


def test_walks_too_short_for_any_horizon_are_refused() -> None:
    with pytest.raises(UserError, match="--walk-frames 19: at least 20, to look around frame 16"):
        evaluate_places(None, 0, walks=1, frames=19)
