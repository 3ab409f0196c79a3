"""The shipped world beside the real game it was learned from."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from play import open_real, open_world
from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom
from worldmodel.evaluation.reference_clips import game_of
from worldmodel.evaluation.start_pictures import play_starts, save_starts
from worldmodel.evaluation.subject import load_subjects
from worldmodel.game.cli import main
from worldmodel.reference.game import bring, psnr
from worldmodel.storage.episodes import load_episode
from worldmodel.storage.recording import load_recording
from worldmodel.storage.video import read_video
from worldmodel.worlds.find import find_world
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.starts import load_starts, read_origin
from worldmodel.worlds.world_folder import read_world_file

pytest.importorskip("vizdoom")


@pytest.fixture(scope="module")
def game() -> Iterator[Doom]:
    with Doom(game_of(read_world_file(find_world(None)))) as doom:
        yield doom


def test_the_game_comes_to_every_start_of_the_shipped_world_bit_for_bit(game: Doom) -> None:
    folder = find_world(None)
    starts = load_starts(folder, read_world_file(folder), None)
    assert len(starts) == 7
    for start in starts:
        assert not isinstance(start.trajectory, UserError)
        visible = len(start.clip)
        frames = [game.reset(start.trajectory.seed), *map(game.step, start.trajectory.actions)]
        np.testing.assert_array_equal(np.stack(frames[-visible:]), start.clip.frames)
        assert list(start.trajectory.actions[1 - visible :]) == list(start.clip.actions[1:])


def test_the_first_frames_of_dream_and_game_agree_headless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = "--headless --side-by-side --player idle --start 4 --frames 40 --engine torch"
    assert main([*flags.split(), "--record", "idle"], open_world, open_real) == 0
    out = capsys.readouterr().out
    assert "idle_side_by_side.mp4: PSNR to the real game" in out
    table = Path("idle_side_by_side.csv").read_text(encoding="utf-8").splitlines()[1:]
    found = {int(line.split(",")[0]): float(line.split(",")[1]) for line in table}
    assert min(found[i] for i in (0, 1, 8, 32)) > 30, "the red room: nothing moves there"
    assert len(list(read_video(Path("idle_side_by_side.mp4")))) == 41


def test_a_world_that_knows_its_place_walks_beside_the_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = (
        "--headless --side-by-side --world doom-places --player random --frames 60 --engine torch"
    )
    assert main([*flags.split(), "--record", "walk"], open_world, open_real) == 0
    lines = Path("walk_side_by_side.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "frame,psnr,apart"
    apart = [float(line.split(",")[2]) for line in lines[1:]]
    assert len(apart) == 61
    assert apart[0] < 0.01
    assert max(apart[:40]) < 1.0, "map units; it walked four hundred, along walls too"


def test_a_fresh_episode_of_the_game_is_a_start_with_a_way(
    game: Doom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = "--headless --side-by-side --player random --engine torch --seed 5 --frames 6"
    assert main([*flags.split(), "--start", "real", "--record", "walk"], open_world, open_real) == 0
    folder = find_world(None)
    path = Path(f"recordings/real_{folder.name}_5.safetensors")
    trajectory = read_origin(folder, read_world_file(folder), str(path)).trajectory_to(0)
    np.testing.assert_array_equal(bring(game, trajectory), trajectory.frame)
    track = load_episode(path).state
    assert track is not None
    np.testing.assert_array_equal(track.values[-1], game.state)
    first = load_recording(Path("walk.jsonl")).frames[0]
    assert psnr(first, trajectory.frame) > 22, "the world begins with the game's own picture"
    assert Path("walk_side_by_side.mp4").is_file()
    assert main(["--replay", "walk.jsonl", "--headless"], open_world, open_real) == 0


def test_the_evaluation_draws_the_starts_as_play_does(game: Doom, tmp_path: Path) -> None:
    folder = find_world(None)
    subjects = load_subjects(folder, RunSettings(), teacher_steps=2)
    played = play_starts(folder, subjects, game, frames=6)
    assert [one.caption for one in played] == list(subjects.file.starts.values())
    assert all(one.exact for one in played)
    assert min(one.psnr[0] for one in played) > 22
    save_starts(played[:1], tmp_path, 17.5)
    assert len(list(read_video(tmp_path / "start_0.mp4"))) == len(played[0].real)


def test_without_vizdoom_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    folder = find_world(None)
    source = read_origin(folder, read_world_file(folder), None).source
    with pytest.raises(UserError, match="needs ViZDoom, which is not installed"):
        open_real(source)
