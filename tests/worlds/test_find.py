"""The world that a recording was made in is found again, wherever both lie now."""

import shutil
from pathlib import Path

import pytest

from play import open_world
from tests.worlds.make_world import make_world
from worldmodel.game.cli import main
from worldmodel.game.side_by_side_clip import origin_of_recording
from worldmodel.storage.recording import read_recording

RUN = ("--headless", "--frames", "2", "--dtype", "float32", "--threads", "1", "--engine", "torch")


def play(*arguments: str) -> int:
    return main([*RUN, *arguments], open_world)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a world, and a recording that calls it by a relative path, as older ones do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project" / "worlds").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    make_world(Path("worlds/bar"))
    assert play("--world", "worlds/bar", "--record", "clips/walk") == 0
    path = Path("clips/walk.jsonl")
    text = path.read_text(encoding="utf-8")
    assert str(tmp_path) not in text  # nobody who gets it learns where it was made
    assert text.startswith('{"format": "worldmodel recording 1", "settings": {"world": "bar"')
    path.write_text(text.replace('"world": "bar"', '"world": "worlds/bar"', 1), encoding="utf-8")
    return tmp_path / "project"


def replays(path: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    code = play("--replay", str(path))
    return code == 0 and "3 of 3 frames identical" in capsys.readouterr().out


def test_a_recording_is_replayed_from_another_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = project.parent / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    assert replays(project / "clips" / "walk.jsonl", capsys)
    shutil.move(project, other / "moved")
    assert replays(other / "moved" / "clips" / "walk.jsonl", capsys)
    shutil.move(other / "moved" / "worlds" / "bar", other / "renamed")
    assert replays(other / "moved" / "clips" / "walk.jsonl", capsys)


def test_of_two_worlds_of_a_name_the_one_with_the_weights_is_played(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = project.parent / "elsewhere"
    (other / "worlds").mkdir(parents=True)
    impostor = make_world(other / "worlds" / "bar", is_doom=True)
    monkeypatch.chdir(other)
    assert replays(project / "clips" / "walk.jsonl", capsys)
    shutil.rmtree(project / "worlds")
    assert play("--replay", str(project / "clips" / "walk.jsonl")) != 0
    assert impostor.is_dir()
    shutil.rmtree(other / "worlds")
    assert play("--replay", str(project / "clips" / "walk.jsonl")) == 2
    said = capsys.readouterr().err
    assert "made in the world 'worlds/bar' (sha256 of its weights: '" in said
    assert "give its folder with --world; unknown world 'worlds/bar'" in said


def test_a_world_that_was_asked_for_is_the_one_that_is_played(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_world(project / "doom", is_doom=True)
    assert play("--world", str(other), "--replay", "clips/walk.jsonl") == 1
    assert "world (bar then, doom now)" in capsys.readouterr().out


def test_a_start_of_ones_own_is_found_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("worlds/bar/starts/1.safetensors", "own.safetensors")
    assert play("--world", "worlds/bar", "--start", "own.safetensors", "--record", "own/a") == 0
    assert read_recording(Path("own/a.jsonl"))[0].settings["start"] == "own.safetensors"
    monkeypatch.chdir(project.parent)
    assert replays(project / "own" / "a.jsonl", capsys)


def test_the_real_game_behind_it_is_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    make_world(Path("in/doom"), is_doom=True)
    assert play("--world", "in/doom", "--record", "walk") == 0
    shutil.move("in", "moved")
    assert origin_of_recording(Path("walk.mp4")).world == "doom"


@pytest.mark.parametrize("called", ["bar", "absolute"])
def test_what_is_shared_names_the_world_and_play_knows_where_it_lies(
    called: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "clips" / "walk.jsonl"
    name = called if called == "bar" else str(project / "worlds" / "bar").replace("\\", "\\\\")
    text = path.read_text(encoding="utf-8").replace("worlds/bar", name)
    path.write_text(text, encoding="utf-8")
    unrelated = project.parent / "a" / "b"
    unrelated.mkdir(parents=True)
    for file in (path, path.with_suffix(".mp4")):
        shutil.move(file, unrelated / file.name)
    monkeypatch.chdir(unrelated)
    assert replays(unrelated / "walk.jsonl", capsys)


def test_no_folder_of_this_machine_is_in_what_is_shared(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("worlds/bar/starts/1.safetensors", "own.safetensors")
    for number, start in enumerate(
        (project / "own.safetensors", Path("../project/own.safetensors"))
    ):
        begin = ("--world", str(project / "worlds" / "bar"), "--start", str(start))
        assert play(*begin, "--record", f"clips/own{number}") == 0
        for file in Path("clips").glob(f"own{number}*"):
            assert str(project.parent).encode() not in file.read_bytes(), file
        assert replays(Path(f"clips/own{number}.jsonl"), capsys)


def test_a_start_of_ones_own_is_found_for_the_real_game_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    world = make_world(Path("doom"), is_doom=True)
    shutil.copy(world / "starts" / "1.safetensors", "own.safetensors")
    own = str(tmp_path / "in" / "own.safetensors")
    assert play("--world", "doom", "--start", own, "--record", "walk") == 0
    monkeypatch.chdir(tmp_path)
    assert origin_of_recording(tmp_path / "in" / "walk.mp4").world == "doom"
