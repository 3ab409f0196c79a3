"""The package is a house of floors: imports go sideways or down, never up."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "worldmodel"

BASE = {
    "config", "action", "schedule", "files", "metrics",
    "folders", "history", "versions", "keycodes", "streams", "console", "signals", "text",
    "limits", "printable", "progress", "tensor_files", "state_spec", "paths", "strangers",
}  # fmt: skip
STORE = {
    *BASE, "episodes", "recording", "recording_lines", "players", "video", "moments",
    "autosave", "pictures", "real", "ways", "beside", "letters", "footage",
}  # fmt: skip
MODEL = {*BASE, "model", "rollout", "checkpoint"}
# What each part may import from the rest of the package. Absent from a list means forbidden.
ALLOWED: dict[str, set[str]] = {
    "text": set(),
    "limits": set(),
    "strangers": set(),
    "paths": set(),
    "printable": {"limits"},
    "progress": {"printable"},
    "config": {"limits", "paths", "printable", "strangers", "text"},
    "action": {"config", "limits"},
    "files": {"config", "limits", "strangers", "text"},
    "tensor_files": {"files", "limits"},
    "state_spec": {"config", "limits"},
    "keycodes": set(),
    "streams": set(),
    "schedule": set(),
    "metrics": set(),
    "folders": {"config", "paths"},
    "versions": set(),
    "console": set(),
    "signals": set(),
    "history": {"config", "action", "limits"},
    "moments": {*BASE, "world", "autosave"},
    "autosave": {"config"},
    "episodes": {*BASE, "recording"},
    "recording_lines": BASE,
    "recording": {*BASE, "recording_lines", "episodes", "video", "world", "moments"},
    "containers": set(),
    "video": {"config", "containers", "files", "limits", "world"},
    "footage": {"action", "config", "episodes", "paths", "video"},
    "real": {"action", "config", "world"},
    "ways": {"config", "episodes", "files", "limits", "printable", "real"},
    "letters": set(),
    "beside": {"config", "letters", "real", "video", "world"},
    "players": {"config", "action", "files", "limits", "recording"},
    "exif": set(),
    "pictures": {"config", "exif", "files", "limits"},
    "pages": {"config", "files"},
    "model": {"config", "schedule", "state_spec"},
    "rollout": {*BASE, "model"},
    "checkpoint": BASE,
    "world": BASE,
    "engine": {*MODEL, "world"},
    "wan": {*MODEL},
    "worlds": {*MODEL, *STORE, "world", "engine", "wan"},
    "datacheck": STORE,
    "games": {*STORE, "world"},
    "game": {*STORE, "world", "worlds"},
    "selftest": {*MODEL, *STORE, "world", "worlds", "engine", "game", "wan"},
    "env": {*BASE, "world", "worlds", "engine", "game"},
    "web": {*MODEL, "world", "worlds", "engine"},
    "serve": {*BASE, "world", "worlds"},
    "training": {*MODEL, *STORE, "worlds", "wan"},
    "evaluation": {
        *MODEL,
        *STORE,
        "pages",
        "world",
        "worlds",
        "games",
        "training",
        "engine",
        "wan",
    },
    "recipe": {*MODEL, *STORE, "pages", "worlds", "games", "training", "evaluation", "datacheck"},
    "jobs": {
        "config",
        "printable",
        "progress",
        "paths",
        "games",
        "training",
        "recipe",
        "evaluation",
        "worlds",
        "game",
        "datacheck",
        "selftest",
        "web",
        "serve",
    },
    "__main__": {"config", "jobs", "console", "signals"},
}


def parts_imported_by(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("worldmodel.")}


def test_every_import_goes_down() -> None:
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        up = parts_imported_by(path) - ALLOWED[part] - {part}
        assert not up, f"{path.relative_to(PACKAGE.parent)} may not import {sorted(up)}"


def test_the_model_loads_neither_window_nor_pictures() -> None:
    code = (
        "import sys, worldmodel.model.transformer, worldmodel.rollout; "
        "print([m for m in ('pygame', 'cv2', 'av', 'vizdoom') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
