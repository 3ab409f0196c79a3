"""A page as one HTML file that opens from a disk, where browsers load no modules and no files.

Every file lies in the HTML as base64, and `page/boot.js` hands them to the page in place of
downloads. Only the runtime for WebAssembly is part of it: the one for WebGPU is as large again.
"""

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from worldmodel.files import write_atomically

LEFT_OUT = ("licences/", "index.html", "page/page.css", "page/boot.js", "page/isolate.js")
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
    boot = files["page/boot.js"].decode().replace("</script", "<\\/script")
    carried = "\n".join(
        f'<script type="text/plain" data-file="{name}">'
        f"{base64.b64encode(content).decode()}</script>"
        for name, content in sorted(files.items())
        if not name.startswith(LEFT_OUT) and not WEBGPU.match(name)
    )
    licences = "\n".join(
        f"{name}\n{content.decode(errors='replace')}"
        for name, content in sorted(files.items())
        if name.startswith("licences/") and "ThirdParty" not in name
    ).replace("--", "- -")
    page = re.sub(r"\s*<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    page = page.replace('<link rel="stylesheet" href="page/page.css">', f"<style>\n{style}</style>")
    page = page.replace(
        '<script src="page/boot.js"></script>', f"{carried}\n<script>\n{boot}</script>"
    )
    return page.replace("</html>", f"</html>\n<!--\n{licences}\n-->").encode()
