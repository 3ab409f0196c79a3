"""Where a person's own files belong on each system: what is kept, and what was set."""

import os
import sys
from pathlib import Path


def data_folder() -> Path:
    """What is kept for the user: saved moments. `WORLDMODEL_DATA` overrules the system."""
    return _folder("WORLDMODEL_DATA", ("LOCALAPPDATA", "Local"), ("XDG_DATA_HOME", ".local/share"))


def config_folder() -> Path:
    """Settings and controls. `WORLDMODEL_CONFIG` overrules the system."""
    return _folder("WORLDMODEL_CONFIG", ("APPDATA", "Roaming"), ("XDG_CONFIG_HOME", ".config"))


def _folder(own: str, windows: tuple[str, str], linux: tuple[str, str]) -> Path:
    """A variable of our own, else the system's variable, else the system's usual place."""
    if chosen := os.environ.get(own):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get(windows[0], Path.home() / "AppData" / windows[1]))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get(linux[0]) or Path.home() / linux[1])
    return base / "worldmodel"
