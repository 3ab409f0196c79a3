"""A world as a folder of files that any web server can hand out, or as one file.

site = make_site(world, runtime)       # path -> content
write_site(folder, site.files)
write_single(path, site.files)

index.html  isolate.js  page/  world/  runtime/  licences/
"""

import functools
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from worldmodel.engine.graphs import beyond_graphs
from worldmodel.web.compare_graphs import (
    GraphDifference,
    GraphPlay,
    compare,
    compare_draws,
    load_graphs,
    play_graphs,
    play_torch,
)
from worldmodel.web.onnx_graphs import (
    DRAW,
    EVENTS,
    LOOK,
    SEEN,
    STEP,
    ExportError,
    events_graph,
    picture_graphs,
    seen_graph,
    step_graph,
)
from worldmodel.web.runtime import NAME, read_notices
from worldmodel.web.weights import pack, unpack
from worldmodel.web.world_files import check_actions, describe_world, to_json
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.world_folder import replace_folder

CHECKED = 24  # frames that are compared with torch before anything is written
EXPECTED = 8  # of which the page compares the first, when a graphics processor computes
PIXELS = 1  # how far a pixel may be off
LATENTS = 1e-3  # and a latent, in a world that does not round them; in others they are equal
DRAWS_OFF = 1  # draws that may differ: a chance that lies on the edge of two bins
AT_ROOT = ("index.html", "isolate.js")  # a service worker answers for its own folder alone


@dataclass(frozen=True, slots=True)
class Site:
    """The files of a page, and how its graphs compared with torch."""

    files: dict[str, bytes]  # by path inside the folder
    difference: GraphDifference


def make_site(world: NativeWorld, runtime: Mapping[str, bytes], notice: bytes = b"") -> Site:
    """Export a world that was opened on torch in fp32; refuse one whose graphs differ."""
    if reason := beyond_graphs(world.transformer.config, world.sampler):
        raise ExportError(f"{world.name}: a page cannot play it: it asks for {reason}")
    autoencoder = world.autoencoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # not in stubs
    made = {STEP: step_graph(world.transformer, autoencoder, world.sampler)}
    made |= picture_graphs(autoencoder)
    if world.sampler.view_pull:
        made[SEEN] = seen_graph(autoencoder)
    if world.events is not None:
        made[EVENTS] = events_graph(world.events, world.transformer.config)
    models = {f"{name}.onnx": graph.model for name, graph in made.items()}
    packed = pack(models)
    graphs = {name: model.SerializeToString() for name, model in models.items()}
    expected = play_torch(world, 0, 0, check_actions(CHECKED))
    difference = _check(world, graphs, unpack(packed.content, packed.halves), expected)
    first = GraphPlay(expected.latents[:EXPECTED], expected.frames[:EXPECTED], None)
    described, others = describe_world(world, first, tolerance(world))
    described["weights"] = {"halves": packed.halves, "whole": packed.whole}
    described["graphs"] = list(made)
    described["work"] = sum(graph.work for graph in made.values())
    described["assisted"] = sum(made[name].work for name in (LOOK, DRAW) if name in made)
    files = {f"world/{name}": content for name, content in {**graphs, **others}.items()}
    files["world/weights.bin"] = packed.content
    for name, content in runtime.items():
        files[f"runtime/{_served(name)}"] = _sent(name, content)
    files |= {f"licences/{name}": content for name, content in _licences(notice).items()}
    files |= page_files()
    hashes = {
        path: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in sorted(files.items())
        if path.startswith(("world/", "runtime/"))
    }
    files["world/world.json"] = to_json({**described, "files": hashes})
    return Site(files, difference)


def page_files() -> dict[str, bytes]:
    """The page itself: `index.html`, and its modules and styles under `page/`."""
    folder = resources.files("worldmodel.web") / "page"
    found = {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if entry.name.endswith((".html", ".css", ".js"))
    }
    return {name if name in AT_ROOT else f"page/{name}": found[name] for name in sorted(found)}


def write_site(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files into a new folder, which then replaces an older one."""

    def write(fresh: Path) -> None:
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    replace_folder(folder, write)


def sizes(files: Mapping[str, bytes]) -> tuple[int, int]:
    """Bytes of all that one visitor downloads, as it lies there and with gzip on the way."""
    needed = [c for path, c in files.items() if not path.startswith("licences/") and not _gpu(path)]
    return sum(map(len, needed)), sum(min(len(c), len(gzip.compress(c, 6))) for c in needed)


def tolerance(world: NativeWorld) -> float:
    """How far the latents of a page may be from torch's."""
    return 0.0 if world.sampler.latent_step else LATENTS


def _check(
    world: NativeWorld, graphs: Mapping[str, bytes], weights: bytes, expected: GraphPlay
) -> GraphDifference:
    sessions = load_graphs(
        world, {name.removesuffix(".onnx"): c for name, c in graphs.items()}, weights
    )
    if world.events is not None:
        draws, equal = compare_draws(world, sessions)
        if draws - equal > DRAWS_OFF:
            raise ExportError(
                f"{world.name}: its numbers differ from torch: {equal} of {draws} draws are equal "
                f"({DRAWS_OFF} may differ); nothing was written"
            )
    found = play_graphs(world, sessions, 0, 0, check_actions(CHECKED))
    difference = compare(expected, found, world.file.autoencoder.palette)
    allowed, frames = tolerance(world), difference.frames
    are_equal = difference.latents <= allowed and difference.pixels <= PIXELS  # NaN is not
    if not are_equal or difference.equal_states < frames:
        raise ExportError(
            f"{world.name}: its graphs differ from torch: latents of {difference.equal_latents} of "
            f"{frames} frames are equal (off by up to {difference.latents:.3g}, allowed "
            f"{allowed:g}), numbers of {difference.equal_states}, pixels are off by up to "
            f"{difference.pixels} (allowed {PIXELS}); nothing was written"
        )
    return difference


def _licences(notice: bytes) -> dict[str, bytes]:
    """Licences of the world, of this project, of the runtime; with the hash of each."""
    texts = {"world-NOTICE.txt": notice, **read_notices()} if notice else read_notices()
    lines = [f"{NAME} is part of this page, under the MIT licence; its files are unchanged.", ""]
    lines += [f"{hashlib.sha256(text).hexdigest()}  {name}" for name, text in texts.items()]
    return {**texts, "README.txt": ("\n".join(lines) + "\n").encode()}


def _served(name: str) -> str:
    """A runtime file's name on the page: not every server knows what .mjs and .wasm are."""
    return f"{name}.bin" if name.endswith(".wasm") else name.replace(".mjs", ".js")


def _sent(name: str, content: bytes) -> bytes:
    """Compressed here, since not every server compresses."""
    return _compressed(content) if name.endswith(".wasm") else content


@functools.lru_cache(maxsize=2)
def _compressed(content: bytes) -> bytes:
    """Kept for the next world of this process; it takes seconds."""
    return gzip.compress(content, 9, mtime=0)


def _gpu(path: str) -> bool:
    return "webgpu" in path or "asyncify" in path
