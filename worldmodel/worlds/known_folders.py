"""Where worlds lie that were played on this machine, so that what was made in them is found again.

Recordings and moments are shared, so they name a world and its weights, never where it lies; that
is remembered here, in the user's own data folder. A file that cannot be read or written only means
that nothing is remembered.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from worldmodel.config import UserError
from worldmodel.storage.files import read_text, write_atomically
from worldmodel.storage.user_dirs import data_folder

LARGEST = 1 << 20  # bytes
MOST = 100  # folders; the oldest goes


def remember_folder(folder: Path) -> None:
    """Keep where a world lies, the newest first: its folder, or a released file as it is."""
    here = str(folder.resolve())
    folders = [here, *(str(known) for known in known_folders() if str(known) != here)][:MOST]
    with contextlib.suppress(UserError):
        write_atomically(data_folder() / "worlds.json", json.dumps(folders).encode())


def known_folders() -> list[Path]:
    """The newest first; some may be gone."""
    try:
        folders: Any = json.loads(read_text(data_folder() / "worlds.json", LARGEST))
    except (UserError, ValueError, RecursionError):
        return []
    return (
        [Path(name) for name in folders if isinstance(name, str)] if type(folders) is list else []
    )
