"""A world that knows its place, from episodes with state to play, by the stages of `train`."""

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.placed_data import STATE, write_placed
from tests.training.tiny_data import MODEL, SPEC, write_episodes
from tests.worlds.make_world import PLAN
from worldmodel.action import Action
from worldmodel.config import ConfigError, build_config, read_toml, to_table, to_toml
from worldmodel.model.floor_plan import FloorPlan
from worldmodel.state_spec import StateTrack
from worldmodel.storage.episode import EpisodeError
from worldmodel.storage.episodes import load_episode, save_episode
from worldmodel.training.autoencoder import AutoencoderStage, AutoencoderTraining
from worldmodel.training.clips import LatentEpisodes
from worldmodel.training.run_stage import run_stage
from worldmodel.training.runs import (
    begin_floor_plan,
    load_autoencoder,
    load_floor_plan,
    load_motion,
)
from worldmodel.training.state_episodes import StateEpisodes, views_of
from worldmodel.world import step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

REACH = {"low": [-40.0, -40.0], "high": [40.0, 40.0]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("places")
    for name, count, first in (("data", 10, 0), ("heldout", 2, 100)):
        (home / name).mkdir()
        write_placed(home / name, count, first=first)
    return home


def run(
    home: Path, stage: str, steps: int, table: Mapping[str, Any], to: str = "", **loop: Any
) -> dict[str, Any]:
    """Train a stage; its summary."""
    whole = {
        "stage": stage,
        "data": str(home / "data"),
        "heldout": str(home / "heldout"),
        **table,
        "loop": {"steps": steps, "learning_rate": 2e-3, "warmup_steps": 5} | loop,
    }
    path = home / f"{stage}.toml"
    path.write_text(to_toml(whole), encoding="utf-8")
    return run_stage(path, home / "runs" / (to or stage), threads=1)


@pytest.fixture(scope="module")
def plan_run(home: Path) -> dict[str, Any]:
    model = (
        to_table(PLAN) | REACH | {"ceiling": 16.0, "farthest": 80.0, "samples": 12, "features": 6}
    ) | {"depthwise": False}
    table = {"batch": 16, "columns": 8, "frame_stride": 1, "model": model}
    return run(home, "plan", 200, table, ema_decay=0.9, learning_rate=8e-3)


@pytest.fixture(scope="module")
def motion_run(home: Path) -> dict[str, Any]:
    model = {**REACH, "buttons": 2, "mouse_degrees": 8.0, "body": 16.0, "cell": 4.0}
    table = {"batch": 64, "unroll": 3, "actions": to_table(SPEC), "model": model}
    return run(home, "motion", 250, table, dtype="float32", ema_decay=0.9)


def test_a_plan_learns_what_is_seen_from_where(plan_run: dict[str, Any]) -> None:
    figures = plan_run["figures"]
    assert plan_run["verdict"].startswith("good")
    assert figures["heldout_psnr"] > figures["one_colour"] + 3


def test_a_finer_plan_begins_where_a_coarser_one_ended(
    home: Path, plan_run: dict[str, Any], motion_run: dict[str, Any]
) -> None:
    del motion_run
    coarse = read_toml(home / "runs" / "plan" / "config.toml")
    model = {**coarse["model"], "wall_cell": coarse["model"]["wall_cell"] / 2, "cells": [4, 9]}
    table = {"batch": 4, "columns": 8, "frame_stride": 1, "model": model}
    begin = str(home / "runs" / "plan")
    fine = run(home, "plan", 1, {**table, "begin": begin}, to="fine", learning_rate=1e-6)
    apart = fine["figures"]["heldout_psnr"] - plan_run["figures"]["heldout_psnr"]
    assert abs(apart) < 1.5, "dB: the same picture, read in between"
    other = {**model, "samples": 9}
    with pytest.raises(ConfigError, match=r"differs from \[model\] in more than how fine"):
        run(home, "plan", 1, {**table, "model": other, "begin": begin}, to="other")
    with pytest.raises(ConfigError, match="expected a run of the stage 'plan'"):
        run(home, "plan", 1, {**table, "begin": str(home / "runs" / "motion")}, to="third")


def test_a_plan_with_other_convolutions_keeps_all_that_was_learned_of_the_level(
    home: Path, plan_run: dict[str, Any]
) -> None:
    del plan_run
    learned = load_floor_plan(home / "runs" / "plan")
    light = FloorPlan(replace(learned.config, depthwise=True))
    new = copy.deepcopy(light.drawing.state_dict())
    begin_floor_plan(light, home / "runs" / "plan")
    view = torch.tensor([[3.0, -5.0, 8.0, 77.0]])
    assert torch.equal(light.rays(view), learned.rays(view))
    assert torch.equal(light.along_x, learned.along_x)
    assert all(torch.equal(w, new[n]) for n, w in light.drawing.state_dict().items())


def test_motion_learns_to_walk_and_stops_at_walls(home: Path, motion_run: dict[str, Any]) -> None:
    assert motion_run["verdict"].startswith("good")
    motion, spec = load_motion(home / "runs" / "motion")
    assert spec.names == STATE.names
    state = torch.tensor([[0.0, 0.0, 8.0, 0.0, 0.0, 0.0]])
    ahead = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    for _ in range(40):  # at 2 to 5 m a frame: far beyond the wall at 28 m, if there were none
        state = motion(state, ahead)
    assert 14 < state[0, 0].item() < 36


SHAPE = {
    "widths": [8, 16],
    "strides": [2, 2],
    "blocks": 1,
    "latent_channels": 4,
    "frame_height": 8,
    "frame_width": 16,
}


@pytest.fixture(scope="module")
def autoencoder_run(home: Path, plan_run: dict[str, Any]) -> dict[str, Any]:
    del plan_run
    plan = str(home / "runs" / "plan")
    return run(
        home, "autoencoder", 40, {"batch": 8, "frame_stride": 2, "plan": plan, "model": SHAPE}
    )


def test_a_placed_world_is_made_exported_and_played(
    home: Path, autoencoder_run: dict[str, Any], motion_run: dict[str, Any]
) -> None:
    del motion_run
    assert "copy" in autoencoder_run["figures"]
    runs = {name: str(home / "runs" / name) for name in ("autoencoder", "teacher")}
    model = to_table(MODEL) | {"rays": PLAN.rays, "ray_features": PLAN.ray_features}
    autoencoder = load_autoencoder(home / "runs" / "autoencoder")
    data = LatentEpisodes.encode(home / "data", autoencoder, SPEC, home / "runs" / "l.safetensors")
    model["frame_change"] = data.change
    clips = {"batch": 4, "frames": 8}
    table = {"autoencoder": runs["autoencoder"], "actions": to_table(SPEC), "model": model}
    run(home, "teacher", 6, table | {"clips": clips})
    run(home, "student", 4, table | {"clips": clips, "teacher": runs["teacher"]})
    (home / "NOTICE").write_text("drawn", encoding="utf-8")
    clip = home / "heldout" / "100.safetensors"
    export = {
        "stage": "world",
        "name": "box",
        "title": "A box",
        "licence": "MIT",
        "notice": str(home / "NOTICE"),
        "student": str(home / "runs" / "student"),
        "decoder": runs["autoencoder"],
        "motion": str(home / "runs" / "motion"),
        "frames_per_second": 10.0,
        "start_frames": 6,
        "made_by": "a test",
        "sampler": {"sigmas": [1.0, 0.0], "renoise": True},
        "game": {},
        "starts": {f"{clip}@20": "The box"},
    }
    (home / "world.toml").write_text(to_toml(export), encoding="utf-8")
    run_stage(home / "world.toml", home / "box", threads=1)
    world = NativeWorld.load(home / "box", RunSettings(threads=1, engine="torch", dtype="float32"))
    world.reset(0, 0)
    before = world.state
    frames = [step(world, Action(frozenset(), (10.0, 0.0))) for _ in range(9)]
    assert before is not None
    assert world.state is not None
    assert (before[3] - world.state[3]) % 360 == pytest.approx(90.0, abs=0.01)
    assert np.ptp(np.stack(frames).mean(axis=(1, 2)), axis=0).max() > 5  # other walls come in sight
    # What the autoencoder was not trained to change, it must not have changed.
    saved = load_floor_plan(home / "runs" / "plan").state_dict()
    assert autoencoder.plan is not None
    assert all(torch.equal(saved[k], v) for k, v in autoencoder.plan.state_dict().items())


def test_clips_carry_what_their_views_show(home: Path, autoencoder_run: dict[str, Any]) -> None:
    """Conditions are rays, then actions, and the rays are those of the frame's own place."""
    del autoencoder_run
    autoencoder = load_autoencoder(home / "runs" / "autoencoder")
    cache = home / "runs" / "l.safetensors"
    data = LatentEpisodes.encode(home / "data", autoencoder, SPEC, cache)
    _, told = data.clips(3, 8, 1, torch.Generator().manual_seed(3))
    seen = PLAN.rays * PLAN.ray_features
    assert told.shape == (3, 8, seen + 4)
    assert data.views is not None
    rays = autoencoder.conditions(data.actions[None], data.views[None])[0, :, :seen]
    for row in told[:, -1]:
        apart = (rays - row[:seen]).abs().amax(dim=1)
        frame = int(apart.argmin())
        assert apart[frame] < 1e-4
        assert torch.equal(data.actions[frame], row[seen:])


def test_stretches_end_where_somebody_was_moved(tmp_path: Path) -> None:
    write_placed(tmp_path, 2, length=10)
    data = StateEpisodes.load(tmp_path, SPEC)
    data.states[5, 0] += 500.0  # a teleport there, and back
    data.states[14, 1] = math.nan  # and once nobody knows
    begins = data.windows(4, (0, 1), jump=100.0).tolist()
    assert begins == [0, 1, 6, 10, 15, 16]


def test_episodes_without_state_are_refused_by_name(tmp_path: Path) -> None:
    write_episodes(tmp_path, 1)
    with pytest.raises(EpisodeError, match=r"000\.safetensors: holds no state"):
        StateEpisodes.load(tmp_path, SPEC)


def test_a_plan_that_does_not_reach_the_player_is_refused(home: Path) -> None:
    model = to_table(PLAN) | {"low": [0.0, 0.0], "high": [40.0, 40.0]}
    with pytest.raises(ConfigError, match="the player was between"):
        run(home, "plan", 1, {"batch": 4, "model": model, "columns": 4})


def test_motion_is_not_trained_in_bfloat16(home: Path) -> None:
    model = {**REACH, "buttons": 2, "mouse_degrees": 8.0}
    table = {"batch": 4, "actions": to_table(SPEC), "model": model}
    with pytest.raises(ConfigError, match="half a unit is a pixel"):
        run(home, "motion", 1, table, dtype="bfloat16")


def test_figures_of_the_runs_are_kept(home: Path, motion_run: dict[str, Any]) -> None:
    del motion_run
    summary = json.loads((home / "runs" / "motion" / "summary.json").read_text(encoding="utf-8"))
    assert summary["figures"]["place_16"] > summary["figures"]["place_1"] > 0


def test_a_frame_that_does_not_know_its_place_is_named_or_left_out(
    home: Path, plan_run: dict[str, Any], tmp_path: Path
) -> None:
    del plan_run
    write_placed(tmp_path / "data", 2, length=20)
    write_placed(tmp_path / "heldout", 1, length=40, first=9)
    path = tmp_path / "data" / "000.safetensors"
    episode = load_episode(path)
    assert episode.state is not None
    values = episode.state.values.copy()
    values[3, 0] = math.nan
    save_episode(path, replace(episode, state=StateTrack(episode.state.spec, values)))
    with pytest.raises(EpisodeError, match=r"000\.safetensors: frame 3 does not say where"):
        views_of(load_episode(path), path)
    table = {"batch": 8, "frame_stride": 1, "plan": str(home / "runs" / "plan"), "model": SHAPE}
    whole = {"stage": "autoencoder", "data": str(tmp_path / "data"), **table}
    whole |= {"heldout": str(tmp_path / "heldout"), "loop": {"steps": 4, "learning_rate": 1e-3}}
    config = build_config(AutoencoderTraining, whole, "test")
    stage = AutoencoderStage(config, tmp_path / "runs" / "a")
    assert len(stage.frames) == 39  # of 40
    assert stage.views is not None
    assert bool(torch.isfinite(stage.views).all())


def test_a_decoder_learns_on_and_what_was_learned_of_the_level_stays(
    home: Path, autoencoder_run: dict[str, Any]
) -> None:
    del autoencoder_run
    before = load_autoencoder(home / "runs" / "autoencoder")
    table = {"autoencoder": str(home / "runs" / "autoencoder"), "batch": 4, "frame_stride": 1}
    run(home, "decoder", 12, table, ema_decay=0.5)
    after = load_autoencoder(home / "runs" / "decoder")
    changed = {
        name
        for name, weight in after.state_dict().items()
        if not torch.equal(weight, before.state_dict()[name])
    }
    assert {name.split(".")[0] for name in changed} == {"decoder", "plan"}
    assert all(name.startswith(("decoder.", "plan.drawing.")) for name in changed)
    own_play: dict[str, Any] = {
        "student": str(home / "runs" / "student"),
        "sampler": {"sigmas": [1.0, 0.0]},
    }
    own_play["sampler"] |= {"renoise": True}
    with pytest.raises(ConfigError, match="has a floor plan"):
        run(home, "decoder", 1, {**table, "own_play": own_play}, to="refused")
