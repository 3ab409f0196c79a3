"""What an environment says of itself, beside its frames."""

import math
from pathlib import Path

import numpy as np
import pytest

from worldmodel.__main__ import main
from worldmodel.action import IDLE, Action
from worldmodel.config import ConfigError, UserError, build_config
from worldmodel.data_sources.gym import GymConfig, open_game
from worldmodel.data_sources.gym_players import find_player
from worldmodel.data_sources.parallel_record import GameSource, record_together
from worldmodel.data_sources.record import record_episode
from worldmodel.storage.episodes import find_episodes, load_episode

TELLING = "tests.data_sources.telling:Telling"
STATE = {
    "x": "info.position.0:position",
    "vy": "obs.velocity.1:velocity",
    "armed": "obs.armed:flag",
    "speed": "info.speed",
}
CONFIG = GymConfig(env=TELLING, size=(8, 16), state=STATE)


def test_what_is_named_is_recorded_and_what_is_missing_is_nan() -> None:
    with open_game(CONFIG) as game:
        assert game.state_spec.names == ("reward", "terminated", *STATE)
        game.reset(1)
        rows = [game.state]
        for action in [Action(frozenset({"Digit1"}))] * 6:
            game.step(action)
            rows.append(game.state)
    nan = math.nan
    np.testing.assert_array_equal(
        np.stack(rows),
        np.array(
            [  # reward, terminated, x, vy, armed, speed
                [0.0, 0, 0, -1, 0, nan],  # a reset tells no speed
                [0.5, 0, 1, -1, 0, 1],
                [1.0, 0, 2, -1, 0, nan],  # endless: no number
                [1.5, 0, nan, -1, 1, 1],
                [2.0, 0, 4, -1, 1, nan],
                [2.5, 0, 5, -1, 1, 1],
                [3.0, 1, nan, -1, 1, nan],
            ],
            np.float32,
        ),
    )


def test_the_reward_of_a_frame_is_that_of_all_its_steps() -> None:
    config = GymConfig(env=TELLING, size=(8, 16), skip=4)
    with open_game(config) as game:
        game.reset(1)
        rewards = []
        while not game.is_over:
            game.step(IDLE)
            rewards.append(game.state.tolist())
    assert rewards == [[0.5 + 1 + 1.5 + 2, 0], [2.5 + 3, 1]]


def test_an_episode_file_has_kinds_and_the_ranges_that_were_seen(tmp_path: Path) -> None:
    source = GameSource(gym=CONFIG)
    assert record_together(source, tmp_path, 14, first=0, episode_frames=20, processes=1) == 14
    for path in find_episodes(tmp_path):
        track = load_episode(path).state
        assert track is not None
        numbers = track.spec.numbers
        kinds = [number.kind for number in numbers.values()]
        assert kinds == ["number", "flag", "position", "velocity", "flag", "number"]
        assert (numbers["terminated"].low, numbers["terminated"].high) == (0, 1)
        assert (numbers["vy"].low, numbers["vy"].high) == (-1, -1)
        assert track.column("terminated").tolist() == [0] * 6 + [1]


def test_a_flat_observation_is_numbered() -> None:
    config = GymConfig(env="Pendulum-v1", size=(16, 16), state={"speed": "obs.2:velocity"})
    with open_game(config) as game:
        episode = record_episode(game, find_player("random", allow_code=False), 0, 20)
        assert episode.state is not None
        # The last observation is the one that the last row was taken from.
        assert episode.state.column("speed")[-1] == game.observation[2]
    assert (episode.state.column("reward")[1:] < 0).all()
    assert episode.state.column("reward")[0] == 0


def test_beyond_an_episodes_end_the_flag_is_down_again() -> None:
    config = GymConfig(env=TELLING, size=(8, 16), through_ends=True)
    with open_game(config) as game:
        game.reset(1)
        flags = []
        for _ in range(8):
            game.step(IDLE)
            flags.append(game.state[1])
    assert flags == [0, 0, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    "path", ["info.velocity", "info.position", "info.name", "info.position.2", "obs.7", "obs"]
)
def test_a_path_that_is_never_there_is_an_error_that_lists_what_there_is(path: str) -> None:
    config = GymConfig(env=TELLING, size=(8, 16), state={"v": path})
    with open_game(config) as game:
        game.reset(1)
        with pytest.raises(UserError, match="no number there after the first step") as told:
            game.step(IDLE)
    assert str(told.value).endswith(
        f"--state v={path}: no number there after the first step; there are info.position.0, "
        "info.position.1, info.speed, obs.velocity.0, obs.velocity.1, obs.armed"
    ) or str(told.value).endswith("info.position.1, obs.velocity.0, obs.velocity.1, obs.armed")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"x": "speed"}, r"expected info\.KEY or obs\.KEY"),
        ({"x": "info."}, r"expected info\.KEY"),
        ({"x": "info.a:colour"}, "choose a kind from position, heading"),
        ({"x": "info.a:phase"}, "choose a kind from"),
        ({"reward": "info.a"}, "reward is recorded already"),
        ({"a b": "info.a"}, "the number's name 'a b'"),
        ({f"n{i}": "info.a" for i in range(63)}, "65 numbers: expected 1 to 64"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(
    state: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config(GymConfig, {"env": TELLING, "state": state}, "[gym]")


def test_the_command_records_the_numbers_that_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["record", "--env", "CartPole-v1", "--keys", "ArrowLeft=0,ArrowRight=1"]
    command += ["--size", "32x24", "--frames", "20", "--out", str(tmp_path)]
    state = ["--state", "cart=obs.0:position", "--state", "pole=obs.2"]
    assert main([*command, *state, "--episode-frames", "20"]) == 0
    track = load_episode(find_episodes(tmp_path)[0]).state
    assert track is not None
    assert track.spec.names == ("reward", "terminated", "cart", "pole")
    assert not np.isnan(track.values).any()
    capsys.readouterr()
    for wrong, told in (
        (["--state", "cart"], "expected NAME=PATH"),
        (["--state", "a=obs.0", "--state", "a=obs.1"], "there twice"),
        (["--state", "a=obs.9", "--seed", "900"], "there are obs.0, obs.1, obs.2, obs.3"),
    ):
        assert main([*command, *wrong]) == 2
        assert told in capsys.readouterr().err
    assert main(["record", "--state", "a=obs.0"]) == 2
    assert "--state is for --env" in capsys.readouterr().err
