"""What the frames may depend on besides the world."""

import importlib.metadata
import platform
from functools import cache

VERSIONED = ("worldmodel", "torch", "numpy", "av")


@cache
def installed_versions() -> dict[str, str]:
    """Versions by name, of Python and the libraries."""
    return {"python": platform.python_version(), **{name: _version(name) for name in VERSIONED}}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"
