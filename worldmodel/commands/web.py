"""Make a page that plays a world in the browser, without a server."""

import argparse
from pathlib import Path

from worldmodel.config import UserError
from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    add = parser.add_argument
    add("world", nargs="?", help="a shipped world or a folder (default: the default world)")
    add("--to", type=to_path, required=True, help="folder to make; with --single a .html file")
    add("--single", action="store_true", help="one HTML file that opens from a disk")
    add(
        "--runtime",
        type=to_path,
        help="onnxruntime-web's dist folder or npm tarball (default: fetched from npm once)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do it."""
    try:
        import onnx  # noqa: F401  # what is missing is told before minutes of work
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"a page needs onnx and onnxruntime ({error}): pip install 'worldmodel[web]'"
        ) from error
    from worldmodel.web.runtime import fetch_runtime, read_runtime
    from worldmodel.web.single import write_single
    from worldmodel.web.site import make_site, sizes, write_site
    from worldmodel.worlds.find import find_world
    from worldmodel.worlds.native import NativeWorld
    from worldmodel.worlds.run_settings import RunSettings

    _check_target(options.to, single=options.single)
    folder = find_world(options.world)
    runtime = read_runtime(options.runtime) if options.runtime else fetch_runtime()
    settings = RunSettings(device="cpu", engine="torch", dtype="float32")
    world = NativeWorld.load(folder, settings)
    notice = folder / "NOTICE"
    site = make_site(world, runtime, notice.read_bytes() if notice.is_file() else b"")
    found = site.difference
    tell(
        f"{world.name}: latents of {found.equal_latents} of {found.frames} frames equal torch's, "
        f"pixels are off by {found.pixels} at most"
    )
    if options.single:
        size = write_single(options.to, site.files)
        tell(f"{options.to}: {size / 1e6:.1f} MB; open it in a browser")
        return
    write_site(options.to, site.files)
    raw, gzipped = sizes(site.files)
    tell(f"{options.to}: a visitor downloads {raw / 1e6:.1f} MB ({gzipped / 1e6:.1f} MB gzipped)")
    tell(f"try it: python -m http.server --directory {options.to}")


def _check_target(path: Path, *, single: bool) -> None:
    """Refuse before the work what could not be written after it, or holds other files."""
    if single:
        if path.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"--to {path}: with --single it is a file that ends in .html")
        return
    if path.exists() and not path.is_dir():
        raise UserError(f"--to {path}: is a file; give a folder, or --single with a .html file")
    if path.is_dir() and any(path.iterdir()) and not (path / "world" / "world.json").is_file():
        raise UserError(f"--to {path}: holds other files; give an empty or a new folder")
