"""Recording Gymnasium environments, by policies and by a person in a window."""

import json
import signal
import subprocess
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worldmodel.__main__ import main
from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.data_sources.gym import GymConfig, GymGame, fit_frame, open_game
from worldmodel.data_sources.gym_players import HoldingPlayer, find_player
from worldmodel.data_sources.record import (
    RecordPlan,
    actions_table,
    check_free,
    record_episodes,
)
from worldmodel.storage.episodes import find_episodes, load_episode

MODULE = "tests.data_sources.squares"
SQUARES_ID = f"{MODULE}:tests/Squares-v0"
SQUARES = GymConfig(env=SQUARES_ID, size=(15, 30))


def record(folder: Path, config: GymConfig = SQUARES, who: str = "sticky", frames: int = 60) -> int:
    plan = RecordPlan(folder=folder, frames=frames, episode_frames=100, seed=5)
    with open_game(config) as game:
        check_free(plan, game.name)
        return record_episodes(game, find_player(who, allow_code=True), plan)


def place(frame: "np.ndarray[Any, np.dtype[np.uint8]]") -> int:
    """Where the square is, in pixels of the small frame."""
    return int((frame[7, :, 0] > 150).nonzero()[0].mean())


def test_each_episode_is_a_file_with_the_actions_that_led_to_its_frames(tmp_path: Path) -> None:
    done = record(tmp_path)
    episodes = [load_episode(path) for path in find_episodes(tmp_path)]
    assert find_episodes(tmp_path)[0].name == "tests-Squares-v0_000005.safetensors"
    assert done == sum(map(len, episodes)) == 3 * 26  # the last frame of an episode is one too
    assert episodes[0].frames_per_second == 20
    assert episodes[0].buttons == ("Digit1", "Digit2")
    moved = 0
    for episode in episodes:
        assert episode.frames.shape[1:] == (15, 30, 3)
        assert not episode.actions[0].buttons
        for f in range(1, len(episode)):
            pushes = {"Digit1": 1, "Digit2": 2}
            step = sum(pushes[b] for b in episode.actions[f].buttons)
            step = 0 if len(episode.actions[f].buttons) > 1 else step  # both keys mean nothing
            drawn = place(episode.frames[f]) - place(episode.frames[f - 1])
            if drawn >= 0:  # not around the edge
                assert abs(drawn - step / 2) <= 1
                moved += drawn
    assert moved > 20


def test_the_same_seeds_give_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "other"):
        record(tmp_path / name)
    one, other = (find_episodes(tmp_path / name) for name in ("one", "other"))
    assert [path.name for path in one] == [path.name for path in other]
    for a, b in zip(map(load_episode, one), map(load_episode, other), strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)
        assert list(a.actions) == list(b.actions)


def test_files_of_an_earlier_recording_are_never_written_over(tmp_path: Path) -> None:
    record(tmp_path)
    with pytest.raises(UserError, match=r"_000007\.safetensors: recorded earlier; .* --seed 8"):
        record(tmp_path)


def test_a_killed_recording_keeps_every_finished_episode(tmp_path: Path) -> None:
    class Broken(GymGame):
        def step(self, action: Action) -> Any:
            if len(list(tmp_path.glob("*.safetensors"))) == 2:
                raise KeyboardInterrupt
            return super().step(action)

    with open_game(SQUARES) as game:
        broken = Broken(SQUARES, game.env)
        plan = RecordPlan(folder=tmp_path, frames=1000, episode_frames=100)
        with pytest.raises(KeyboardInterrupt):
            record_episodes(broken, find_player("random", allow_code=False), plan)
    assert [len(load_episode(path)) for path in find_episodes(tmp_path)] == [26, 26]
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
def test_a_recording_stops_when_it_is_told_to(tmp_path: Path) -> None:
    """Also of an environment that starts SDL, which likes to keep such signals to itself."""
    command = [sys.executable, "-m", "worldmodel", "record", "--env", "Pendulum-v1"]
    command += ["--frames", "1000000", "--episode-frames", "20", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 60
    while len(list(tmp_path.glob("*.safetensors"))) < 2 and time.monotonic() < ends:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    lengths = [len(load_episode(path)) for path in find_episodes(tmp_path)]
    assert len(lengths) >= 2
    assert set(lengths) == {20}


def test_a_frame_may_take_several_steps() -> None:
    config = GymConfig(env=SQUARES_ID, size=(15, 30), skip=4, arguments={"length": 6})
    with open_game(config) as game:
        game.reset(1)
        assert game.frames_per_second == 5
        game.step(Action(frozenset({"Digit1"})))
        assert not game.is_over
        game.step(Action(frozenset({"Digit2"})))
        assert game.is_over
        assert game.env.get_wrapper_attr("seen") == [1, 1, 1, 1, 2, 2]


def test_a_class_needs_no_registration(tmp_path: Path) -> None:
    config = GymConfig(env=f"{MODULE}:Squares", size=(15, 30), arguments={"length": 7})
    record(tmp_path, config, frames=8)
    (path,) = find_episodes(tmp_path)
    assert path.name == "Squares_000005.safetensors"
    assert len(load_episode(path)) == 8


def test_a_recording_can_go_on_over_the_ends_of_episodes(tmp_path: Path) -> None:
    config = GymConfig(env=SQUARES_ID, size=(15, 30), through_ends=True)
    record(tmp_path, config, frames=100)
    (episode,) = (load_episode(path) for path in find_episodes(tmp_path))
    assert len(episode) == 100


def test_people_hold_keys_and_rest() -> None:
    config = GymConfig(env=SQUARES_ID, size=(15, 30), arguments={"length": 2000})
    shares = {}
    for who in ("sticky", "random"):
        with open_game(config) as game:
            player = find_player(who, allow_code=False)(game, 0)
            actions = [player.act(game) for _ in range(2000)]
        changes = np.mean([a != b for a, b in pairwise(actions)])
        shares[who] = changes
        assert 0.03 < np.mean([not action.buttons for action in actions]) < 0.6
    assert shares["sticky"] < 0.12 < 0.4 < shares["random"]


def test_the_player_does_not_draw_the_numbers_of_the_environment() -> None:
    with open_game(SQUARES) as game:
        player = find_player("sticky", allow_code=False)(game, 5)
        game.reset(5)
        assert isinstance(player, HoldingPlayer)
        drawn = game.env.unwrapped.np_random.random(50)
    assert not np.isin(drawn, player.rng.random(50)).any()


def test_a_mouse_is_moved_within_its_range(tmp_path: Path) -> None:
    config = GymConfig(env=SQUARES_ID, size=(15, 30), arguments={"kind": "axes"})
    record(tmp_path, config)
    travel = np.concatenate(
        [[a.mouse for a in load_episode(path).actions] for path in find_episodes(tmp_path)]
    )
    assert np.abs(travel).max() <= 6.0
    assert (travel.std(axis=0) > 1).all()
    assert load_episode(find_episodes(tmp_path)[0]).buttons == ()


def test_own_code_plays_only_when_it_may(tmp_path: Path) -> None:
    who = "tests.data_sources.squares:random_policy"
    with pytest.raises(UserError, match="is code that would be run: add --allow-code"):
        find_player(who, allow_code=False)
    record(tmp_path, who=who)
    episode = load_episode(find_episodes(tmp_path)[0])
    with open_game(SQUARES) as game:
        game.reset(5)
        place_before = int(game.observation[0])
    expected = [frozenset(), frozenset({"Digit1"}), frozenset({"Digit2"})][place_before % 3]
    assert episode.actions[1].buttons == expected
    with pytest.raises(UserError, match="nowhere"):
        find_player("nowhere:policy", allow_code=True)
    with pytest.raises(UserError, match="SPACES is no function"):
        find_player("tests.data_sources.squares:SPACES", allow_code=True)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_pictures_fit_by_one_rule(fit: Any) -> None:
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, :10], picture[:, 70:] = (255, 0, 0), (0, 0, 255)
    picture[15:25, 35:45] = 255
    frame = fit_frame(picture, (32, 32), fit)
    assert frame.shape == (32, 32, 3)
    assert frame.dtype == np.uint8
    sides = frame[16, [0, -1]].tolist()
    white = (frame.min(axis=2) > 200).nonzero()
    height, width = (int(np.ptp(x)) + 1 for x in white)
    if fit == "stretch":
        assert sides == [[255, 0, 0], [0, 0, 255]]
        assert width * 2 == pytest.approx(height, abs=2)
    if fit == "crop":
        assert sides == [[0, 0, 0], [0, 0, 0]]
        assert width == pytest.approx(height, abs=1)
    if fit == "pad":
        assert sides == [[255, 0, 0], [0, 0, 255]]
        assert not frame[:8].any()
        assert width == pytest.approx(height, abs=1)


def test_a_part_of_the_picture_can_be_cut_out() -> None:
    config = GymConfig(env=SQUARES_ID, size=(10, 60), crop=(0, 10, 60, 10))
    with open_game(config) as game:
        frame = game.reset(1)
        assert (frame[:, :, 0] > 150).sum() == 100  # the square, from its top to its bottom
    with (
        open_game(GymConfig(env=SQUARES_ID, crop=(0, 10, 70, 10))) as game,
        pytest.raises(UserError, match=r"reaches beyond the picture of .*, which is 60 x 30"),
    ):
        game.reset(1)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Nowhere-v3", "--env Nowhere-v3: .*Nowhere"),
        (
            "tests.data_sources.squares:tests/Blind-v0",
            r"cannot draw itself .*human, ansi.*needs rgb_array",
        ),
        ("no_such_module:Game-v0", "no_such_module"),
    ],
)
def test_an_environment_that_cannot_be_recorded_is_refused(env: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_game(GymConfig(env=env))


def test_an_argument_that_an_environment_does_not_take_is_named() -> None:
    with pytest.raises(UserError, match="colour"):
        open_game(GymConfig(env=SQUARES_ID, arguments={"colour": 3}))


def test_the_command_records_and_says_what_a_config_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["record", "--env", "CartPole-v1", "--keys", "ArrowLeft=0,ArrowRight=1"]
    command += ["--size", "32x24", "--skip", "2", "--through-ends", "--episode-frames", "40"]
    assert main([*command, "--frames", "80", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "80 frames in" in out
    assert "25 frames/s" in out
    assert 'buttons = ["ArrowLeft", "ArrowRight"]' in out
    assert load_episode(find_episodes(tmp_path)[0]).frames.shape == (40, 24, 32, 3)
    assert main([*command, "--env-arg", "sutton_barto_reward"]) == 2
    assert main(["record", "--env", "CartPole-v1", "--crop", "1,2"]) == 2
    assert main(["record", "--player", "human"]) == 2
    assert "expected NAME=VALUE" in capsys.readouterr().err


def test_the_printed_table_is_the_games_own(tmp_path: Path) -> None:
    from worldmodel.action import ActionSpec
    from worldmodel.config import build_config, read_toml

    path = tmp_path / "actions.toml"
    with open_game(SQUARES) as game:
        path.write_text(actions_table(game.actions))
        table = read_toml(path)
        assert build_config(ActionSpec, table["actions"], "printed") == game.actions


def test_a_person_plays_in_the_window_and_every_episode_is_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real key events on SDL's dummy screen; the environment ends twice on the way."""
    import pygame

    from worldmodel.game.loop import Game

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    show, shown = Game.show, []

    def press(game: Game, step: Any) -> None:
        show(game, step)
        shown.append(step)
        if len(shown) == 3:
            event = pygame.event.Event(pygame.KEYDOWN, scancode=pygame.KSCAN_2, mod=0)
            pygame.event.post(event)

    monkeypatch.setattr(Game, "show", press)
    command = ["record", "--env", SQUARES_ID, "--player", "human", "--rate", "200"]
    command += ["--state", "place=obs.0:position"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main([*command, "--size", "32x16", "--frames", "60", "--out", str(tmp_path)])
    assert code == 0
    paths = find_episodes(tmp_path)
    episodes = [load_episode(path) for path in paths]
    assert [len(episode) for episode in episodes] == [26, 26, 9]
    assert episodes[0].buttons == ("Digit1", "Digit2")
    assert [sorted(a.buttons) for a in episodes[0].actions][-1] == ["Digit2"]
    seeds = [json.loads(path.read_text().splitlines()[0])["seed"] for path in paths]
    assert sorted(seeds) == [0, 1, 2]
    for episode in episodes:
        assert episode.state is not None
        assert episode.state.spec.names == ("reward", "terminated", "place")
        assert episode.state.column("reward").tolist() == [0] + [1] * (len(episode) - 1)
        # Each row is of its own frame: the square is drawn where the state says.
        drawn = [place(frame) for frame in episode.frames]
        told = (episode.state.column("place") % 50 + 4.5) / 2
        assert np.abs(np.array(drawn) - told).max() <= 1.5  # the video is soft
    assert episodes[0].state is not None
    assert episodes[0].state.column("terminated").tolist() == [0] * 25 + [1]


def test_without_a_screen_nobody_can_play(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    command = ["record", "--env", SQUARES_ID, "--player", "human", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "needs a screen" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
