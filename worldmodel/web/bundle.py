"""Several of the page's modules as one script.

A page that is opened from a disk may not start a worker from a module, nor may a module there
import another; one script it may. This is no bundler for everybody's JavaScript: it knows what the
page's own modules do (`import { a, b } from "./c.js";`, `export function|class|const`), and
refuses the rest.
"""

import re
from collections.abc import Mapping

from worldmodel.config import UserError

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.-]+)";$', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?function|class|const) (\w+)", re.MULTILINE)
OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


class BundleError(UserError):
    """A module of the page imports or exports in a way that is not known here."""


def bundle(modules: Mapping[str, str], entry: str, *, keep_exports: bool) -> str:
    """The module `entry` and all that it imports, each once; the entry's exports if wanted."""
    done: dict[str, str] = {}
    body = _with_imports(modules, entry, done, keep_exports=keep_exports)
    return "\n".join([*done.values(), body])


def _with_imports(
    modules: Mapping[str, str], name: str, done: dict[str, str], *, keep_exports: bool
) -> str:
    source = modules[name]
    for _, inner in IMPORT.findall(source):
        if inner not in modules:
            raise BundleError(f"{name} imports {inner}, which is not there")
        if inner not in done:
            done[inner] = _as_value(modules, inner, done)
    source = IMPORT.sub(lambda found: f"const {{{found[1]}}} = {_variable(found[2])};", source)
    rest = EXPORT.sub("", source)
    if wrong := OTHER.search(rest):
        raise BundleError(f"{name}: {wrong[0]!r} cannot be put into one script")
    return source if keep_exports else EXPORT.sub(r"\1 \2", source)


def _as_value(modules: Mapping[str, str], name: str, done: dict[str, str]) -> str:
    """A module as an object of its exports; its other names stay its own."""
    exports = ", ".join(found[2] for found in EXPORT.finditer(modules[name]))
    body = _with_imports(modules, name, done, keep_exports=False)
    return f"const {_variable(name)} = (() => {{\n{body}\nreturn {{ {exports} }};\n}})();"


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name.removesuffix(".js"))
