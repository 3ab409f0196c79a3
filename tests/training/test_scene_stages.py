"""The stages learn a scene: who stands and turns, and an imp that comes nearer and goes."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC
from worldmodel.action import Action
from worldmodel.config import to_table, to_toml
from worldmodel.metrics import psnr
from worldmodel.model.autoencoder import to_frames
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.scene import NOWHERE
from worldmodel.model.state_configs import ObjectsConfig, SceneConfig
from worldmodel.state_spec import StateNumber, StateSpec, StateTrack
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import load_episode, save_episode
from worldmodel.training.decoder import OwnPlay, PlayedFrames
from worldmodel.training.run_stage import run_stage
from worldmodel.training.runs import load_autoencoder
from worldmodel.training.state_episodes import views_of

OBJECTS = ObjectsConfig(names=("imp.1",), rays=4)
SCENE = SceneConfig(
    objects=OBJECTS, frame_height=8, frame_width=16, panorama=(8, 64), texture=8, hidden=4
)
STATE = StateSpec(
    {
        "x": StateNumber(kind="position"),
        "y": StateNumber(kind="position"),
        "heading": StateNumber(kind="heading"),
        "imp.1.x": StateNumber(kind="object"),
        "imp.1.y": StateNumber(kind="object"),
    }
)


def draw(heading: float, imp: tuple[float, float]) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Walls whose colour is their direction, and a red imp where it stands: 8 x 16."""
    frame = np.full((8, 16, 3), 90, np.uint8)
    for column in range(16):
        across = (column + 0.5) / 16 * 2 - 1
        angle = math.radians(heading) - math.atan(across)
        frame[2:6, column] = (20, 128 + 100 * math.sin(angle), 128 + 100 * math.cos(angle))
        if math.isfinite(imp[0]):
            away, turned = math.hypot(*imp), math.atan2(imp[1], imp[0])
            aside = math.tan(math.radians(heading) - turned) * away
            if math.cos(math.radians(heading) - turned) > 0.3 and abs(across * away - aside) < 24:
                frame[1:7, column] = (240, 0, 0)
    return frame


def write_turning(folder: Path, count: int, first: int = 0, length: int = 60) -> Path:
    """Episodes of somebody who turns by chance; an imp comes, and is gone for a while."""
    folder.mkdir()
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        heading, turn, imp = float(rng.uniform(0, 360)), 0.0, (math.nan, math.nan)
        frames, actions, states = [], [], []
        for f in range(length):
            if f % 5 == 0:
                turn = float(rng.choice([-10, 0, 10]))
            if f % 20 == 0:
                angle = math.radians(heading + rng.uniform(-40, 40))
                imp = (120 * math.cos(angle), 120 * math.sin(angle))
            imp = (math.nan, math.nan) if f % 20 == 15 else (0.95 * imp[0], 0.95 * imp[1])
            heading = (heading - (turn if f else 0.0)) % 360
            frames.append(draw(heading, imp))
            actions.append(Action(frozenset(), (turn if f else 0.0, 0.0)))
            states.append([0.0, 0.0, heading, *imp])
        values = np.asarray(states, np.float32)
        episode = Episode(
            frames=np.stack(frames),
            actions=actions,
            frames_per_second=10.0,
            buttons=SPEC.buttons,
            state=StateTrack(STATE.seen(values), values),
        )
        save_episode(folder / f"{number:03d}.safetensors", episode)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("scene")
    write_turning(home / "data", 8)
    write_turning(home / "heldout", 2, first=100)
    return home


def run(home: Path, stage: str, steps: int, table: dict[str, Any], **loop: Any) -> dict[str, Any]:
    """Train a stage; its summary."""
    where = {"data": str(home / "data"), "heldout": str(home / "heldout")}
    settings = {"steps": steps, "learning_rate": 3e-3, "warmup_steps": 5, "ema_decay": 0.9} | loop
    path = home / f"{stage}.toml"
    path.write_text(to_toml({"stage": stage, **where, **table, "loop": settings}), encoding="utf-8")
    return run_stage(path, home / "runs" / stage, threads=1, rehearses=stage != "autoencoder")


@pytest.fixture(scope="module")
def trained(home: Path) -> dict[str, Any]:
    model = to_table(replace(AUTOENCODER, scene=SCENE))
    table = {"batch": 16, "frame_stride": 1, "scene_share": 0.5, "model": model}
    return run(home, "autoencoder", 220, table, dtype="float32")


def test_the_scene_alone_shows_unseen_frames(home: Path, trained: dict[str, Any]) -> None:
    assert trained["verdict"].startswith("good")
    autoencoder = load_autoencoder(home / "runs" / "autoencoder")
    episode = load_episode(home / "heldout" / "100.safetensors")
    views = views_of(episode, home, autoencoder.config.scene)
    with torch.no_grad():
        picture = autoencoder.look(views).pixels[:3].transpose(0, 1)
        absent = views.clone()
        absent[:, 3:] = NOWHERE
        empty = autoencoder.look(absent).pixels[:3].transpose(0, 1)
    frames = torch.from_numpy(episode.frames)
    there = torch.from_numpy(np.isfinite(episode.state.values[:, 3]))  # type: ignore[union-attr]
    assert float(psnr(to_frames(picture), frames).mean()) > 20
    with_imp, without = (psnr(to_frames(x)[there], frames[there]).mean() for x in (picture, empty))
    assert float(with_imp) > float(without) + 1.5, "the imp is drawn where it stands"


def test_a_decoder_learns_on_from_play_in_which_the_scene_is_the_games(
    home: Path, trained: dict[str, Any]
) -> None:
    del trained
    model = replace(MODEL, objects=OBJECTS, rays=OBJECTS.rays, ray_features=OBJECTS.ray_features)
    autoencoder = str(home / "runs" / "autoencoder")
    shared = {"autoencoder": autoencoder, "actions": to_table(SPEC)}
    clips = {"batch": 4, "frames": 6, "drifted_history": 0.3}
    run(home, "teacher", 2, {**shared, "model": to_table(model), "clips": clips})
    sampler = SamplerConfig(sigmas=(1.0, 0.0), renoise=True)
    own = OwnPlay(student=home / "runs" / "teacher", sampler=sampler, clips=6, frames=4)
    played = PlayedFrames.play(
        own, load_autoencoder(home / "runs" / "autoencoder"), home / "data", 0
    )
    assert (played.weights == 1).all(), "what is seen stays the game's"
    assert played.views is not None
    assert len(played.views) == len(played.frames) == 24
    table = {"autoencoder": autoencoder, "batch": 8, "own_play": to_table(own)}
    figures = run(home, "decoder", 3, table)["figures"]
    assert figures["limit"] > figures["copy"] + 6
    assert (home / "runs" / "decoder" / "samples" / "000003_played.png").is_file()
