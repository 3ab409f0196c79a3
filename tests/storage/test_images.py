"""Pictures of other programs: turned, transparent, of any shape, with more behind their end."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worldmodel.storage.images import PictureError, centre, fit, read_picture

Picture = NDArray[np.uint8]


def drawing(rows: int = 48, columns: int = 64) -> Picture:
    """Red grows to the right, green downwards, so that every turn is told from every other."""
    picture = np.zeros((rows, columns, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 250, columns)
    picture[..., 1] = np.linspace(0, 250, rows)[:, None]
    return picture


def encoded(ending: str, picture: Picture) -> bytes:
    """RGB or RGBA; WebP and PNG without loss."""
    channels = [2, 1, 0, 3][: picture.shape[2]]
    options = [cv2.IMWRITE_JPEG_QUALITY, 100] if ending == ".jpg" else []
    options = [cv2.IMWRITE_WEBP_QUALITY, 101] if ending == ".webp" else options
    return bytes(cv2.imencode(ending, np.ascontiguousarray(picture[..., channels]), options)[1])


def tiff(orientation: int, order: str) -> bytes:
    mark = b"MM" if order == ">" else b"II"
    entries = struct.pack(f"{order}HHHII", 2, 0x0100, 4, 1, 64)
    entries += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(f"{order}HI", 42, 8) + entries + bytes(4)


def with_exif(ending: str, content: bytes, inside: bytes) -> bytes:
    if ending == ".png":
        chunk = b"eXIf" + inside
        packed = struct.pack(">I", len(inside)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return content[:33] + packed + content[33:]
    if ending == ".jpg":
        segment = b"Exif\0\0" + inside
        return (
            content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]
        )
    rows, columns = drawing().shape[:2]
    sizes = (columns - 1).to_bytes(3, "little") + (rows - 1).to_bytes(3, "little")
    parts = b"VP8X" + struct.pack("<IB3x", 10, 8) + sizes + content[12:]
    parts += b"EXIF" + struct.pack("<I", len(inside)) + inside
    return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WEBP" + parts


SEEN: dict[int, Callable[[Picture], Picture]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
    9: lambda x: x,
}


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("orientation", SEEN)
def test_a_picture_is_turned_as_the_camera_was_held(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    order = "<" if orientation % 2 else ">"
    content = with_exif(ending, encoded(ending, drawing()), tiff(orientation, order))
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    expected = SEEN[orientation](drawing())
    found = read_picture(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (12 if ending == ".jpg" else 0)


def test_broken_exif_turns_nothing(tmp_path: Path) -> None:
    whole, path = tiff(6, ">"), tmp_path / "x.png"
    turned = SEEN[6](drawing())
    for cut in range(len(whole) - 1):
        path.write_bytes(with_exif(".png", encoded(".png", drawing()), whole[:cut]))
        found = read_picture(path)
        assert np.array_equal(found, drawing()) or np.array_equal(found, turned)
    path.write_bytes(with_exif(".png", encoded(".png", drawing()), whole[:12]))
    assert np.array_equal(read_picture(path), drawing())


@pytest.mark.parametrize("ending", [".png", ".webp"])
def test_hidden_colours_stay_hidden(tmp_path: Path, ending: str) -> None:
    """Behind what is transparent is black; half transparent is half as bright."""
    picture = np.full((4, 6, 4), 255, np.uint8)
    picture[:, 2:4, 3], picture[:, 4:, 3] = 128, 0
    picture[:, 4:, :3] = 0, 255, 0
    content = encoded(ending, picture)
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    found = read_picture(path)
    assert found[0, :, 0].tolist() == [255, 255, 128, 128, 0, 0]
    assert not found[:, 4:].any()


@pytest.mark.parametrize(
    ("depth", "row", "unseen", "expected"),
    [
        (1, b"\x60", 1, [0, 0, 0, 0]),
        (2, b"\x1b", 2, [0, 85, 0, 255]),
        (4, b"\x09\x9f", 9, [0, 0, 0, 255]),
        (8, b"\x07\x08\x09\xff", 255, [7, 8, 9, 0]),
        (16, b"\x07\x00\x08\x00\x09\x00\xff\x00", 0x0800, [7, 0, 9, 255]),
    ],
)
def test_the_grey_that_a_picture_calls_transparent_is_black(
    tmp_path: Path, depth: int, row: bytes, unseen: int, expected: list[int]
) -> None:
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 4, 1, depth, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", unseen)),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    )
    content = b"\x89PNG\r\n\x1a\n"
    for kind, inside in parts:
        content += struct.pack(">I", len(inside)) + kind + inside
        content += struct.pack(">I", zlib.crc32(kind + inside))
    path = tmp_path / "x.png"
    path.write_bytes(content)
    assert read_picture(path)[0].tolist() == [[value] * 3 for value in expected]


def test_grey_deep_and_indexed_pictures_are_colours(tmp_path: Path) -> None:
    grey = drawing()[..., 0]
    deep: tuple[NDArray[np.uint8] | NDArray[np.uint16], ...] = grey, grey.astype(np.uint16) * 257
    for number, picture in enumerate(deep):
        path = tmp_path / f"{number}.png"
        path.write_bytes(bytes(cv2.imencode(".png", picture)[1]))
        assert np.array_equal(read_picture(path), grey[..., None].repeat(3, axis=2))
    path = tmp_path / "x.bmp"  # 32 bits a pixel, zeros where others have alpha
    path.write_bytes(bytes(cv2.imencode(".bmp", np.full((4, 4, 4), (9, 8, 7, 0), np.uint8))[1]))
    assert read_picture(path)[0, 0].tolist() == [7, 8, 9]


@pytest.mark.parametrize("behind", [b"\0", b"notes" * 500, encoded(".png", drawing(8, 8))])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".bmp"])
def test_what_lies_behind_a_pictures_end_is_not_looked_at(
    tmp_path: Path, ending: str, behind: bytes
) -> None:
    path = tmp_path / f"x{ending}"
    path.write_bytes(encoded(ending, drawing()))
    expected = read_picture(path)
    path.write_bytes(encoded(ending, drawing()) + behind)
    assert np.array_equal(read_picture(path), expected)


def test_a_picture_that_breaks_off_is_still_refused(tmp_path: Path) -> None:
    whole, path = encoded(".png", drawing()), tmp_path / "x.png"
    for cut in (1, 8, 12, 40):
        path.write_bytes(whole[:-cut])
        with pytest.raises(PictureError, match=r"x\.png: not an image"):
            read_picture(path)


def test_a_picture_of_another_shape_is_cut_and_never_squashed() -> None:
    tall = np.zeros((90, 30, 3), np.uint8)
    tall[30:60] = 200
    assert centre(tall, 10, 10).shape == (30, 30, 3)
    assert (fit(tall, 10, 10) == 200).all()
    assert (fit(tall.swapaxes(0, 1), 10, 10) == 200).all()
    assert fit(tall, 10, 20).shape == (10, 20, 3)
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    means = noise.reshape(10, 2, 10, 2, 3).mean(axis=(1, 3))
    assert np.abs(fit(noise, 10, 10) - means).max() <= 0.5
    assert np.array_equal(fit(noise, 20, 20), noise)
    assert np.array_equal(fit(noise, 20, 10), noise[:, 5:15])
    assert fit(noise, 40, 60).shape == (40, 60, 3)


def test_a_broken_picture_is_told_by_nobody_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.bmp"  # OpenCV has lines of its own for those
    path.write_bytes(encoded(".bmp", drawing())[:3000])
    with pytest.raises(PictureError, match="not a whole image"):
        read_picture(path)
    assert capfd.readouterr().err == ""
