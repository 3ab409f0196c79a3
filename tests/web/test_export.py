"""What a page is made of: weights that lose nothing, graphs that are held against torch."""

import copy
import gzip
import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.worlds.make_world import make_world
from worldmodel.__main__ import main
from worldmodel.config import UserError
from worldmodel.engine.graphs import example_views
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import ModelConfig
from worldmodel.model.events import Events
from worldmodel.system.limits import LARGEST_NOTICE
from worldmodel.web import site
from worldmodel.web.before_work import read_notice
from worldmodel.web.bundle import BundleError, bundle
from worldmodel.web.floor_plan_graphs import DrawGraph, MergeGraph, RayGraph, rays_for_transformer
from worldmodel.web.onnx_graphs import ExportError, OnnxGraph, events_graph
from worldmodel.web.runtime import SHA256, RuntimeFilesError, read_runtime
from worldmodel.web.weights import FILE, pack, unpack
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

SETTINGS = RunSettings(device="cpu", engine="torch", dtype="float32", threads=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> NativeWorld:
    folder = make_world(tmp_path_factory.mktemp("worlds") / "bar", is_placed=True)
    return NativeWorld.load(folder, SETTINGS)


def model_of(**tensors: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> onnx.ModelProto:
    kept = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    return onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initializer=kept))


def test_weights_lose_nothing_and_are_stored_once() -> None:
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((10, 20)).astype(np.float32)
    half = torch.from_numpy(whole).bfloat16().float().numpy()
    small = np.arange(3, dtype=np.float32)
    models = {"a": model_of(w=whole, h=half, s=small), "b": model_of(same=half)}
    packed = pack(models)
    assert (packed.halves, packed.whole) == (200, 200)
    raw = unpack(packed.content, packed.halves)
    assert len(raw) == 4 * 400
    for model, name, expected in (("a", "w", whole), ("a", "h", half), ("b", "same", half)):
        tensor = next(t for t in models[model].graph.initializer if t.name == name)
        told = {entry.key: entry.value for entry in tensor.external_data}
        assert told["location"] == FILE
        part = raw[int(told["offset"]) : int(told["offset"]) + int(told["length"])]
        assert np.array_equal(np.frombuffer(part, np.float32).reshape(10, 20), expected)
    inside = next(t for t in models["a"].graph.initializer if t.name == "s")
    assert np.array_equal(onnx.numpy_helper.to_array(inside), small)


@pytest.mark.parametrize("depthwise", [True, False])
def test_a_page_looks_at_a_plan_as_the_plan_does(world: NativeWorld, depthwise: bool) -> None:
    """From inside the level and from beyond its edges, where grids hold nothing."""
    torch.manual_seed(0)
    settings = world.autoencoder.config
    assert settings.plan is not None
    config = replace(settings.plan, depthwise=depthwise)
    autoencoder = Autoencoder(replace(settings, plan=config)).eval().requires_grad_(False)
    plan = autoencoder.plan
    assert plan is not None
    for parameter in (*plan.parameters(), *autoencoder.decoder.change.parameters()):
        parameter.add_(torch.randn_like(parameter) / 8)  # what is new is almost grey
    look, draw, merge = RayGraph(plan), DrawGraph(autoencoder), MergeGraph(autoencoder)
    latents = torch.randn(6, *autoencoder.latent_shape)
    views = example_views(config, 6)
    views[3:, :2] += torch.tensor([[5000.0, 0.0], [0.0, -5000.0], [-300.0, 300.0]])
    for view, latent in zip(views[:, None], latents[:, None], strict=True):
        numbers, depth = look(view)
        rays = rays_for_transformer(plan, view, numbers)
        assert torch.allclose(rays, plan.rays(view), atol=1e-3)
        found = merge(autoencoder.decoder.layers(latent), *draw(view, numbers, depth))
        expected = autoencoder.decode(latent, autoencoder.look(view).pixels)
        assert torch.allclose(found, expected, atol=1e-3 * float(expected.std()))


def test_a_page_names_all_its_files_with_their_hashes(world: NativeWorld) -> None:
    made = site.make_site(world, {"ort.wasm.min.mjs": b"js", "ort-x.wasm": b"wasm"}, b"by a test")
    described = json.loads(made.files["world/world.json"])
    for path, known in described["files"].items():
        content = made.files[path]
        assert known["bytes"] == len(content)
        assert known["sha256"] == hashlib.sha256(content).hexdigest()
    assert {"index.html", "isolate.js", "page/main.js", "page/page.css"} <= made.files.keys()
    assert gzip.decompress(made.files["runtime/ort-x.wasm.bin"]) == b"wasm"
    assert "runtime/ort.wasm.min.js" in made.files
    assert made.files["licences/world-NOTICE.txt"] == b"by a test"
    listed = made.files["licences/README.txt"].decode()
    for name in ("onnxruntime-LICENSE.txt", "onnxruntime-ThirdPartyNotices.txt"):
        assert hashlib.sha256(made.files[f"licences/{name}"]).hexdigest() in listed


def test_graphs_that_differ_are_refused(
    world: NativeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the exporter had made every weight a hundredth larger."""

    def damaged(content: bytes, halves: int) -> bytes:
        weights = np.frombuffer(unpack(content, halves), np.float32)
        return (weights * 1.01).astype(np.float32).tobytes()

    monkeypatch.setattr(site, "unpack", damaged)
    with pytest.raises(ExportError, match="its graphs differ from torch"):
        site.make_site(world, {})


def test_only_the_known_runtime_is_taken(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ort\.wasm\.min\.mjs: cannot be read"):
        read_runtime(tmp_path)
    (tmp_path / "ort.wasm.min.mjs").write_bytes(b"another version")
    with pytest.raises(RuntimeFilesError, match="its sha256 is"):
        read_runtime(tmp_path)
    tarball = tmp_path / "onnxruntime-web.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for name in SHA256:
            archive.addfile(tarfile.TarInfo(f"package/dist/{name}"))
    with pytest.raises(RuntimeFilesError, match="its sha512 is"):
        read_runtime(tarball)


def test_modules_become_one_script_and_keep_their_names_apart() -> None:
    modules = {
        "main.js": 'import { a } from "./one.js";\nimport { b } from "./two.js";\n'
        "const own = 3;\nexport function all() { return a + b + own; }",
        "one.js": "const own = 1;\nexport const a = own;",
        "two.js": 'import { a } from "./one.js";\nconst own = 2;\nexport const b = own + a;',
    }
    script = bundle(modules, "main.js", keep_exports=False)
    assert script.count("const a = own") == 1
    assert "export" not in script
    assert "import" not in script
    assert "export function all" in bundle(modules, "main.js", keep_exports=True)
    with pytest.raises(BundleError, match=r"imports four\.js, which is not there"):
        bundle({"main.js": 'import { d } from "./four.js";'}, "main.js", keep_exports=False)
    with pytest.raises(BundleError, match="cannot be put into one script"):
        bundle({"main.js": 'import * as x from "./one.js";'}, "main.js", keep_exports=False)


def test_a_target_that_holds_other_files_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    assert main(["web", "doom-rooms", "--to", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert main(["web", "doom-rooms", "--single", "--to", str(tmp_path / "page")]) == 2
    assert "ends in .html" in capsys.readouterr().err
    assert (tmp_path / "diary.txt").read_text() == "mine"


def test_a_notice_is_a_text_of_the_worlds_own_folder(tmp_path: Path) -> None:
    world = tmp_path / "world"
    world.mkdir()
    assert read_notice(world) == b""
    (tmp_path / "key").write_text("secret")
    (world / "NOTICE").symlink_to(tmp_path / "key")
    with pytest.raises(UserError, match="leads out of the world's folder"):
        read_notice(world)
    (world / "NOTICE").unlink()
    (world / "NOTICE").write_text("Art: BSD", encoding="utf-16")
    assert read_notice(world) == b"Art: BSD"
    (world / "NOTICE").write_bytes(b" " * (LARGEST_NOTICE + 1))
    with pytest.raises(UserError, match=r"at most 1\.0 MB"):
        read_notice(world)


@pytest.mark.parametrize("flags", [["--single"], []])
def test_a_target_that_cannot_be_written_is_refused_before_any_work(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["web", "doom-rooms", "--to", f"{'n' * 300}.html", *flags]) == 2
    assert "File name too long" in capsys.readouterr().err


def test_before_its_minute_the_command_says_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_world(tmp_path / "bar")
    settings = (folder / "world.toml").read_text()
    (folder / "world.toml").write_text(settings.replace("guidance = 1.0", "guidance = 2.0"))
    monkeypatch.setattr("worldmodel.web.runtime.fetch_runtime", dict)
    assert main(["web", str(folder), "--to", str(tmp_path / "page")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "bar: loaded, drawn and compared with torch; about a minute"
    assert "a page cannot play it: it asks for guidance = 2.0" in told[1]


def test_graphs_that_draw_other_numbers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the exporter had made every weight of this one network twice as large."""

    def damaged(events: Events, told: ModelConfig) -> OnnxGraph:
        other = copy.deepcopy(events)
        for parameter in other.parameters():
            parameter.mul_(2)
        return events_graph(other, told)

    lively = NativeWorld.load(make_world(tmp_path / "bar", is_numbered=True), SETTINGS)
    monkeypatch.setattr(site, "events_graph", damaged)
    with pytest.raises(ExportError, match=r"its numbers differ from torch: \d+ of 300 draws"):
        site.make_site(lively, {})
