"""A real Chromium for tests: found, started with its sandbox where that can be, or a clear reason.

A sandbox needs an unprivileged user; where tests run as root, the browser runs as nobody.
"""

import contextlib
import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NOBODY = 65534
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


def find_chromium() -> str:
    """Its path; skips the test that asks where there is none."""
    pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser found (looked for {', '.join(NAMES)}): apt-get install chromium")
    return found


@contextlib.contextmanager
def open_browser(folder: Path, **options: Any) -> Iterator[Any]:
    """A browser context of playwright's; `folder` is its own."""
    executable = find_chromium()
    from playwright.sync_api import sync_playwright

    profile, downloads = folder / "profile", folder / "downloads"
    for own in (profile, downloads):
        own.mkdir(parents=True)
    sandbox = True
    if os.name == "posix" and os.geteuid() == 0:
        executable = _as_nobody(folder, executable, profile, downloads)
        sandbox = bool(executable)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            downloads_path=downloads,
            executable_path=executable or find_chromium(),
            chromium_sandbox=sandbox,
            **options,
        )
        try:
            yield context
        finally:
            context.close()


def _as_nobody(folder: Path, executable: str, profile: Path, downloads: Path) -> str:
    """A script that starts the browser as nobody; empty where that cannot be."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ""
    for own in (profile, downloads):
        os.chown(own, NOBODY, NOBODY)
    let_in(folder)
    script = folder / "browser.sh"
    user = f"--reuid={NOBODY} --regid={NOBODY} --clear-groups"
    script.write_text(f'#!/bin/sh\nHOME={profile} exec {setpriv} {user} {executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


def let_in(folder: Path) -> None:
    """Let everybody go through to a folder: pytest's are for the one user alone."""
    for above in (folder, *folder.parents) if os.name == "posix" else ():
        found = above.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & 0o001:
            above.chmod(found.st_mode | 0o011)


class _Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str]  # paths, in the order in which they came
    headers_sent: dict[str, str]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def end_headers(self) -> None:
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        super().end_headers()


@contextlib.contextmanager
def serve(folder: Path, *, isolated: bool) -> Iterator[tuple[str, list[str]]]:
    """A plain web server for a folder: its address and what it was asked for."""
    asked: list[str] = []
    kind = type(
        "Handler", (_Handler,), {"asked": asked, "headers_sent": HEADERS if isolated else {}}
    )
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(kind, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
