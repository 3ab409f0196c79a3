"""Where a person's own files belong on each system, as `platformdirs` knows it."""

import os
from pathlib import Path

from platformdirs import PlatformDirs

from worldmodel.config import UserError
from worldmodel.system.paths import to_path

# Roaming: on Windows, settings follow a person from machine to machine; what is kept does not.
_SETTINGS = PlatformDirs("worldmodel", appauthor=False, roaming=True)
_KEPT = PlatformDirs("worldmodel", appauthor=False, opinion=False)


def data_folder() -> Path:
    """What is kept for the user: saved moments. `WORLDMODEL_DATA` overrules the system."""
    return _folder("WORLDMODEL_DATA", _KEPT, "user_data_path")


def config_folder() -> Path:
    """Settings and controls. `WORLDMODEL_CONFIG` overrules the system."""
    return _folder("WORLDMODEL_CONFIG", _SETTINGS, "user_config_path")


def cache_folder() -> Path | None:
    """What can be made again; None where nothing can be kept. `WORLDMODEL_CACHE` overrules."""
    try:
        return _folder("WORLDMODEL_CACHE", _KEPT, "user_cache_path")
    except UserError:
        return None


def _folder(own: str, system: PlatformDirs, kind: str) -> Path:
    if chosen := os.environ.get(own):
        return to_path(chosen)
    message = f"no home folder is known here: set HOME, or {own} to a folder"
    try:
        folder = Path(getattr(system, kind))
    except RuntimeError as error:
        raise UserError(message) from error
    if folder.parts[0] == "~":  # what older versions answer: a folder of that name, right here
        raise UserError(message)
    return folder
