"""What reads files from strangers, each as a function of bytes that may raise a `UserError` only.

for target in targets(world_folder):
target.read(folder, data)       # whatever the bytes are: one sentence, or it was fine
"""

import io
import json
import math
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import save

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError, to_toml
from worldmodel.game.controls import load_controls
from worldmodel.game.preferences import SETTINGS_FILE, Preferences
from worldmodel.game.replay import Replay
from worldmodel.players import load_script, load_timeline
from worldmodel.reference.game import ReferenceTrajectory
from worldmodel.reference.trajectory import load_trajectory, trajectory_bytes
from worldmodel.serve.protocol import Hello, ProtocolError, read_message
from worldmodel.state_spec import StateNumber, StateSpec, track_of
from worldmodel.storage.action_history import History
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import episode_bytes, load_episode
from worldmodel.storage.images import read_picture
from worldmodel.storage.moments import Moment, MomentHeader, load_moment, peek, save_moment
from worldmodel.storage.recording import FrameRow, Header, Recorder, load_recording
from worldmodel.storage.video import read_rate
from worldmodel.system.limits import LONGEST_MESSAGE
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.prompts import load_prompts
from worldmodel.wan.weight_files import read_tensors
from worldmodel.world import SavedState
from worldmodel.worlds.wan.description import new_world
from worldmodel.worlds.wan.found_parts import ImportPlan
from worldmodel.worlds.wan.start import read_frames
from worldmodel.worlds.wan.world_file import read_wan_world
from worldmodel.worlds.world_folder import WORLD_FILE, read_world_file


class FuzzError(AssertionError):
    """A reader answered with something else than a sentence."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader, the name its file goes by, and contents that are right."""

    name: str
    file: str
    load: Callable[[Path], object]
    seeds: tuple[bytes, ...]

    def read(self, folder: Path, data: bytes) -> bool:
        """Whether the bytes were taken for what they should be; a `FuzzError` if it broke."""
        path = folder / self.file
        path.write_bytes(data)
        try:
            self.load(path)
        except UserError as error:
            check_sentence(str(error))
            return False
        return True


def check_sentence(text: str) -> None:
    """A message is one line of a length that a person reads, and no command for a terminal."""
    if not text.isprintable() or not text or len(text) > LONGEST_MESSAGE + 1:
        raise FuzzError(f"not one sentence: {len(text)} characters, {text[:100]!r}")


def targets(folder: Path) -> list[Target]:
    """All readers; `folder` is of a world that is right, and a place to make the others in."""
    clip = _clip()
    world = (folder / WORLD_FILE).read_bytes()
    jsonl, video = _recording()
    return [
        Target("world.toml", WORLD_FILE, lambda path: read_world_file(path.parent), (world,)),
        Target("controls", "controls.toml", load_controls, (CONTROLS,)),
        Target("script", "player.txt", load_script, (SCRIPT,)),
        Target("replay", "walk.jsonl", Replay.read, (jsonl,)),
        Target("recording", "walk.mp4", _load_video(jsonl), (video,)),
        Target("episode", "clip.safetensors", load_episode, _episodes(clip)),
        Target("weights", "w.safetensors", load_tensors, (_weights(),)),
        Target("moment", "m.safetensors", _load_moment, (_moment(),)),
        Target("picture", "start.png", read_picture, _pictures()),
        Target("settings", SETTINGS_FILE, lambda p: Preferences.read(folder=p.parent), (SETTINGS,)),
        Target("timeline", "said.txt", load_timeline, (TIMELINE,)),
        Target(
            "trajectory", "clip.way", lambda path: load_trajectory(path, clip), (_trajectory(clip),)
        ),
        Target("import", "model.pt", read_tensors, _checkpoints()),
        Target("shards", "m.index.json", _load_shards, (SHARDS,)),
        Target("prompts", "p.safetensors", load_prompts, (_prompts(),)),
        Target(
            "wan-world.toml", WORLD_FILE, lambda path: read_wan_world(path.parent), (_wan_world(),)
        ),
        Target("wan-start", "start.png", _load_wan_start, _pictures()),
        Target("wan-video", "clip.mp4", _load_wan_video, (video,)),
        Target("serve-message", "message.json", _read_message, MESSAGES),
    ]


MESSAGES = (
    b'{"type": "hello", "token": "abc", "watch": "", "h264": true}',
    b'{"type": "play", "world": 0, "start": 0, "seed": 1}',
    b'{"type": "act", "buttons": ["KeyW"], "mouse": [1.5, 0], "time": 12.5}',
    b'{"type": "ack", "frame": 7}',
    b'{"type": "rewind"}',
    b'{"type": "say", "text": "It rains.", "renew": false}',
    b'{"type": "record"}',
)
CONTROLS = b'degrees_per_pixel = 0.1\nturn_degrees = 5.0\n[buttons]\nKeyW = ["ArrowUp", "KeyW"]\n'
SETTINGS = b'scaling = "integer"\nfilter = "nearest"\nfont = 1.5\nnumbers = false\n'
TIMELINE = b"0 A forest.\n12.5 ! It begins to rain.\n# later\n40 Night falls.\n"
SCRIPT = b"30 KeyW\n10 KeyW+KeyA mouse=4,0 # turn\n20 idle\n"


SHARDS = json.dumps({"metadata": {}, "weight_map": {"a.weight": "m1", "b": "m1"}}).encode()


def _load_shards(path: Path) -> object:
    path.with_name("m1").write_bytes(_weights())
    return read_tensors(path)


def _load_wan_start(path: Path) -> object:
    return read_frames(path, 5, (8, 16), 16.0)


def _load_wan_video(path: Path) -> object:
    read_rate(path)
    return read_frames(path, 5, (8, 16), 16.0)


def _prompts() -> bytes:
    header = {"format": "1", "encoder": '"none"', "prompts": '["a forest"]'}
    return bytes(save({"prompt.00000": np.ones((3, 4), np.float32)}, metadata=header))


def _wan_world() -> bytes:
    config = WanConfig(
        width=128, heads=1, layers=2, feed_forward=64, text_width=12, time_features=16
    )
    plan = ImportPlan(recipe="framewise-2step", openings=("a forest",), keys={"Digit1": "+ rain"})
    return to_toml(new_world(config, "w", plan)).encode()


def _read_message(path: Path) -> None:
    """What a browser says to `worldmodel serve`."""
    try:
        message = read_message(path.read_bytes().decode(errors="replace"))
    except ProtocolError as error:
        raise UserError(str(error)) from error
    if isinstance(message, Hello):  # as the server compares it
        for key in (message.token, message.resume, message.watch):
            key.encode()


def _clip() -> Episode:
    frames = np.zeros((3, 8, 16, 3), np.uint8)
    return Episode(
        frames=frames, actions=[IDLE] * 3, frames_per_second=10.0, buttons=("KeyW", "KeyA")
    )


STATE = StateSpec({"x": StateNumber(kind="position", unit="m"), "dead": StateNumber(kind="flag")})


def _episodes(clip: Episode) -> tuple[bytes, ...]:
    """Without a state and with one."""
    track = track_of(STATE, [(0.5, 0.0)] * len(clip))
    return episode_bytes(clip), episode_bytes(replace(clip, state=track))


def _trajectory(clip: Episode) -> bytes:
    trajectory = ReferenceTrajectory(
        seed=7, actions=[IDLE, Action(frozenset({"KeyW"}), (1.5, 0.0))], frame=clip.frames[-1]
    )
    return trajectory_bytes(trajectory, clip.buttons)


def _checkpoints() -> tuple[bytes, ...]:
    """Weights as others write them: both formats of `torch.save`, and one that would run code."""
    model = {"generator_ema": {"model.head.weight": torch.ones(4, 4), "model.b": torch.zeros(3)}}
    found = []
    for is_zip in (True, False):
        content = io.BytesIO()
        torch.save(model, content, _use_new_zipfile_serialization=is_zip)
        found.append(content.getvalue())
    index = json.dumps({"weight_map": {"a": "model.pt"}}).encode()
    return (*found, _weights(), index, pickle.dumps(_Runs()))


class _Runs:
    """What a pickle does that means harm."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (exec, ("raise FuzzError('a pickle was run')",))


def _weights() -> bytes:
    return bytes(save({"a.weight": np.ones((4, 4), np.float32), "b": np.zeros(3, np.int64)}))


def _moment() -> bytes:
    import tempfile

    history = History()
    for i in range(4):
        history.append(Action(frozenset({"KeyW"} if i % 2 else ()), (0.5, 0.0)))
    header = MomentHeader(
        settings={"world": None},
        identity={"world": "w", "sha256": {"a": "0"}, "sampler": {"sigmas": [1.0, 0.0]}},
        world="w",
        caption="a room",
        seed=1,
        start=0,
        index=4,
        seconds=0.4,
        saved_at=1.0,
        sets=((), ("KeyW",)),
        versions={"python": "3"},
    )
    state = SavedState(
        header.identity, {"now": np.array(4), "slot.0": np.zeros((2, 3), np.float32)}
    )
    frame = np.zeros((8, 16, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        save_moment(path, Moment(header=header, state=state, frame=frame, history=history))
        return path.read_bytes()


def _recording() -> tuple[bytes, bytes]:
    import tempfile

    header = Header(
        settings={"world": None},
        identity={"dtype": "float32"},
        seed=1,
        start=0,
        first_frame=0,
        frames_per_second=10.0,
        frame_size=(8, 16),
        buttons=("KeyW",),
        state=STATE,
    )
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "walk", header)
        for i in range(6):
            back_to = 1 if i == 4 else None
            index = i if i < 4 else i - 2
            frame = np.full((8, 16, 3), 40 * i, np.uint8)
            action = Action(frozenset({"KeyW"}), (0.25 * i, 0.0))
            state = (0.5 * i, math.nan) if i else None
            row = FrameRow(index=index, time=i / 10, action=action, back_to=back_to, state=state)
            recorder.write(frame, row)
        recorder.finish()
        recorder.wait()
        return recorder.rows_path.read_bytes(), recorder.path.read_bytes()


def _load_video(jsonl: bytes) -> Callable[[Path], object]:
    def load(path: Path) -> object:
        path.with_suffix(".jsonl").write_bytes(jsonl)
        return load_recording(path.with_suffix(".jsonl"))

    return load


def _load_moment(path: Path) -> object:
    peek(path)
    return load_moment(path)


def _pictures() -> tuple[bytes, ...]:
    picture = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)
    kinds = [".png", ".jpg", ".bmp", ".webp"]
    return (*(cv2.imencode(kind, picture)[1].tobytes() for kind in kinds), _png_bomb())


def _png_bomb() -> bytes:
    """A file of some bytes that promises 60 000 x 60 000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000)))


def dictionary() -> list[bytes]:
    """Pieces that formats are made of, for mutations that get further."""
    numbers = (b"-1", b"0", b"1e999", b"NaN", b"Infinity", b"9" * 5000, b"18446744073709551616")
    nests = (b"[" * 3000, b"{" * 3000, b'{"a":' * 3000)
    names = (b"../../x", b"/etc/passwd", b"\\\\host\\x", b"a\x00b", "é\u202e".encode(), b"\x1b[2J")
    words = (b"null", b"true", b'""', b"[]", b"{}", json.dumps("x" * 300).encode(), b"\xff\xfe")
    return [*numbers, *nests, *names, *words]
