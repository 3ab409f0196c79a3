"""What happens in a tiny game: shots that are spent, hits by chance, a death and a new life."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, draw, save
from worldmodel.action import IDLE, Action
from worldmodel.config import ConfigError, build_config, to_table, to_toml
from worldmodel.model.events import CHANGE, SET, Recent
from worldmodel.model.state_numbers import choose_state_numbers
from worldmodel.state_spec import StateNumber, StateSpec, StateTrack
from worldmodel.training.clips import LatentEpisodes
from worldmodel.training.event_bins import find_bins
from worldmodel.training.events import EventsTraining
from worldmodel.training.run_stage import run_stage
from worldmodel.training.runs import load_autoencoder, load_events
from worldmodel.training.state_episodes import read_states

STATE = StateSpec(
    {
        "health": StateNumber(kind="count"),
        "ammo": StateNumber(kind="count"),
        "reward": StateNumber(kind="number"),
        "dead": StateNumber(kind="flag"),
    }
)
HIT_RATE = 0.4  # of those who hold KeyA


def write_lives(folder: Path, count: int, first: int = 0, length: int = 80) -> Path:
    """KeyD spends a shot and pays 1; who holds KeyA is hit by chance; at 0 a life begins anew."""
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        health, ammo, frames, actions, rows = 100, 50, [], [], []
        for f in range(length):
            key = str(rng.choice(["KeyA", "KeyD", ""])) if f else ""
            was_dead, reward = health == 0, 0.0
            if was_dead:
                health, ammo = 100, 50
            elif key == "KeyA" and rng.random() < HIT_RATE:
                health = max(0, health - 20)
            elif key == "KeyD" and ammo:
                ammo, reward = ammo - 1, 1.0
            frames.append(draw(health // 20))
            actions.append(Action(frozenset({key})) if key else IDLE)
            rows.append([health, ammo, reward, health == 0])
        values = np.asarray(rows, np.float32)
        save(folder, number, frames, actions, StateTrack(STATE.seen(values), values))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("events")
    for name, count, first in (("data", 12, 0), ("heldout", 3, 100)):
        (home / name).mkdir()
        write_lives(home / name, count, first)
    run(home, "autoencoder", 20, {"batch": 8, "frame_stride": 1, "model": to_table(AUTOENCODER)})
    return home


def run(home: Path, stage: str, steps: int, table: dict[str, Any], **loop: Any) -> dict[str, Any]:
    """Train a stage; its summary."""
    where = {"data": str(home / "data"), "heldout": str(home / "heldout")}
    settings = {"steps": steps, "learning_rate": 3e-3, "warmup_steps": 5} | loop
    path = home / f"{stage}.toml"
    path.write_text(to_toml({"stage": stage, **where, **table, "loop": settings}), encoding="utf-8")
    return run_stage(path, home / "runs" / stage, threads=1, rehearses=stage == "autoencoder")


def events_table(home: Path) -> dict[str, Any]:
    names = ("buttons", "latent_channels", "latent_height", "latent_width")
    model = {name: getattr(MODEL, name) for name in names}
    model |= {"mouse_degrees": 8.0, "frames": 3, "width": 32, "bins": 6}
    autoencoder = str(home / "runs" / "autoencoder")
    return {"autoencoder": autoencoder, "actions": to_table(SPEC), "model": model, "batch": 64}


@pytest.fixture(scope="module")
def summary(home: Path) -> dict[str, Any]:
    return run(home, "events", 250, events_table(home), dtype="float32", ema_decay=0.9)


def test_it_learns_what_happens_and_how_often(home: Path, summary: dict[str, Any]) -> None:
    assert summary["verdict"].startswith("good")
    figures = summary["figures"]
    assert figures["gained"] > 0.4
    for name in ("health", "ammo", "dead"):
        assert figures[f"{name}_expected"] == pytest.approx(figures[f"{name}_rate"], abs=0.06)
    assert figures["ammo_16"] < 0.75 * figures["ammo_16_still"]
    model, spec = load_events(home / "runs" / "events")
    assert spec.names == STATE.names
    health = {
        (int(k), float(v)) for k, v in zip(model.kinds[0], model.values[0], strict=True) if k < 2
    }
    assert health == {(CHANGE, 0.0), (CHANGE, -20.0), (CHANGE, 100.0)}


def test_a_hit_is_drawn_as_often_as_it_happens(home: Path, summary: dict[str, Any]) -> None:
    del summary
    model, _ = load_events(home / "runs" / "events")
    generator = torch.Generator().manual_seed(0)
    players = 400
    states = torch.tensor([[60.0, 40.0, 0.0, 0.0]]).expand(players, 3, 4)
    latents = torch.zeros(players, 2, *model.config.latent_shape)
    recent = Recent(states, torch.zeros(players, 3, 4), latents)
    for key, rate in ((0, HIT_RATE), (1, 0.0)):
        done = torch.zeros(players, 4)
        done[:, key] = 1.0
        chance = torch.rand(players, 4, generator=generator)
        after = model(recent, states[:, -1], done, chance)
        assert float((after[:, 0] == 40.0).float().mean()) == pytest.approx(rate, abs=0.15)
    spent = float((after[:, 1] == 39.0).float().mean())
    assert spent > 0.9
    paid = after[:, 2] == 1.0
    assert float((paid == (after[:, 1] == 39.0)).float().mean()) > 0.95, "they come together"


def test_a_life_that_begins_anew_is_a_value_that_is_set() -> None:
    after = np.array([100, 97, 94, 100, 60, 100, 97, 30, 100, 97], np.float32)
    change = np.array([0, -3, -3, 6, -40, 40, -3, -67, 70, -3], np.float32)
    found = find_bins(np.tile(change, 3), np.tile(after, 3), None, 6, 1e-3)
    assert found[:3] == [(CHANGE, 0.0), (CHANGE, -3.0), (SET, 100.0)]


def test_a_number_that_takes_any_value_has_quantiles() -> None:
    rng = np.random.default_rng(0)
    change = rng.normal(size=2000).astype(np.float32)
    after = np.cumsum(change).astype(np.float32)
    found = find_bins(change, after, None, 16, 1e-3)
    assert len(found) == 16
    centres = np.array([value for kind, value in found if kind == CHANGE])
    assert np.abs(change[:, None] - centres).min(axis=1).mean() < 0.15


def test_clips_tell_the_state_beside_the_actions(home: Path) -> None:
    state_numbers = choose_state_numbers(read_states(home / "data"), ("health", "dead"))
    autoencoder = load_autoencoder(home / "runs" / "autoencoder")
    cache = home / "latents.safetensors"
    model = replace(MODEL, state_numbers=state_numbers)
    data = LatentEpisodes.encode(home / "data", autoencoder, SPEC, cache, model)
    latents, conditions = data.clips(4, 6, 1, torch.Generator().manual_seed(0))
    assert conditions.shape == (4, 6, model.condition_width)
    assert latents.shape[:2] == (4, 6)
    assert set(conditions[..., model.state_features - 1].flatten().tolist()) <= {-1.0, 1.0}
    plain = LatentEpisodes.encode(home / "data", autoencoder, SPEC, cache)
    assert plain.clips(4, 6, 1, torch.Generator().manual_seed(0))[1].equal(
        conditions[..., model.state_features :]
    )


def test_a_config_that_cannot_be_is_refused(home: Path) -> None:
    table = events_table(home) | {"stage": "events", "data": "a", "heldout": "b"}
    table["loop"] = {"steps": 1, "learning_rate": 1e-3, "dtype": "bfloat16"}
    with pytest.raises(ConfigError, match="numbers need float32"):
        build_config(EventsTraining, table, "events.toml")
    table["loop"]["dtype"] = "float32"
    table["model"] = {**table["model"], "mouse_degrees": 4.0}
    with pytest.raises(ConfigError, match=r"mouse_degrees is 8.0"):
        build_config(EventsTraining, table, "events.toml")
