"""Pages that people and programs write together: what is measured stands between two marks."""

from collections.abc import Sequence
from pathlib import Path

from worldmodel.config import ConfigError
from worldmodel.storage.files import FileReadError, read_text, write_atomically

LARGEST = 4 << 20  # bytes of a page


def write_between(page: Path, title: str, begin: str, end: str, measured: str) -> None:
    """Put text between the marks; a page that is not there yet is begun with `title`.

    A page without them is an error (`ConfigError`) that shows them: where they belong, only the
    people who wrote the rest know.
    """
    blank = f"# {title}\n\n{begin}\n{end}\n"
    try:
        old = read_text(page, LARGEST) if page.is_file() else blank
    except FileReadError as error:
        raise ConfigError(str(error)) from error
    before, found, rest = old.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ConfigError(f"{page}: the two marks are not in it; put these back: {begin} {end}")
    write_atomically(page, f"{before}{begin}\n\n{measured}\n\n{end}{after}".encode())


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(cells) + " |" for cells in rows)]
