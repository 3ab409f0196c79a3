"""Files that ask for much: refused before memory or time is spent, in one printable sentence."""

import json
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.storage.test_episodes import make_episode
from tests.storage.test_moments import make_moment
from worldmodel.action import IDLE
from worldmodel.config import ConfigError, UserError, read_toml
from worldmodel.model.configs import SamplerConfig
from worldmodel.players import RandomPlayer
from worldmodel.storage.action_log import RecordingError
from worldmodel.storage.episode import EpisodeError
from worldmodel.storage.episodes import episode_bytes, load_actions, load_episode
from worldmodel.storage.moments import load_moment, save_moment
from worldmodel.storage.recording import FrameRow, Header, Recorder, load_recording, read_recording
from worldmodel.storage.tensor_files import mapped
from worldmodel.storage.video import VideoError, VideoWriter, read_rate, read_video
from worldmodel.system.limits import LONGEST_LINE, LONGEST_MESSAGE, MOST_FOREIGN_STEPS
from worldmodel.system.printable import printable
from worldmodel.training.stage import LoopConfig
from worldmodel.worlds.find import find_world, open_world

SPARSE = pytest.mark.skipif(sys.platform == "win32", reason="files of holes take their size here")


def spent(run: Callable[[], object]) -> int:
    """Megabytes by which this process was larger than ever before."""
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // unit


def save_holes(
    path: Path, shapes: dict[str, tuple[str, list[int]]], header: dict[str, str]
) -> None:
    """A safetensors file of zeros that takes next to nothing on disk."""
    sizes = {"U8": 1, "F32": 4, "U32": 4, "F64": 8}
    table: dict[str, Any] = {"__metadata__": header}
    end = 0
    for name, (kind, shape) in shapes.items():
        begin, end = end, end + sizes[kind] * int(np.prod(shape, dtype=np.int64))
        table[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 40_000 + " = 1",
        "x = {'a'" + ' . "b"' * 40 + " = 1}",
        "[" + ".".join("abcdefgh" * 5) + "]",
    ],
)
def test_a_key_of_countless_parts_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="a key of more than 32 parts"):
        read_toml(path)


def test_dots_in_texts_and_comments_are_no_key(tmp_path: Path) -> None:
    path, dots = tmp_path / "a.toml", "a." * 100
    path.write_text(f'a = "{dots}"  # {dots}\nb = \'{dots}\'\nc = """\n{dots}"""\nd.e = 1.5\n')
    assert read_toml(path) == {"a": dots, "b": dots, "c": dots, "d": {"e": 1.5}}


def test_a_message_is_one_line_that_commands_no_terminal() -> None:
    error = UserError("a\x1b[2J\x07\u202eb\nc\ud800" + "x" * 10_000)
    assert str(error).startswith("a?[2J??b c?xx")
    assert str(UserError("x" * 10_000 + ": the reason")).endswith("x: the reason")
    assert str(error).isprintable()
    assert len(str(error)) == LONGEST_MESSAGE + 1
    assert printable("größe 夜") == "größe 夜"


@pytest.mark.parametrize("rate", ["-1.0", "0", "nan", "inf", "1e-300", "x"])
def test_an_episode_of_an_impossible_rate_is_refused(tmp_path: Path, rate: str) -> None:
    path = tmp_path / "e.safetensors"
    path.write_bytes(episode_bytes(make_episode()))
    with safe_open(path, framework="np") as file:
        header, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(arrays, path, metadata={**header, "frames_per_second": rate})
    with pytest.raises(EpisodeError, match=r"frames a second|not an episode"):
        load_episode(path)


@SPARSE
def test_of_an_episode_of_gigabytes_a_start_reads_its_last_frames(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    header = {"format": "worldmodel episode 1", "frames_per_second": "10", "buttons": '["KeyW"]'}
    shapes = {
        "frames": ("U8", [2700, 1024, 1024, 3]),
        "buttons": ("U8", [2700, 1]),
        "mouse": ("F32", [2700, 2]),
    }
    save_holes(path, shapes, header)
    assert spent(lambda: load_episode(path)) < 200, "8 GB were read"
    assert spent(lambda: load_episode(path, last=4).frames.sum()) < 200
    assert len(load_episode(path, last=4)) == len(load_episode(path, last=4).actions) == 4
    assert load_actions(path)[-1] == IDLE


@pytest.mark.parametrize(("count", "buttons"), [(1 << 23, 0), (1 << 21, 64)])
@SPARSE
def test_an_episode_of_countless_frames_is_refused(
    tmp_path: Path, count: int, buttons: int
) -> None:
    path = tmp_path / "e.safetensors"
    names = json.dumps([f"Key{i}" for i in range(buttons)])
    header = {"format": "worldmodel episode 1", "frames_per_second": "10", "buttons": names}
    shapes = {
        "frames": ("U8", [count, 1, 1, 3]),
        "buttons": ("U8", [count, buttons]),
        "mouse": ("F32", [count, 2]),
    }
    save_holes(path, shapes, header)
    with pytest.raises(EpisodeError, match=f"{count} frames of {buttons} buttons, at most"):
        load_episode(path)


@SPARSE
def test_of_a_moment_of_gigabytes_nothing_is_read_before_a_world_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_moment(path, make_moment())
    content = path.read_bytes()
    table = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    shapes: dict[str, tuple[str, list[int]]] = {"state.more": ("U8", [8 << 30])}
    shapes |= {"frame": ("U8", [8, 16, 3]), "held": ("U32", [0]), "mouse": ("F64", [0, 2])}
    save_holes(path, shapes, table["__metadata__"])
    assert spent(lambda: load_moment(path)) < 200, "8 GB were read"
    assert load_moment(path).state.arrays["more"].nbytes == 8 << 30


def test_what_is_mapped_is_what_is_read(tmp_path: Path) -> None:
    path, episode = tmp_path / "e.safetensors", make_episode()
    path.write_bytes(episode_bytes(episode))
    np.testing.assert_array_equal(mapped(path, "frames"), episode.frames)


HEADER = Header(
    settings={},
    identity={},
    seed=0,
    start=0,
    first_frame=0,
    frames_per_second=10.0,
    frame_size=(8, 16),
    buttons=("KeyW",),
)


def record(folder: Path, header: Header = HEADER) -> Path:
    recorder = Recorder(folder / "walk", header)
    for i in range(6):
        frame = np.full((*header.frame_size, 3), 40 * i, np.uint8)
        recorder.write(frame, FrameRow(index=i, time=i / 10))
    recorder.finish()
    recorder.wait()
    return recorder.rows_path


def test_the_last_frames_of_a_recording_are_those_of_the_whole(tmp_path: Path) -> None:
    path = record(tmp_path)
    whole, last = load_recording(path), load_recording(path, 2)
    np.testing.assert_array_equal(last.frames, whole.frames[-2:])
    assert list(last.actions) == list(whole.actions)[-2:]
    assert len(load_recording(path, 100)) == len(whole)


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "walk.jsonl"
    path.write_bytes(b"[" + b"0," * LONGEST_LINE)
    with pytest.raises(RecordingError, match="the first line is longer than 1 MB"):
        read_recording(path)


@pytest.mark.parametrize(
    "odd",
    [
        {"prompt": ["a"]},
        {"prompt": "a"},
        {"prompt": {"a": 1}},
        {"prompt": ["x" * 20_000, True]},
        {"buttons": "KeyW"},
        {"buttons": [["KeyW"]]},
        {"buttons": ["KeyW"] * 2000},
        {"back_to": 1e400},
        {"hash": "x" * LONGEST_LINE},
    ],
)
def test_an_odd_row_is_refused(tmp_path: Path, odd: dict[str, Any]) -> None:
    path = record(tmp_path)
    lines = path.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | odd)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordingError, match="line 3 is not a frame"):
        read_recording(path)


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1)])
def test_a_recording_that_names_another_size_is_read_or_refused(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = record(tmp_path)
    lines = path.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"frame_size": size})
    path.write_text("\n".join(lines) + "\n")
    assert load_recording(path).frames.shape[1:3] == size


def test_a_video_of_an_impossible_timescale_is_a_sentence(tmp_path: Path) -> None:
    video = record(tmp_path).with_suffix(".mp4")
    whole = video.read_bytes()
    for kind in (b"mvhd", b"mdhd"):
        at = whole.index(kind) + 16
        for scale in (0, 1, 2**31, 2**32 - 1):
            video.write_bytes(whole[:at] + struct.pack(">I", scale) + whole[at + 4 :])
            try:
                assert 0.01 <= read_rate(video) <= 1000
                list(read_video(video))
            except VideoError as error:
                assert str(error).isprintable()  # noqa: PT017  # either is fine


def test_a_video_of_frames_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, (8192, 4104), 1.0)
    writer.write(np.zeros((8192, 4104, 3), np.uint8), 0.0)
    writer.close()
    with pytest.raises(VideoError, match="and 32 million pixels are read"):
        list(read_video(path))


def test_a_random_player_reaches_any_frame_at_once() -> None:
    from worldmodel.data_sources.doom import ACTIONS

    late = 2**40 + 1  # a stretch begins there
    players = [RandomPlayer(ACTIONS, seed=3) for _ in range(2)]
    ahead = [players[0].act(late + i) for i in range(50)]
    assert [players[1].act(late + i) for i in range(25, 50)] == ahead[25:]
    assert len(set(ahead)) > 1
    assert players[0].act(1) == RandomPlayer(ACTIONS, seed=3).act(1)


@pytest.mark.parametrize("step", [1e-300, -1.0, 1e9])
def test_a_grid_of_latents_that_is_none_is_refused(step: float) -> None:
    with pytest.raises(ConfigError, match="latent_step"):
        SamplerConfig(sigmas=(1.0, 0.0), renoise=True, latent_step=step)


@pytest.mark.parametrize(
    "odd", [{"betas": (1.0, 1.0)}, {"betas": (0.9, -1.0)}, {"learning_rate": -1.0}]
)
def test_rates_that_no_optimizer_takes_are_refused(odd: dict[str, Any]) -> None:
    right = LoopConfig(steps=1, learning_rate=1e-3)
    with pytest.raises(ConfigError, match=r"betas|learning_rate"):
        replace(right, **odd)


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "\ud800", "a\0b", "\x1b[2J"])
def test_a_world_of_an_impossible_name_is_a_sentence(name: str) -> None:
    with pytest.raises(UserError, match="unknown world") as raised:
        find_world(name)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("backend", ['["a"]', "{}", "3", '"\\u001b[2J"', "0x" + "f" * 9000])
def test_a_backend_that_is_none_is_a_sentence(tmp_path: Path, backend: str) -> None:
    (tmp_path / "world.toml").write_text(f"backend = {backend}\n")
    with pytest.raises(UserError, match="unknown backend") as raised:
        open_world(str(tmp_path))
    assert str(raised.value).isprintable()


def test_a_world_of_countless_steps_is_refused() -> None:
    from worldmodel.model.configs import require_played

    even = tuple(1 - i / (MOST_FOREIGN_STEPS + 1) for i in range(MOST_FOREIGN_STEPS + 1))
    sampler = SamplerConfig(sigmas=(*even, 0.0), renoise=False)
    with pytest.raises(ConfigError, match="129 denoising steps"):
        require_played(10.0, sampler)
