"""Studies stand in a checkout, not in the installed package: they are found here, or missed."""

import importlib.util
import sys
from pathlib import Path

import worldmodel
from worldmodel.config import UserError


def find_studies() -> None:
    """Make `import studies` work in a checkout; elsewhere a `UserError` says where to get them."""
    checkout = Path(worldmodel.__file__).resolve().parents[1]
    if (checkout / "studies" / "__init__.py").is_file() and str(checkout) not in sys.path:
        sys.path.append(str(checkout))
    try:
        is_here = importlib.util.find_spec("studies.distillation") is not None
    except ModuleNotFoundError:  # of the package `studies` itself
        is_here = False
    if not is_here:
        raise UserError(
            "this command is a study that is not part of the installed package: clone the "
            "repository and run it there"
        )
