"""Videos of cameras and screen recorders, read as they are meant to be seen, at the rate wanted."""

import errno
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.storage.test_episodes import make_episode
from tests.worlds.make_world import make_world
from tests.worlds.wan.wan_tiny import make_wan_world
from worldmodel.action import IDLE
from worldmodel.config import UserError
from worldmodel.storage.episodes import find_episodes, save_episode
from worldmodel.storage.footage import Timed, find_footage, left_out, nearest, open_footage
from worldmodel.storage.video import VideoError, read_video, watch
from worldmodel.worlds.find import open_world
from worldmodel.worlds.run_settings import RunSettings

ROWS, COLUMNS = 48, 64
ENDINGS = {
    "x.mp4": ("libx264", "yuv420p"), "GOPR1.MP4": ("libx264", "yuv420p"),
    "x.m4v": ("libx264", "yuv420p"), "x.mov": ("libx264", "yuv420p"),
    "x.MKV": ("libx264", "yuv420p"), "x.webm": ("libvpx", "yuv420p"),
    "x.avi": ("mpeg4", "yuv420p"), "ten.mp4": ("libx265", "yuv420p10le"),
}  # fmt: skip


def shade(number: int) -> NDArray[np.uint8]:
    """Brighter from frame to frame; the upper left corner is white, the upper right one black."""
    frame = np.full((ROWS, COLUMNS, 3), 20 + number, np.uint8)
    frame[: ROWS // 4, : COLUMNS // 4] = 255
    frame[: ROWS // 4, -COLUMNS // 4 :] = 0
    return frame


def write(
    path: Path, times: list[float], kind: tuple[str, str] = ENDINGS["x.mp4"], ratio: int = 1
) -> None:
    """A video whose frame i is shown at times[i]."""
    container = av.open(str(path), "w", format="mov" if path.suffix == ".m4v" else None)
    stream = container.add_stream(kind[0], rate=10)
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = COLUMNS, ROWS, kind[1]
    stream.codec_context.sample_aspect_ratio = Fraction(ratio)
    stream.bit_rate = 4_000_000
    if kind[0] == "libx265":
        stream.options = {"x265-params": "log-level=none:pools=1"}
    if not kind[0].startswith("mpeg4"):
        stream.codec_context.time_base = Fraction(1, 1000)
    for number, time in enumerate(times):
        picture = av.VideoFrame.from_ndarray(shade(number), format="rgb24")
        base = stream.codec_context.time_base or Fraction(1, 10)
        picture.pts, picture.time_base = round(time / base), base
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
    container.close()


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Put a display matrix (a, b, c, d) into an MP4's track header."""
    content = bytearray(path.read_bytes())
    a, b, c, d = (number << 16 for number in matrix)
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def numbers(frames: list[NDArray[np.uint8]]) -> list[int]:
    """Which frames they are, by their brightness."""
    return [round(float(frame[ROWS // 2 :].mean())) - 20 for frame in frames]


@pytest.mark.parametrize("name", ENDINGS)
def test_every_kind_of_video_is_read_with_its_times(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [i / 10 for i in range(6)], ENDINGS[name])
    assert find_footage(tmp_path) == [tmp_path / name]
    shown = list(watch(tmp_path / name))
    assert [seconds for seconds, _ in shown] == pytest.approx([i / 10 for i in range(6)], abs=2e-3)
    assert numbers([frame for _, frame in shown]) == pytest.approx(list(range(6)), abs=2)
    assert shown[0][1][2, 2].min() > 235
    assert shown[0][1][2, -2].max() < 20


def test_of_a_variable_rate_the_nearest_frame_is_taken(tmp_path: Path) -> None:
    times = [i / 30 for i in range(60)] + [2 + i / 5 for i in range(15)]
    path = tmp_path / "screen.mp4"
    write(path, times)
    found = numbers([frame for frame, _ in nearest(open_footage(path), 16.0)])
    assert len(found) == pytest.approx(16 * 5, abs=2)
    for moment, number in enumerate(found):
        best = min(abs(time - moment / 16) for time in times)
        at = [abs(times[n] - moment / 16) for n in (number - 1, number, number + 1) if 0 <= n < 75]
        assert min(at) <= best + 2e-3, (moment, number)  # shades are exact to one


def test_moments_between_two_frames_go_to_the_nearer_one() -> None:
    frame = np.zeros((1, 1, 3), np.uint8)
    footage = [Timed(t, frame + i, (IDLE,)) for i, t in enumerate((0.0, 0.1, 0.2, 1.0))]
    found = [int(x.max()) for x, _ in nearest(iter(footage), 10.0)]
    assert found == [0, 1, *[2] * 5, *[3] * 7]
    assert [int(x.max()) for x, _ in nearest(iter(footage[:1]), 10.0)] == [0]
    assert list(nearest(iter(()), 10.0)) == []
    with pytest.raises(UserError, match=r"stands for 2\.8 hours"):
        list(nearest(iter([footage[0], Timed(1e4, frame, (IDLE,))]), 10.0))


@pytest.mark.parametrize(
    ("matrix", "quarters"), [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2),
                             ((0, -1, 1, 0), 1)],
)  # fmt: skip
def test_a_video_is_turned_as_the_camera_was_held(
    tmp_path: Path, matrix: tuple[int, int, int, int], quarters: int
) -> None:
    """(0, 1, -1, 0) is what a phone writes that is held upright: a quarter to the right."""
    path = tmp_path / "x.mp4"
    write(path, [0.0, 0.1])
    before = next(iter(read_video(path)))
    turn(path, matrix)
    assert np.array_equal(next(iter(read_video(path))), np.rot90(before, quarters))


def test_a_mirrored_video_is_seen_in_the_mirror(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    write(path, [0.0])
    before = next(iter(read_video(path)))
    turn(path, (-1, 0, 0, 1))
    assert np.array_equal(next(iter(read_video(path))), before[:, ::-1])


def test_pixels_that_are_wider_than_high_become_square(tmp_path: Path) -> None:
    for name in ("x.mp4", "x.MKV"):
        write(tmp_path / name, [0.0, 0.1], ratio=2)
        frames = list(read_video(tmp_path / name))
        assert [frame.shape for frame in frames] == [(ROWS, 2 * COLUMNS, 3)] * 2
        assert frames[0][2, COLUMNS // 4].min() > 235  # white still fills a quarter


def test_a_file_that_is_no_video_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    path.write_bytes(b"\x1a\x45\xdf\xa3 and nothing that follows from it")
    with pytest.raises(VideoError, match=r"x\.mkv: not a whole video"):
        list(read_video(path))


@pytest.mark.parametrize("content", [b"GIF89a" + bytes(400), b"G@\x00\x10" * 188, b"ID3\x04" * 9])
def test_another_kind_under_the_name_of_a_video_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"not a video that can be read \(MP4, MOV"):
        list(read_video(path))
    path.write_bytes(bytes(400))  # what a disk gives after a lost power
    assert list(read_video(path)) == []


def test_sound_alone_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="holds sound and no pictures"):
        list(read_video(path))


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.MOV"):
        write(tmp_path / name, [0.0])
    (tmp_path / "b.jsonl").touch()  # a recording, whose video b.mp4 is
    save_episode(tmp_path / "d.safetensors", make_episode())
    for name in ("a.txt", "d.txt", ".DS_Store", "e.wmv", "notes.txt", "f.gif"):
        (tmp_path / name).touch()
    found = find_footage(tmp_path)
    assert [path.name for path in found] == ["a.mp4", "b.jsonl", "c.MOV", "d.safetensors"]
    assert left_out(tmp_path, found).endswith("read here: e.wmv, f.gif, notes.txt")
    for name in ("e.wmv", "f.gif", "notes.txt"):
        (tmp_path / name).unlink()
    assert left_out(tmp_path, found) == ""


@pytest.mark.parametrize("name", ["clip.MP4", "clip.mov"])
def test_a_video_is_a_start_of_every_world(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [i / 30 for i in range(60)])
    own = RunSettings(threads=1, dtype="float32", start=tmp_path / name)
    native = open_world(make_world(tmp_path / "bar"), own)
    assert native.starts[0] == name
    assert native.reset(0, 0).shape == (8, 16, 3)
    wan = open_world(make_wan_world(tmp_path / "wan"), own)
    assert wan.starts[0] == name
    wan.reset(0, 0)


def test_a_folder_that_cannot_be_listed_is_told_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_episode(tmp_path / "a.safetensors", make_episode())
    for name in ("sub", ".hidden"):
        (tmp_path / name).mkdir()
        save_episode(tmp_path / name / "b.safetensors", make_episode())
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name in ("sub", ".hidden"):  # whoever is root may list everything
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for find in (find_footage, find_episodes):
        with pytest.raises(UserError, match="sub: Permission denied; make it readable"):
            find(tmp_path)
