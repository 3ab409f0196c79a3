"""What a person set for every game they play here, and how that lasts.

    preferences = Preferences.read()                     # settings.toml, controls.toml
    preferences.overrule(numbers=False)                  # the command line, for this time only
    preferences.set(font=1.5)                            # the menu: now, and on disk

Files are read strictly and written whole or not at all. They are only written where something was
changed, so that a file written by hand stays as it is.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from worldmodel.config import ConfigError, UserError, load_config, to_toml
from worldmodel.game.controls import Controls, load_controls
from worldmodel.storage.files import write_atomically
from worldmodel.storage.user_dirs import config_folder

Scaling = Literal["fit", "integer"]
Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]

SETTINGS_FILE, CONTROLS_FILE = "settings.toml", "controls.toml"
SMALLEST_FONT, LARGEST_FONT = 0.75, 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplaySettings:
    """How the game around a world looks."""

    scaling: Scaling = "fit"  # as large as fits, or by a whole number: every pixel the same size
    filter: Filter = "bicubic"  # from the world's pixels to those of the window
    fullscreen: bool = False
    font: float = 1.0  # size of everything written, 1 is usual
    numbers: bool = False  # frame rate, latency and pressed keys
    start_screen: bool = True  # where the command line does not say what to play

    def __post_init__(self) -> None:
        if not SMALLEST_FONT <= self.font <= LARGEST_FONT:
            raise ConfigError(f"font = {self.font}: from {SMALLEST_FONT} to {LARGEST_FONT}")


Config = TypeVar("Config", DisplaySettings, Controls)


class Preferences:
    """What holds now, and what is kept: the command line overrules without being kept."""

    def __init__(
        self,
        settings: DisplaySettings | None = None,
        controls: Controls | None = None,
        folder: Path | None = None,
        *,
        keeps_controls: bool = True,
    ) -> None:
        self.settings = self._kept = settings or DisplaySettings()
        self.controls = controls or Controls()
        self._own_settings, self._own_controls = self.settings, self.controls  # as last kept
        self.folder = folder  # None: nothing is kept
        self.keeps_controls = keeps_controls  # not where --controls named another file

    @classmethod
    def read(cls, controls: Path | None = None, folder: Path | None = None) -> "Preferences":
        """From the user's files; a `ConfigError` names the file and what is wrong with it."""
        folder = folder or config_folder()
        try:
            settings_path, controls_path = folder / SETTINGS_FILE, folder / CONTROLS_FILE
            settings = (
                load_config(DisplaySettings, settings_path) if _exists(settings_path) else None
            )
            if controls:
                return cls(settings, load_controls(controls), folder, keeps_controls=False)
            own = load_controls(controls_path) if _exists(controls_path) else None
            return cls(settings, own, folder)
        except ConfigError as error:
            raise ConfigError(f"{error}; correct the file or remove it") from error

    def overrule(self, **changes: Any) -> None:
        """Change a setting for this session only; nothing is written."""
        self.settings = replace(self.settings, **changes)

    def set(self, **changes: Any) -> str:
        """From now on; the answer says why it is not on disk, or nothing."""
        self.settings = replace(self.settings, **changes)
        self._kept = replace(self._kept, **changes)
        problem, self._own_settings = self._keep(SETTINGS_FILE, self._own_settings, self._kept)
        return problem

    def set_controls(self, controls: Controls) -> str:
        """From now on; the answer says why it is not on disk, or nothing."""
        self.controls = controls
        if not self.keeps_controls:
            return "--controls is in force: this lasts until the game ends"
        problem, self._own_controls = self._keep(CONTROLS_FILE, self._own_controls, controls)
        return problem

    def _keep(self, name: str, before: Config, after: Config) -> tuple[str, Config]:
        """Only what changed goes into the file: another game may have changed other things.

        Returns why it could not be kept, and what the next change is compared with.
        """
        if self.folder is None:
            return "", after
        try:
            path = (self.folder / name).resolve()  # a link stays one
            if _exists(path):
                there = _read(type(after), path)
                own = {f.name: getattr(after, f.name) for f in fields(after)}
                changed = {k: v for k, v in own.items() if v != getattr(before, k)}
                whole = replace(there, **changed)
            else:
                whole = after
            write_atomically(path, to_toml(whole).encode())
        except (UserError, OSError, RuntimeError) as error:  # the last ones: links in a circle
            return f"not kept: {error}", before
        return "", after


def _read(kind: type[Config], path: Path) -> Config:
    if issubclass(kind, Controls):
        return load_controls(path)
    return load_config(kind, path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
