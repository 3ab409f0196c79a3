"""What is written is whole or not there, whoever else writes."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from worldmodel.storage.files import (
    FileWriteError,
    _tell_of_no_sync,
    check_writable,
    plain,
    with_a_name,
    write_atomically,
)


def test_two_that_write_at_once_never_leave_half_a_file(tmp_path: Path) -> None:
    path, contents = tmp_path / "settings.toml", [bytes([65 + i]) * 200_000 for i in range(4)]

    def write(content: bytes) -> None:
        for _ in range(15):
            write_atomically(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert path.read_bytes() in contents
    for thread in threads:
        thread.join()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_of_one_leaves_what_another_is_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "moment.safetensors"
    real, calls = os.fsync, []

    def first_fails(file: int) -> None:
        calls.append(file)
        if len(calls) == 1:
            write_atomically(path, b"of the other")  # in the middle of the first one
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", first_fails)
    with pytest.raises(FileWriteError, match="No space left"):
        write_atomically(path, b"of the first")
    assert path.read_bytes() == b"of the other"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_what_is_being_written_leads_nowhere(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"mine")
    world = tmp_path / "world"
    world.mkdir()
    (world / ".world.toml.part").symlink_to(mine)
    write_atomically(world / "world.toml", b"new")
    assert mine.read_bytes() == b"mine"
    assert (world / "world.toml").read_bytes() == b"new"


def test_what_a_kill_left_long_ago_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "speeds[1].json"
    old, fresh = (tmp_path / f".{path.name}.{name}.part" for name in ("0a0a0a0a", "0b0b0b0b"))
    for part in (old, fresh):
        part.write_bytes(b"half")
    os.utime(old, (1.0, 1.0))
    write_atomically(path, b"{}")
    assert sorted(tmp_path.iterdir()) == sorted([path, fresh])


@pytest.mark.parametrize("name", ["\U0002000b" * 300, "é" * 300, "a" * 300, "..", "", "/"])
def test_any_name_becomes_one_that_a_disk_takes(tmp_path: Path, name: str) -> None:
    folder = tmp_path / plain(name)
    write_atomically(folder / f"{plain(name)}_20261121-065810_frame12_002.safetensors", b"x")
    assert folder.parent == tmp_path
    assert folder.resolve() != tmp_path


def test_whatever_breaks_what_is_written_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, pieces())
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_fsync_is_told_of_once_and_written_to(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    _tell_of_no_sync.cache_clear()
    for name in ("one", "two"):
        write_atomically(tmp_path / name, b"content")
        assert (tmp_path / name).read_bytes() == b"content"
    assert capsys.readouterr().err.count("does not say when a file is on the disk") == 1


def test_a_disk_that_breaks_while_it_is_asked_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(FileWriteError, match="Input/output error"):
        write_atomically(tmp_path / "one", b"content")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_writable(Path("new/page"))
    check_writable(Path("."))  # noqa: PTH201  # as a person gives it
    assert [path.name for path in tmp_path.rglob("*")] == ["new"]
    with pytest.raises(FileWriteError, match="too long"):
        check_writable(Path("n" * 300))
    (tmp_path / "file").touch()
    with pytest.raises(FileWriteError, match="cannot be written"):
        check_writable(tmp_path / "file" / "page")
    with pytest.raises(FileWriteError, match="root of a disk"):
        with_a_name(Path("/"))
