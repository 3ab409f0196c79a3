"""Make a page that plays a world in the browser, without a server."""

import argparse
import sys

from worldmodel.config import UserError
from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
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
    """Do what the parsed flags ask for; a `UserError` says what cannot be done."""
    try:
        import onnx  # noqa: F401  # what is missing is told before minutes of work
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"a page needs onnx and onnxruntime ({error}): pip install 'worldmodel[web]'"
        ) from error
    from worldmodel.web.before_work import check_target, read_notice
    from worldmodel.web.runtime import fetch_runtime, read_runtime
    from worldmodel.web.single import write_single
    from worldmodel.web.site import make_site, sizes, write_site
    from worldmodel.worlds.find import find_world
    from worldmodel.worlds.native import NativeWorld
    from worldmodel.worlds.run_settings import RunSettings

    check_target(options.to, single=options.single)
    folder = find_world(options.world)
    runtime = read_runtime(options.runtime) if options.runtime else fetch_runtime()
    settings = RunSettings(device="cpu", engine="torch", dtype="float32")
    tell(f"{folder.name}: loaded, drawn and compared with torch; about a minute", to=sys.stderr)
    world = NativeWorld.load(folder, settings)
    site = make_site(world, runtime, read_notice(folder))
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
