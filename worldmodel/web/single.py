"""A page as one HTML file that opens from a disk, where browsers load no modules and no files.

Every file lies in the HTML as base64, and `page/boot.js` hands them to the page in place of
downloads; the page's modules become two scripts. Only the runtime for WebAssembly is part of it:
the one for WebGPU is as large again.
"""

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from worldmodel.storage.files import write_atomically
from worldmodel.web.bundle import bundle

CARRIED = ("world/", "runtime/")
WEBGPU = re.compile(r"^runtime/.*(webgpu|asyncify)")


def write_single(path: Path, files: Mapping[str, bytes]) -> int:
    """Write one HTML file; its size in bytes."""
    content = make_single(files)
    write_atomically(path, content)
    return len(content)


def make_single(files: Mapping[str, bytes]) -> bytes:
    """The HTML: `index.html` with styles, boot script and all other files inside."""
    page = files["index.html"].decode()
    style = files["page/page.css"].decode()
    boot = files["page/boot.js"].decode()
    inside = {p: c for p, c in files.items() if p.startswith(CARRIED) and not WEBGPU.match(p)}
    carried = "\n".join(
        f'<script type="text/plain" data-file="{name}">'
        f"{base64.b64encode(content).decode()}</script>"
        for name, content in sorted({**inside, **_scripts(files)}.items())
    )
    page = re.sub(r"\s*<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    page = _put(page, '<link rel="stylesheet" href="page/page.css">', f"<style>\n{style}</style>")
    script = f"{carried}\n<script>\n{boot}</script>"
    page = _put(page, '<script src="page/boot.js"></script>', script)
    return _put(page, "</html>", f"</html>\n<!--\n{_licences(files)}\n-->").encode()


def _scripts(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The page as one module and its worker as one classic script."""
    modules = {
        path.removeprefix("page/"): content.decode()
        for path, content in files.items()
        if path.startswith("page/") and path.endswith(".js") and path != "page/boot.js"
    }
    return {
        "page/main.js": bundle(modules, "main.js", keep_exports=True).encode(),
        "page/worker.js": bundle(modules, "worker.js", keep_exports=False).encode(),
    }


def _licences(files: Mapping[str, bytes]) -> str:
    """As a comment's text."""
    told = "\n\n".join(
        f"{name}\n{content.decode(errors='replace')}"
        for name, content in sorted(files.items())
        if name.startswith("licences/")
    )
    return told.replace("--", "- -")


def _put(page: str, place: str, content: str) -> str:
    """Replace what must be there once."""
    before, found, after = page.partition(place)
    assert found, f"index.html holds no {place}"
    return before + content + after
