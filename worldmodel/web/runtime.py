"""onnxruntime-web, from npm or from a file: checked against known hashes, kept for the next time.

    files = fetch_runtime()                   # name -> content
    files = read_runtime(Path("dist"))        # offline: a folder with the files, or npm's tarball

Nothing is loaded from a CDN when a page is played: these files become part of it.
"""

import base64
import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

from worldmodel.config import UserError
from worldmodel.storage.files import FileReadError, read_file, write_atomically
from worldmodel.storage.user_dirs import cache_folder
from worldmodel.system.limits import MB

VERSION = "1.30.0"
NAME = f"onnxruntime-web-{VERSION}"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/{NAME}.tgz"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
LARGEST_TARBALL = 64 * MB
SECONDS = 60.0  # without an answer

WASM = {  # runs everywhere
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": (
        "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
WEBGPU = {  # where the browser offers a GPU
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    "ort-wasm-simd-threaded.asyncify.mjs": (
        "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28"
    ),
    "ort-wasm-simd-threaded.asyncify.wasm": (
        "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da"
    ),
}
SHA256 = {**WASM, **WEBGPU}


class RuntimeFilesError(UserError):
    """onnxruntime-web could not be fetched, or is not the version that is expected."""


def fetch_runtime() -> dict[str, bytes]:
    """The runtime's files from the user's cache folder, else from npm."""
    cache = cache_folder()
    folder = cache / NAME if cache else None
    if folder is not None:
        try:
            return _from_folder(folder)
        except UserError:
            pass  # not there yet, or damaged: once more
    files = _from_tarball(_download(), ADDRESS)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                write_atomically(folder / name, content)
        except (OSError, UserError):
            pass  # where nothing can be kept it is fetched again next time
    return files


def read_runtime(path: Path) -> dict[str, bytes]:
    """The runtime's files from a folder (npm's `dist`) or from npm's tarball."""
    if path.is_dir():
        inner = path / "dist"
        return _from_folder(inner if inner.is_dir() else path)
    return _from_tarball(read_file(path, LARGEST_TARBALL), str(path))


def read_notices() -> dict[str, bytes]:
    """The licence of ONNX Runtime and those of what it is built from, as its wheel has them."""
    folder = metadata.distribution("onnxruntime").locate_file("onnxruntime")
    return {
        "onnxruntime-LICENSE.txt": Path(str(folder), "LICENSE").read_bytes(),
        "onnxruntime-ThirdPartyNotices.txt": Path(
            str(folder), "ThirdPartyNotices.txt"
        ).read_bytes(),
    }


def _from_folder(folder: Path) -> dict[str, bytes]:
    files = {}
    for name, expected in SHA256.items():
        content = read_file(folder / name, LARGEST_TARBALL)
        _check(content, expected, str(folder / name))
        files[name] = content
    return files


def _from_tarball(content: bytes, where: str) -> dict[str, bytes]:
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != SHA512:
        raise RuntimeFilesError(
            f"{where}: its sha512 is {found[:16]}…, {NAME} has {SHA512[:16]}…; it is truncated or "
            "another version, fetch it again (npm pack onnxruntime-web@" + VERSION + ")"
        )
    files = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for name, expected in SHA256.items():
            member = archive.extractfile(f"package/dist/{name}")
            if member is None:
                raise RuntimeFilesError(f"{where}: holds no dist/{name}")
            files[name] = member.read()
            _check(files[name], expected, f"{where}: {name}")
    return files


def _check(content: bytes, expected: str, where: str) -> None:
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise RuntimeFilesError(
            f"{where}: its sha256 is {found[:12]}…, {NAME} has {expected[:12]}…; use the files of "
            f"onnxruntime-web {VERSION}"
        )


def _download() -> bytes:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=SECONDS) as answer:
            content: bytes = answer.read(LARGEST_TARBALL + 1)
    except (urllib.error.URLError, OSError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise RuntimeFilesError(
            f"{ADDRESS} could not be fetched: {reason}; on a machine that can, run "
            f"`npm pack onnxruntime-web@{VERSION}` and give the file with --runtime"
        ) from error
    if len(content) > LARGEST_TARBALL:
        raise FileReadError(f"{ADDRESS}: over {LARGEST_TARBALL >> 20} MB, which is not {NAME}")
    return content
