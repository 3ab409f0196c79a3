"""A world on disk: `world.toml`, weights as safetensors, starts, NOTICE. Nothing is executed.

    NAME/
      world.toml                 WorldFile, below
      transformer.safetensors  autoencoder.safetensors  (teacher.safetensors)
      motion.safetensors         where the player is next, in a world that knows its place
      starts/                    clips, as episode files; NAME.way: how the real game comes there
      NOTICE

Saving writes a new folder beside the old one and swaps them, so a broken save loses nothing.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, UserError, build_config, read_toml, to_toml
from worldmodel.model.configs import AutoencoderConfig, ModelConfig, SamplerConfig, require_played
from worldmodel.model.state_configs import EventsConfig, MotionConfig
from worldmodel.state_spec import StateSpec
from worldmodel.storage.files import (
    FileWriteError,
    check_file,
    check_inside,
    is_file,
    with_a_name,
    write_atomically,
)
from worldmodel.system.limits import (
    CACHE_PER_WEIGHT,
    LARGEST_EPISODE,
    LARGEST_PART,
    LONGEST_TITLE,
    SPARE_CACHE,
)
from worldmodel.system.printable import shown

FORMAT = 2
TRANSFORMER = "transformer.safetensors"
AUTOENCODER = "autoencoder.safetensors"
MOTION = "motion.safetensors"  # of a world that knows its place
EVENTS = "events.safetensors"  # of a world whose numbers are predicted
TEACHER = "teacher.safetensors"  # optional: what the student was distilled from, for evaluation
WORLD_FILE = "world.toml"
OTHER_PARTS = ("NOTICE", "CARD.md")  # of a world, without a sha256 of their own


class WorldError(UserError):
    """A folder does not hold a world that can be played."""


class Hashed(Protocol):
    """A `world.toml` that says what its files should be."""

    @property
    def sha256(self) -> Mapping[str, str]:
        """The hex digest of each file's bytes, by its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldFile:
    """Everything in `world.toml`."""

    format: int
    name: str
    title: str
    licence: str
    backend: str
    frames_per_second: float
    sampler: SamplerConfig
    actions: ActionSpec
    transformer: ModelConfig
    autoencoder: AutoencoderConfig
    sha256: dict[str, str]
    starts: dict[str, str]  # file in starts/ -> caption
    game: dict[str, Any] = field(default_factory=dict)  # the real game behind it
    training: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    state: StateSpec | None = None  # the numbers that the world tells of every frame, if any
    motion: MotionConfig | None = None  # of a world that knows its place
    events: EventsConfig | None = None  # of a world whose numbers are predicted

    @property
    def frame_size(self) -> tuple[int, int]:
        """Rows and columns of its frames."""
        return self.autoencoder.frame_height, self.autoencoder.frame_width

    @property
    def captions(self) -> list[str]:
        """The captions of the starts, in order."""
        return list(self.starts.values())

    @property
    def pictures(self) -> list[str]:
        """The files of the starts in `starts/`, whose last frames show where play begins."""
        return list(self.starts)

    def __post_init__(self) -> None:
        if not self.starts:
            raise ConfigError("starts is empty: a world needs at least one first clip")
        require_played(self.frames_per_second, self.sampler)
        check_texts(self.title, self.licence, *self.starts.values(), *self.actions.names)
        inner = [part for path in self.sha256 for part in path.split("/")]
        check_names(self.name, *self.starts, *inner)
        if self.autoencoder.latent_shape != self.transformer.latent_shape:
            raise ConfigError(
                f"the autoencoder makes latents {self.autoencoder.latent_shape}, "
                f"the transformer expects {self.transformer.latent_shape}"
            )
        self._check_buttons("the transformer", self.transformer)
        self._check_pull()
        self._check_place()
        self._check_events()

    def _check_buttons(self, name: str, part: ModelConfig | MotionConfig | EventsConfig) -> None:
        if part.buttons != len(self.actions.buttons):
            raise ConfigError(
                f"actions names {len(self.actions.buttons)} buttons, {name} was made for "
                f"{part.buttons}"
            )

    def _check_pull(self) -> None:
        """What is remembered is pulled to a picture, which floor plan or scene must show."""
        pull, chunk = self.sampler.view_pull, self.transformer.chunk_frames
        if pull and (self.autoencoder.view is None or chunk > 1):
            raise ConfigError(
                f"sampler: view_pull = {pull} needs an autoencoder with a floor plan or a scene, "
                f"and chunk_frames = 1 (it is {chunk}); leave view_pull out"
            )

    def _check_place(self) -> None:
        """State, motion, plan and rays come together or not at all."""
        plan, motion = self.autoencoder.plan, self.motion
        objects, scene = self.transformer.objects, self.autoencoder.scene
        if scene and scene.objects != objects:
            raise ConfigError("the scene and the transformer must name the same objects")
        if plan and objects:
            raise ConfigError("rays tell a floor plan or objects, and this world has both")
        view = plan or objects
        rays = (view.rays, view.ray_features) if view else (0, 0)
        if rays != (self.transformer.rays, self.transformer.ray_features):
            raise ConfigError(
                f"the transformer is given {self.transformer.rays} rays of "
                f"{self.transformer.ray_features} numbers, the "
                f"{'plan has' if plan else 'objects have'} {rays[0]} of {rays[1]}"
            )
        if (motion is None) != (plan is None) or (motion and self.state is None):
            raise ConfigError(
                "a world that knows its place needs all of [state], [motion] and "
                "[autoencoder.plan]; one of them is missing"
            )
        if motion:
            self._check_buttons("motion", motion)

    def _check_events(self) -> None:
        """Events need a state, and what the transformer is given needs events."""
        events, wants = self.events, self.transformer.is_conditioned_on_state
        if (events or wants) and not (events and self.state):
            raise ConfigError(
                "a world whose numbers are predicted needs [state] and [events]"
                f"{', which its transformer is given' if wants else ''}; one is missing"
            )
        if not events or not self.state:
            return
        for name in (*events.moved, *self.transformer.condition_names):
            self.state.index(name)
        if events.objects != self.transformer.objects:
            raise ConfigError("events and the transformer must name the same objects")
        if self.transformer.chunk_frames > 1:
            raise ConfigError("events follow from every frame, so chunk_frames must be 1")
        if events.moved and self.motion is None:
            raise ConfigError(f"events.moved names {events.moved[0]}, but there is no [motion]")
        self._check_buttons("events", events)
        if events.latent_shape != self.transformer.latent_shape:
            raise ConfigError(
                f"events reads latents {events.latent_shape}, the transformer makes "
                f"{self.transformer.latent_shape}"
            )


def check_texts(*texts: str) -> None:
    """Refuse what does not belong on a line of a terminal."""
    for text in texts:
        if len(text) > LONGEST_TITLE or not text.isprintable():
            raise ConfigError(
                f"the text {shown(text)} may hold {LONGEST_TITLE} printable characters"
            )


def check_names(*names: str) -> None:
    """Refuse what is no file's own name on every system."""
    for name in names:
        if not re.fullmatch(r"\w[\w.-]{0,199}", name):
            raise ConfigError(
                f"the name {shown(name)} may hold letters, digits, '_', '-', '.' only"
            )


def read_world_file(folder: Path) -> WorldFile:
    """Read and check `world.toml`; the weights are checked by `check_weights`."""
    if not is_file(folder / WORLD_FILE):
        raise WorldError(f"{folder}: not a world (no {WORLD_FILE} in it)")
    path = folder / WORLD_FILE
    table = read_toml(path)
    if table.get("backend", "native") != "native":
        raise WorldError(
            f"{path}: a world of the backend {shown(table['backend'])}; it can be played and "
            "benched, but this needs a native one"
        )
    if table.get("format") != FORMAT:  # first of all: another format has other keys
        raise ConfigError(
            f"{path}: format = {shown(table.get('format'))}: this version reads format {FORMAT}; "
            "get the world for this version, or the version for this world"
        )
    return build_config(WorldFile, table, str(path))


def source_of(world: WorldFile) -> dict[str, Any]:
    """The real game behind a world, showing frames of the world's size."""
    if not world.game:
        raise WorldError(f"{world.name}: {WORLD_FILE} names no [game] to be held against")
    shape = world.autoencoder
    size = {"frame_height": shape.frame_height, "frame_width": shape.frame_width}
    return {**world.game, **size}


def write_measured(folder: Path, measured: Mapping[str, Any]) -> None:
    """Put what was measured into `world.toml`; everything else stays as it is."""
    world = replace(read_world_file(folder), measured=dict(measured))
    write_atomically(folder / WORLD_FILE, to_toml(world).encode())


def check_weights(folder: Path, world: WorldFile, *others: str) -> None:
    """Compare the sha256 of weights and starts with what `world.toml` says, `others` too."""
    placed = [
        name for name, part in ((MOTION, world.motion), (EVENTS, world.events)) if part is not None
    ]
    needed = (TRANSFORMER, AUTOENCODER, *placed, *(f"starts/{name}" for name in world.starts))
    for name in (*needed, *others):
        check_part(folder, world, name, LARGEST_EPISODE)


def check_part(folder: Path, world: Hashed, name: str, largest: int = LARGEST_PART) -> None:
    """Compare the sha256 of one file of at most `largest` bytes with what `world.toml` says."""
    path = folder / name
    if not is_file(path):
        raise WorldError(f"{path}: missing; the world is incomplete, copy it again")
    check_inside(path, folder)
    check_file(path, largest)
    found, expected = sha256_of(path), world.sha256.get(name)
    if found != expected:
        raise WorldError(
            f"{path}: its sha256 is {found[:12]}…, {WORLD_FILE} says {str(expected)[:12]}…; "
            "the file is truncated or belongs to another world, copy it again"
        )


def check_cache(cache: int, *weights: Path) -> None:
    """Refuse a world that asks for far more memory than it brings weights."""
    brought = sum(path.stat().st_size for path in weights)
    if cache > SPARE_CACHE + CACHE_PER_WEIGHT * brought:
        raise WorldError(
            f"{weights[0].parent / WORLD_FILE}: asks for {cache / 2**30:.1f} GB of keys and values "
            f"beside {brought / 2**20:.1f} MB of weights; a world of that size sees fewer frames"
        )


def stamp_of(path: Path) -> str:
    """A file's size and when it was written: the same as long as nobody touched it."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def sha256_of_bytes(content: bytes) -> str:
    """Hex digest of a file's content that is still in memory."""
    return hashlib.sha256(content).hexdigest()


def save_world_folder(folder: Path, world: WorldFile, files: Mapping[str, bytes]) -> None:
    """Write a whole world; `files` are its other files by path inside the folder."""

    def write(fresh: Path) -> None:
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (fresh / WORLD_FILE).write_text(to_toml(world), encoding="utf-8")

    check_own(folder)
    replace_folder(folder, write)


def check_own(folder: Path) -> None:
    """Refuse to write a world over what is none: the whole folder would be replaced."""
    folder = with_a_name(folder)
    if folder.is_dir():
        if not (folder / WORLD_FILE).is_file() and any(folder.iterdir()):
            raise FileWriteError(
                f"{folder}: holds files and is no world; all of them would be replaced, give an "
                "empty or a new folder"
            )
    elif os.path.lexists(folder):
        raise FileWriteError(f"{folder}: is no folder; give an empty or a new one for the world")


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder beside the old one, then swap them: all of it or nothing."""
    folder = with_a_name(folder)
    fresh = folder.with_name(f".{folder.name}.part")
    old = folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        write(fresh)
        if folder.exists():
            _give_back(old, folder)  # what an earlier crash may have left
            shutil.rmtree(old, ignore_errors=True)
            folder.replace(old)
        fresh.replace(folder)
        _give_back(old, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise FileWriteError(f"{folder}: cannot be written: {error.strerror}") from error
    finally:  # interrupted between the two as well
        if old.exists() and not folder.exists():
            old.replace(folder)
        shutil.rmtree(fresh, ignore_errors=True)


def _give_back(old: Path, folder: Path) -> None:
    """Move what is no part of the old world, and so somebody's own, into the new one's folder."""
    if not old.is_dir():
        return
    try:
        listed = read_toml(old / WORLD_FILE).get("sha256")
        parts = {WORLD_FILE, *OTHER_PARTS, *(listed if isinstance(listed, Mapping) else ())}
    except UserError:  # no world any more: whatever is in the new one replaces it
        parts = set()
    for place, inside, files in os.walk(old):
        links = [name for name in inside if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            path = Path(place) / name
            kept = folder / path.relative_to(old)
            if path.relative_to(old).as_posix() not in parts and not os.path.lexists(kept):
                kept.parent.mkdir(parents=True, exist_ok=True)
                path.rename(kept)
