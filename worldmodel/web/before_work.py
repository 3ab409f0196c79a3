"""What is looked at before minutes of work: where a page is to be, and the licences it brings."""

from pathlib import Path

from worldmodel.config import UserError
from worldmodel.storage.files import check_inside, check_writable, is_file, read_text
from worldmodel.system.limits import LARGEST_NOTICE


def read_notice(folder: Path) -> bytes:
    """The world's licences, which become part of the page; empty where it brings none."""
    path = folder / "NOTICE"
    if not is_file(path):
        return b""
    check_inside(path, folder)
    return read_text(path, LARGEST_NOTICE).encode()


def check_target(path: Path, *, single: bool) -> None:
    """Refuse before the work what could not be written after it, or holds other files."""
    if single:
        if path.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"--to {path}: with --single it is a file that ends in .html")
        if path.is_dir():
            raise UserError(f"--to {path}: is a folder; with --single give a file")
        check_writable(path)
        return
    if path.exists() and not path.is_dir():
        raise UserError(f"--to {path}: is a file; give a folder, or --single with a .html file")
    if path.is_dir() and any(path.iterdir()) and not (path / "world" / "world.json").is_file():
        raise UserError(f"--to {path}: holds other files; give an empty or a new folder")
    check_writable(path)
