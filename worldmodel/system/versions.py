"""What the frames may depend on besides the world."""

import hashlib
import importlib.metadata
import platform
from functools import cache
from pathlib import Path

VERSIONED = ("worldmodel", "torch", "numpy", "av")


@cache
def installed_versions() -> dict[str, str]:
    """Versions by name, of Python and the libraries."""
    return {"python": platform.python_version(), **{name: _version(name) for name in VERSIONED}}


@cache
def code_version() -> str:
    """Changes with every line of the package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"
