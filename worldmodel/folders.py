"""Where a person's own files belong on each system: what is kept, and what was set."""

import os
import sys
from pathlib import Path


def data_folder() -> Path:
    """What is kept for the user: saved moments. `WORLDMODEL_DATA` overrules the system."""
    if chosen := os.environ.get("WORLDMODEL_DATA"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "worldmodel"


def config_folder() -> Path:
    """Settings and controls. `WORLDMODEL_CONFIG` overrules the system."""
    if chosen := os.environ.get("WORLDMODEL_CONFIG"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "worldmodel"
