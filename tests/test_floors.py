"""The package is a house of floors: imports go down, never up, and no circle joins two files."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "worldmodel"

SMALL = {"system", "config", "action", "state_spec", "schedule", "metrics", "random_streams"}
DISK = {*SMALL, "storage", "world", "players", "font", "reference"}
NETS = {*SMALL, "storage", "world", "model", "rollout"}
WORLDS = {*DISK, *NETS, "engine", "wan", "worlds"}
# What each part may import from the rest of the package. Absent from a list means forbidden.
ALLOWED: dict[str, set[str]] = {
    "system": set(),
    "config": {"system"},
    "action": {"system", "config"},
    "state_spec": {"system", "config"},
    "schedule": set(),
    "metrics": set(),
    "random_streams": set(),
    "font": set(),
    "world": {"config", "action", "state_spec"},
    "storage": {*SMALL, "world"},
    "players": {*SMALL, "storage"},
    "reference": {*SMALL, "storage", "world", "font"},
    "model": {"system", "config", "schedule", "state_spec"},
    "rollout": {*SMALL, "model"},
    "engine": NETS,
    "wan": NETS,
    "worlds": WORLDS,
    "data_sources": DISK,
    "datacheck": DISK,
    "game": {*DISK, "worlds"},
    "gym_env": {*DISK, "worlds", "engine", "game"},
    "web": WORLDS,
    "serve": WORLDS,
    "training": WORLDS,
    "selftest": {*WORLDS, "game", "serve"},
    "evaluation": {*WORLDS, "data_sources", "training"},
    "recipe": {*WORLDS, "data_sources", "training", "evaluation", "datacheck"},
    "commands": {
        "system",
        "config",
        "reference",
        "world",
        "worlds",
        "data_sources",
        "datacheck",
        "game",
        "training",
        "recipe",
        "evaluation",
        "selftest",
        "web",
        "serve",
    },
    "__main__": {"system", "config", "commands"},
}
MOST_MODULES = 10  # beside the packages


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in PACKAGE.rglob("*.py")}


def imported_by(path: Path) -> set[str]:
    """The package's files that a file imports, lazily or for types alone too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    found = names & FILES.keys()
    # `from package import module` imports the module, and of the package only what it is made of
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def _part(name: str) -> str:
    return [*name.split("."), ""][1]


def test_every_import_goes_down() -> None:
    for name, path in FILES.items():
        part = _part(name)
        parts = {_part(other) for other in imported_by(path)} - {part, ""}
        up = parts - ALLOWED[part] if part else parts
        assert not up, f"{path.relative_to(ROOT)} may not import {sorted(up)}"


def test_no_circle_joins_files() -> None:
    imports = {name: imported_by(path) - {name} for name, path in FILES.items()}
    while imports:
        leaves = [name for name, others in imports.items() if not others & imports.keys()]
        assert leaves, f"imports go in a circle among {sorted(imports)}"
        for name in leaves:
            del imports[name]


def test_each_package_says_what_it_may_import_and_where_to_begin() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert "import" in said, path
        assert "Begin " in said or "begin with" in said.lower(), path


def test_few_modules_stand_beside_the_packages() -> None:
    modules = [path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]
    assert len(modules) <= MOST_MODULES, sorted(modules)


def test_only_commands_know_of_the_studies() -> None:
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("studies"):
                assert _part(name) == "commands", f"{name} imports {node.module}"


def test_the_model_loads_neither_window_nor_pictures() -> None:
    code = (
        "import sys, worldmodel.model.transformer, worldmodel.rollout; "
        "print([m for m in ('pygame', 'cv2', 'av', 'vizdoom') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
