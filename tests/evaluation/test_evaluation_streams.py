"""What evaluation draws for one number has nothing in common: game, cuts, noise, weights."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.data_sources.doom import Doom, DoomConfig
from worldmodel.data_sources.explorer import Explorer
from worldmodel.data_sources.record import MakePlayer
from worldmodel.evaluation import inverse_dynamics, reference_clips
from worldmodel.evaluation.evaluation_streams import noise_seeds, player_of
from worldmodel.evaluation.inverse_dynamics import InverseDynamics, train_inverse_dynamics
from worldmodel.evaluation.reference_clips import random_actions, record_clips
from worldmodel.players import RandomPlayer
from worldmodel.state_spec import StateNumber, StateSpec, track_of
from worldmodel.storage.episode import Episode

SPEC = ActionSpec(buttons=("KeyW",), names=("forward",), mouse_degrees=12.0, max_mouse_degrees=20.0)
EMPTY = cast(Doom, SimpleNamespace(config=DoomConfig()))


def drawn(seed: int, count: int = 4) -> list[float]:
    return list(np.random.default_rng(seed).random(count))


def numbers_of(*key: int | str) -> list[float]:
    player = player_of(EMPTY, *key)
    assert isinstance(player, Explorer)
    return list(player.rng.random(4))


def test_an_episodes_player_the_next_ones_and_the_one_who_goes_on_share_nothing() -> None:
    assert numbers_of(7) == numbers_of(7)
    streams = [drawn(7), numbers_of(7), numbers_of(8), numbers_of(7, "start", 0)]
    streams.append(numbers_of(7, "start", 1))
    assert len({number for stream in streams for number in stream}) == 4 * len(streams)


def test_rollouts_of_different_measurements_see_different_noise() -> None:
    seeds = [*noise_seeds(9, "rollout"), *noise_seeds(9, "idle play"), *noise_seeds(9, "start", 1)]
    assert len(set(seeds)) == len(seeds)
    assert noise_seeds(3, "rollout") == noise_seeds(9, "rollout")[:3]


def test_random_actions_are_not_those_of_a_player_with_the_episodes_own_seed() -> None:
    player = RandomPlayer(SPEC, 7)
    assert random_actions(SPEC, 7, 300) != [player.act(i) for i in range(1, 301)]
    assert random_actions(SPEC, 7, 300) == random_actions(SPEC, 7, 300)


def test_a_clips_place_and_its_player_share_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of seed 5 once was cut where its player's first number said, whatever came after."""
    spec = StateSpec({"x": StateNumber(kind="number")})
    players: list[Explorer] = []

    def record(game: Doom, make_player: MakePlayer[Doom], seed: int, frames: int) -> Episode:
        players.append(cast(Explorer, make_player(game, seed)))
        values: list[NDArray[np.float32]] = [np.array([i], np.float32) for i in range(frames)]
        actions: list[Action] = [IDLE] * frames
        shown = np.zeros((frames, 2, 2, 3), np.uint8)
        return Episode(
            frames=shown,
            actions=actions,
            frames_per_second=17.5,
            buttons=("KeyW",),
            state=track_of(spec, values),
        )

    monkeypatch.setattr(reference_clips, "record_episode", record)
    cuts = [int(record_clips(EMPTY, SPEC, s, 1, 10).states[0, 0, 0]) for s in range(40)]  # type: ignore[index]  # the game says its state
    together = record_clips(EMPTY, SPEC, 0, 40, 10)
    assert [int(states[0, 0]) for states in cast(torch.Tensor, together.states)] == cuts
    firsts = [int(player.rng.integers(0, 291)) for player in players[:40]]
    plain = [int(np.random.default_rng(s).integers(0, 291)) for s in range(40)]
    for others in (firsts, plain):
        assert sum(a == b for a, b in zip(cuts, others, strict=True)) < 4


def test_the_inverse_dynamics_weights_and_batches_come_from_streams_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []

    class Watched(InverseDynamics):
        def __init__(self, *shape: Any) -> None:
            seeds.append(torch.initial_seed())
            super().__init__(*shape)

    randint = torch.randint

    def watched(*args: Any, generator: torch.Generator) -> torch.Tensor:
        seeds.append(generator.initial_seed())
        return randint(*args, generator=generator)

    monkeypatch.setattr(inverse_dynamics, "InverseDynamics", Watched)
    monkeypatch.setattr(torch, "randint", watched)
    clip = torch.zeros(6, 16, 32, 3, dtype=torch.uint8), torch.zeros(6, 3)
    train_inverse_dynamics([clip], steps=1, batch=2)
    weights, batches = seeds
    assert weights != batches
    assert not {weights, batches} & set(range(1000))
