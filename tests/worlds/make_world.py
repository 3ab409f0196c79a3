"""A whole world folder with random weights, small enough for tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from tests.conftest import make_lively
from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, draw
from worldmodel.action import IDLE
from worldmodel.data_sources.doom import ACTIONS
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import AutoencoderConfig, SamplerConfig
from worldmodel.model.events import CHANGE, HOLD, SET, Events
from worldmodel.model.motion import Motion
from worldmodel.model.objects import COME, GO_ON, GONE, MOVE
from worldmodel.model.state_configs import (
    EventsConfig,
    FloorPlanConfig,
    MotionConfig,
    ObjectsConfig,
    SceneConfig,
)
from worldmodel.model.state_numbers import choose_state_numbers
from worldmodel.model.transformer import WorldTransformer
from worldmodel.state_spec import StateNumber, StateSpec, StateTrack
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import episode_bytes
from worldmodel.world import Frame
from worldmodel.worlds.world_folder import (
    AUTOENCODER as AUTOENCODER_FILE,
)
from worldmodel.worlds.world_folder import (
    EVENTS as EVENTS_FILE,
)
from worldmodel.worlds.world_folder import (
    FORMAT,
    TEACHER,
    TRANSFORMER,
    WorldFile,
    save_world_folder,
    sha256_of_bytes,
)
from worldmodel.worlds.world_folder import (
    MOTION as MOTION_FILE,
)

PLAN = FloorPlanConfig(
    low=(0.0, -40.0),
    high=(100.0, 40.0),
    floor=0.0,
    ceiling=20.0,
    frame_height=8,
    frame_width=16,
    cells=(4, 6),
    features=3,
    samples=6,
    nearest=2.0,
    farthest=120.0,
    depth_features=3,
    ray_width=4,
    rays=4,
    depthwise=True,
    texture_cell=10.0,
    wall_cell=10.0,
    texture_features=3,
    wall_features=3,
    column_features=2,
    width=6,
    hidden=4,
)
STATE = StateSpec(
    {
        "x": StateNumber(kind="position", unit="m", low=0.0, high=100.0),
        "y": StateNumber(kind="position", unit="m", low=-40.0, high=40.0),
        "z": StateNumber(kind="position", unit="m", low=8.0, high=9.0),
        "heading": StateNumber(kind="heading", unit="degrees", low=0.0, high=360.0),
        "u": StateNumber(kind="velocity", low=-1.0, high=1.0),
        "v": StateNumber(kind="velocity", low=-1.0, high=1.0),
        "clock": StateNumber(kind="phase", low=0.0, high=20.0),
        "health": StateNumber(kind="count", low=100.0, high=100.0),
    }
)
MOTION = MotionConfig(
    low=PLAN.low,
    high=PLAN.high,
    buttons=len(SPEC.buttons),
    mouse_degrees=SPEC.mouse_degrees,
    phase_step=2.0,
    body=4.0,
    tics=2,
)


def make_motion() -> Motion:
    """Random weights, so that every input moves the state."""
    torch.manual_seed(1)
    motion = Motion(MOTION, STATE)
    with torch.no_grad():
        motion.push.copy_(torch.tensor([[0.5, 0.2], [-0.5, 0.1]]))
        motion.ground.free[5:-5, 5:-5] = 1  # a room
        for parameter in motion.lift.parameters():
            parameter.normal_(std=0.02)
    return motion.eval().requires_grad_(requires_grad=False)


NUMBERS = StateSpec(
    {
        "heading": StateNumber(kind="heading", unit="degrees", low=0.0, high=360.0),
        "health": StateNumber(kind="count", low=0.0, high=100.0),
        "reward": StateNumber(kind="number", low=-1.0, high=1.0),
        "dead": StateNumber(kind="flag", low=0.0, high=1.0),
    }
)
EVENTS = EventsConfig(
    buttons=len(SPEC.buttons),
    mouse_degrees=SPEC.mouse_degrees,
    latent_channels=MODEL.latent_channels,
    latent_height=MODEL.latent_height,
    latent_width=MODEL.latent_width,
    frames=4,
    width=16,
    bins=4,
)

OBJECTS = ObjectsConfig(names=("imp.1", "imp.2", "ball.1"), rays=4)
AMONG_OBJECTS = StateSpec(
    {
        **NUMBERS.numbers,
        "x": StateNumber(kind="position", low=0.0, high=8.0),
        "y": StateNumber(kind="position", low=0.0, high=8.0),
        **dict.fromkeys(OBJECTS.numbers, StateNumber(kind="object", low=-90.0, high=200.0)),
    }
)
SCENE = SceneConfig(
    objects=OBJECTS,
    frame_height=8,
    frame_width=16,
    panorama=(8, 32),
    texture=4,
    levels=2,
    near=20.0,
    far=200.0,
    hidden=4,
)
TRANSITIONS = [(GONE, 0.0, 0.0), (GO_ON, 0.0, 0.0), (MOVE, 9.0, -3.0), (COME, 120.0, 30.0)]


def make_events(config: EventsConfig = EVENTS, spec: StateSpec = NUMBERS) -> Events:
    """Random weights: hits, rewards, deaths and lives that begin anew, at any time."""
    torch.manual_seed(2)
    events = Events(config, spec)
    happen = {
        "health": [(CHANGE, 0.0), (CHANGE, -7.0), (SET, 100.0)],
        "reward": [(CHANGE, 0.0), (SET, -0.5), (SET, 1.0)],
        "dead": [(CHANGE, 0.0), (SET, 1.0), (SET, 0.0)],
        "heading": [(CHANGE, 0.0), (HOLD, 0.0), (SET, 90.0)],
        "x": [(CHANGE, 0.0), (CHANGE, 1.0), (SET, 2.0)],
        "y": [(CHANGE, 0.0), (CHANGE, -1.0), (SET, 6.0)],
    }
    for row, index in enumerate(events.drawn):
        for column, (kind, value) in enumerate(happen.get(spec.names[index], [])):
            events.kinds[row, column], events.values[row, column] = kind, value
    if events.objects is not None:
        for column, (sort, x, y) in enumerate(TRANSITIONS):
            events.objects.sorts[:, column] = sort
            events.objects.values[:, column] = torch.tensor((x, y))
    return events.eval().requires_grad_(requires_grad=False)


LEVELS = range(0, 256, 36)
PALETTE = tuple(f"{i:02x}{j:02x}{128 if i > j else 40:02x}" for i in LEVELS for j in LEVELS)


def make_world(
    folder: Path,
    *,
    is_doom: bool = False,
    is_placed: bool = False,
    is_numbered: bool = False,
    has_objects: bool = False,
    has_scene: bool = False,
    time_attention_every: int = 1,
    view_pull: float = 0.0,
    palette: tuple[str, ...] = (),
) -> Path:
    """A 16 x 8 world of a bar, or one of random pictures in the size and keys of Doom's.

    One that is placed knows where the player is, has a plan, and moves by chance. In one that is
    numbered things happen by chance, health, reward and death, and its transformer is given them;
    one that is both has the numbers of its place, of which events draw the health. One that is
    numbered and has objects has monsters and what they throw; with a scene, the picture begins with
    them. With a plan or a scene, `view_pull` is the sampler's, in every second frame.
    """
    torch.manual_seed(0)
    shape, spec = AUTOENCODER, SPEC
    layers = MODEL.layers * time_attention_every
    model = replace(MODEL, layers=layers, time_attention_every=time_attention_every)
    if is_placed:
        shape = replace(shape, plan=PLAN)
        model = replace(model, rays=PLAN.rays, ray_features=PLAN.ray_features)
    numbers, events = (STATE, EVENTS) if is_placed else (NUMBERS, EVENTS)
    if is_numbered:
        if is_placed:
            numbers = StateSpec({**numbers.numbers, "health": NUMBERS.numbers["health"]})
            moved = tuple(name for name in STATE.names if name != "health")
            events = replace(EVENTS, moved=moved)
        model = replace(model, state_numbers=choose_state_numbers(numbers, ("health",)))
    if has_objects:
        numbers, events = (
            AMONG_OBJECTS,
            replace(events, objects=OBJECTS, transitions=len(TRANSITIONS)),
        )
        rays, features = OBJECTS.rays, OBJECTS.ray_features
        model = replace(model, objects=OBJECTS, rays=rays, ray_features=features)
    if is_doom:
        shape = replace(AUTOENCODER, widths=(8, 8, 8, 8), frame_height=48, frame_width=64)
        spec = ACTIONS
        model = replace(MODEL, latent_height=3, latent_width=4, buttons=len(spec.buttons))
    if has_scene:
        shape = replace(shape, scene=SCENE)
    shape = replace(shape, palette=palette)
    autoencoder = _make_autoencoder(shape)
    files = {
        TRANSFORMER: save(make_lively(WorldTransformer(model)).state_dict()),
        TEACHER: save(make_lively(WorldTransformer(model)).state_dict()),
        AUTOENCODER_FILE: save(autoencoder.state_dict()),
        "NOTICE": b"drawn by a test",
    }
    if is_placed:
        files[MOTION_FILE] = save(make_motion().state_dict())
    if is_numbered:
        files[EVENTS_FILE] = save(make_events(events, numbers).state_dict())
    starts = {}
    for number in range(2):
        clip = Episode(
            frames=np.stack([_fill(draw(number * 5 + f), shape) for f in range(6)]),
            actions=[IDLE] * 6,
            frames_per_second=10.0,
            buttons=spec.buttons,
            state=_track(number, numbers) if is_placed or is_numbered else None,
        )
        starts[f"{number}.safetensors"] = f"place {number}"
        files[f"starts/{number}.safetensors"] = episode_bytes(clip)
    world = WorldFile(
        format=FORMAT,
        name=folder.name,
        title="A bar",
        licence="MIT",
        backend="native",
        frames_per_second=10.0,
        sampler=SamplerConfig(
            sigmas=(1.0, 0.5, 0.0), renoise=True, view_pull=view_pull, view_pull_every=2
        ),
        actions=spec,
        transformer=model,
        autoencoder=shape,
        state=numbers if is_placed or is_numbered else None,
        motion=MOTION if is_placed else None,
        events=events if is_numbered else None,
        sha256={n: sha256_of_bytes(data) for n, data in files.items() if n != "NOTICE"},
        starts=starts,
        game={"level": "my_way_home", "tics_per_frame": 2} if is_doom else {},
    )
    save_world_folder(folder, world, files)
    return folder


def _make_autoencoder(shape: AutoencoderConfig) -> Autoencoder:
    """Random weights, so that latents and scene are both seen."""
    autoencoder = Autoencoder(shape).eval()
    if autoencoder.scene is not None:
        for textures in (autoencoder.scene.panorama, autoencoder.scene.sprites):
            torch.nn.init.normal_(textures, std=0.05)
    if autoencoder.view is not None:
        torch.nn.init.normal_(autoencoder.decoder.change.weight, std=0.5)
    return autoencoder


def _track(number: int, spec: StateSpec) -> StateTrack:
    """Somebody stands still."""
    row = [50.0, 10.0 * number, 8.5, 30.0, 0.0, 0.0, 4.0, 100.0]
    if spec is NUMBERS:
        row = [30.0, 90.0 - number, 0.0, 0.0]
    if spec is AMONG_OBJECTS:
        here, nowhere = (80.0, 20.0), (np.nan, np.nan)
        row = [30.0, 90.0 - number, 0.0, 0.0, 4.0, 4.0, *here, *nowhere, *here]
    return StateTrack(spec, np.tile(np.asarray(row, np.float32), (6, 1)))


def _fill(frame: Frame, shape: AutoencoderConfig) -> Frame:
    """The picture repeated until it has the world's size."""
    rows, columns = shape.frame_height // 8, shape.frame_width // 16
    return np.tile(frame, (rows, columns, 1))
