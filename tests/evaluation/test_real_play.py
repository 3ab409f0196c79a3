"""A world held against recorded episodes, whatever game they are of."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.worlds.make_world import NUMBERS, make_world
from worldmodel.__main__ import main
from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.evaluation.real_play import CLIPS, FRESH, LESSONS, NEXT, FromEpisodes
from worldmodel.state_spec import StateTrack
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import load_episode, save_episode
from worldmodel.worlds.world_folder import WorldFile, read_world_file

SPARE = 7  # frames of an episode beside whole clips


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("worlds") / "random")


@pytest.fixture(scope="module")
def file(world: Path) -> WorldFile:
    return read_world_file(world)


def record(folder: Path, world: WorldFile, lengths: Sequence[int], *, moves: bool = True) -> Path:
    """Episodes in which the number of the frame and of the episode stand in every pixel."""
    folder.mkdir()
    shape = world.autoencoder
    for number, length in enumerate(lengths):
        frames = np.zeros((length, shape.frame_height, shape.frame_width, 3), np.uint8)
        frames[..., 0] = (np.arange(length) % 250)[:, None, None]
        frames[..., 1] = number
        frames[1::2, :, :, 2] = 60 if moves else 0
        keys = frozenset(world.actions.buttons[:1])
        actions = [IDLE, *(Action(keys if i % 3 else frozenset()) for i in range(1, length))]
        rate, buttons = world.frames_per_second, world.actions.buttons
        episode = Episode(
            frames=frames, actions=actions, frames_per_second=rate, buttons=buttons, state=None
        )
        save_episode(folder / f"{number}.safetensors", episode)
    return folder


def seen(source: FromEpisodes, part: int, count: int, length: int) -> set[tuple[int, int]]:
    """Episode and frame of all that is in a part's clips; each frame is there once."""
    clips = source.clips(part, count, length, length)
    numbers = clips.frames[:, :, 0, 0, :2].flatten(0, 1).tolist()
    found = {(episode, frame) for frame, episode in numbers}
    assert len(found) == len(numbers)
    assert clips.frames.shape[1] == clips.actions.shape[1] == length
    assert (clips.frames[:, :, 0, 0, 0].float().diff(dim=1) == 1).all(), "in order"
    return found


def test_no_frame_that_is_learned_from_is_one_the_world_is_held_against(
    tmp_path: Path, file: WorldFile
) -> None:
    source = FromEpisodes(record(tmp_path / "data", file, [60 + SPARE] * 5), file, seed=3)
    lessons = seen(source, LESSONS, 100, 20)
    assert {episode for episode, _ in lessons} == {1, 3}
    assert len(lessons) == 2 * 60
    for part in (CLIPS, NEXT, FRESH):
        found = seen(source, part, 100, 20)
        assert {episode for episode, _ in found} == {0, 2, 4}
        assert not found & lessons
    assert len(seen(source, CLIPS, 4, 20)) == 4 * 20
    assert seen(source, CLIPS, 4, 20) == seen(source, CLIPS, 4, 20)
    assert seen(source, CLIPS, 4, 20) != seen(FromEpisodes(source.folder, file, 4), CLIPS, 4, 20)


def test_episodes_that_are_too_few_or_too_short_are_named(tmp_path: Path, file: WorldFile) -> None:
    with pytest.raises(UserError, match="needs two or more"):
        FromEpisodes(record(tmp_path / "one", file, [60]), file, 0)
    source = FromEpisodes(record(tmp_path / "short", file, [60, 9]), file, 0)
    with pytest.raises(UserError, match=r"1 episode from 1\.safetensors on.* has the 20 frames"):
        source.clips(LESSONS, 4, 30, 20)
    assert source.clips(LESSONS, 4, 30, 8).frames.shape[:2] == (1, 9), "shorter, but long enough"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames_per_second": 3.0}, "3 frames/s, random plays"),
        ({"frames": np.zeros((60, 4, 4, 3), np.uint8)}, "frames are 4 x 4"),
        ({"buttons": ("KeyZ",), "actions": [Action(frozenset({"KeyZ"}))] * 60}, "KeyZ is pressed"),
    ],
)
def test_episodes_of_another_game_are_refused_before_anything_is_measured(
    tmp_path: Path, file: WorldFile, change: dict[str, object], words: str
) -> None:
    folder = record(tmp_path / "data", file, [60, 60])
    path = folder / "1.safetensors"
    save_episode(path, replace(load_episode(path), **change))  # type: ignore[arg-type]  # its fields
    with pytest.raises(UserError, match=words):
        FromEpisodes(folder, file, 0)


def test_numbers_are_those_that_the_world_knows(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "numbered", is_numbered=True)
    file = read_world_file(folder)
    data = record(tmp_path / "data", file, [60, 60])
    with pytest.raises(UserError, match="no state in every frame, numbered knows heading, health"):
        FromEpisodes(data, file, 0)
    values = np.arange(60 * len(NUMBERS), dtype=np.float32).reshape(60, -1)
    for path in data.iterdir():
        save_episode(path, replace(load_episode(path), state=StateTrack(NUMBERS, values)))
    states = FromEpisodes(data, file, 0).clips(CLIPS, 1, 60, 60).states
    assert states is not None
    assert np.array_equal(states[0].numpy(), values)


def test_any_world_is_evaluated_against_what_was_recorded_of_its_game(
    world: Path, file: WorldFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--world", str(world)]) == 2
    assert "--data FOLDER holds it against episodes" in capsys.readouterr().err
    data, out = record(tmp_path / "data", file, [240, 240]), tmp_path / "out"
    command = ["evaluate", "--quick", "--world", str(world), "--data", str(data), "--out", str(out)]
    assert main(command) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out.splitlines()[-1])
    assert result["starts"] == {}
    assert result["drift"] == {}
    assert result["next_frame"]["copy_psnr"] == pytest.approx(17.3, abs=0.2)  # blue: 60 on or off
    assert result["next_frame"]["student, 2 steps"]["ssim"] is None  # too small for that
    assert "[5/5]" in captured.err
    assert {path.name for path in out.iterdir()} == {"rollouts.png", "figures.json", "parts"}


def test_episodes_in_which_nothing_moves_are_no_measure(
    world: Path, file: WorldFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = record(tmp_path / "data", file, [240, 240], moves=False)
    command = ["evaluate", "--quick", "--world", str(world), "--data", str(data)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "nothing moves at the end of 32 clips" in capsys.readouterr().err


@pytest.mark.parametrize("lengths", [(240, 7), (7, 240)])
def test_episodes_that_are_too_short_are_named_before_the_work(
    world: Path,
    file: WorldFile,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lengths: tuple[int, int],
) -> None:
    data = record(tmp_path / "data", file, lengths)
    command = ["evaluate", "--world", str(world), "--data", str(data)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "every second one, has the" in said
    assert "[1/" not in said
    assert not (tmp_path / "out").exists()


def test_no_more_episodes_are_read_than_clips_are_cut_from(
    tmp_path: Path, file: WorldFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FromEpisodes(record(tmp_path / "data", file, [60] * 9), file, seed=3)
    read: list[Path] = []

    def load(path: Path) -> Episode:
        read.append(path)
        return load_episode(path)

    monkeypatch.setattr("worldmodel.evaluation.real_play.load_episode", load)
    assert source.clips(CLIPS, 2, 20, 20).frames.shape[:2] == (2, 20)
    assert 1 <= len(read) <= 2
