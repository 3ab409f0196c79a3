"""Hostile files: hypothesis damages right ones and writes odd ones; kept finds are tried first."""

import json
import struct
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worlds.make_world import make_world
from worldmodel.action import IDLE
from worldmodel.config import UserError, to_toml
from worldmodel.selftest.targets import Target, check_sentence, dictionary, targets
from worldmodel.training.wan.clips import INDEX, Index
from worldmodel.world import SavedState, StateError, WorldFaultError, step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_folder import read_world_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CORPUS = Path(__file__).parent / "corpus"
FOLDER = make_world(Path(tempfile.mkdtemp(prefix="worldmodel-fuzz-")) / "tiny")
TARGETS = {target.name: target for target in targets(FOLDER)}
QUICK = settings(
    max_examples=60,
    deadline=None,  # a machine may sleep in the middle; `fuzz` looks at times, twice
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
EACH = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([2**31, 2**63, 2**64, -1, 10**400, 1e308, "../x", "/etc/passwd", "\x1b[2J"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@EACH
def test_what_is_right_is_read(target: Target, tmp_path: Path) -> None:
    is_right = [target.read(tmp_path, seed) for seed in target.seeds]
    if target.name in ("picture", "wan-start"):
        assert is_right == [True, True, True, True, False], "the last one promises 3.6 gigapixels"
    elif target.name == "import":
        assert is_right == [True, True, True, False, False], "an index of nothing, and code"
    else:
        assert is_right == [True] * len(target.seeds)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: path.name)
def test_what_once_broke_a_reader_is_a_sentence_now(path: Path, tmp_path: Path) -> None:
    TARGETS[path.parent.name].read(tmp_path, path.read_bytes())


@EACH
@given(data=st.data())
@QUICK
def test_damage_is_a_sentence(target: Target, tmp_path: Path, data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(target.seeds))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 40)))
        piece = data.draw(st.binary(max_size=12) | st.sampled_from(dictionary()))
        content = content[:start] + piece + content[end:]
    target.read(tmp_path, content)


@EACH
@given(content=st.binary(max_size=200))
@QUICK
def test_noise_is_a_sentence(target: Target, tmp_path: Path, content: bytes) -> None:
    target.read(tmp_path, content)


@given(key=st.data(), value=json_values)
@settings(QUICK, max_examples=300)
@pytest.mark.parametrize("name", ["world.toml", "wan-world.toml"])
def test_any_value_in_a_world_file_is_read_or_refused(
    tmp_path: Path, name: str, key: st.DataObject, value: Any
) -> None:
    target = TARGETS[name]
    table: dict[str, Any] = tomllib.loads(target.seeds[0].decode())
    inner: dict[str, Any] = table
    chosen = key.draw(st.sampled_from(sorted(table)))
    while isinstance(inner[chosen], dict) and inner[chosen] and key.draw(st.booleans()):
        inner = inner[chosen]
        chosen = key.draw(st.sampled_from(sorted(inner)))
    inner[chosen] = value
    try:
        content = to_toml(table).encode()
    except (ValueError, TypeError, UnicodeEncodeError):
        return
    target.read(tmp_path, content)


@given(
    header=st.dictionaries(
        st.sampled_from(["__metadata__", "frame", "held", "mouse", "state.now", "frames", "a"]),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(
                    ["U8", "F32", "BF16", "F64", "I64", "BOOL", "F8_E4M3", "?"]
                ),
                "shape": st.lists(
                    st.integers(-1, 5) | st.sampled_from([2**31, 2**62, 60 << 30]), max_size=4
                ),
                "data_offsets": st.lists(
                    st.integers(-1, 200) | st.just(60 << 30), min_size=2, max_size=2
                ),
            }
        )
        | json_values,
        max_size=6,
    ),
    length=st.none() | st.sampled_from([0, 1, 2**31, 2**63, 60 << 30]),
    body=st.binary(max_size=200),
)
@settings(QUICK, max_examples=300)
@pytest.mark.parametrize(
    "name", ["weights", "moment", "episode", "prompts", "trajectory", "import"]
)
def test_any_header_of_tensors_is_read_or_refused(
    tmp_path: Path, name: str, header: dict[str, Any], length: int | None, body: bytes
) -> None:
    try:
        text = json.dumps(header).encode()
    except ValueError:
        return
    size = len(text) if length is None else length
    TARGETS[name].read(tmp_path, struct.pack("<Q", size % 2**64) + text + body)


@given(rows=st.lists(json_values | st.just("GOOD"), max_size=5), head=json_values)
@settings(QUICK, max_examples=200)
def test_any_row_of_a_recording_is_read_or_refused(
    tmp_path: Path, rows: list[Any], head: Any
) -> None:
    right = TARGETS["replay"].seeds[0].decode().splitlines()
    table = json.loads(right[0])
    if isinstance(head, dict):
        table |= dict(zip(table, head.values(), strict=False))
    good = json.loads(right[2])
    try:
        lines = [json.dumps(table), right[1]]
        lines += [json.dumps(good | row if isinstance(row, dict) else row) for row in rows]
        lines.append(right[-1])
    except ValueError:
        return
    TARGETS["replay"].read(tmp_path, "\n".join(lines).encode())


WORLD = NativeWorld.load(FOLDER, RunSettings(threads=1, engine="torch", dtype="float32"))


@given(table=json_values, value=json_values, key=st.sampled_from(["files", "shape", "text_width"]))
@settings(QUICK, max_examples=150)
def test_any_index_of_latents_is_read_or_refused(
    tmp_path: Path, table: Any, value: Any, key: str
) -> None:
    right = {"format": 1, "files": {"a": 2}, "shape": [3, 16, 4, 6], "text_width": 12}
    try:
        texts = [json.dumps(table), json.dumps({**right, "cameras": False, key: value})]
    except ValueError:
        return
    for text in texts:
        (tmp_path / INDEX).write_text(text, encoding="utf-8")
        try:
            Index.read(tmp_path)
        except UserError as error:
            check_sentence(str(error))


@given(data=st.data())
@settings(QUICK, max_examples=150)
def test_a_damaged_state_is_refused_or_plays_on(data: st.DataObject) -> None:
    WORLD.reset(0, 0)
    for _ in range(data.draw(st.integers(0, 9))):
        step(WORLD, IDLE)
    state = WORLD.save_state()
    arrays = {name: np.array(array) for name, array in state.arrays.items()}
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(arrays)))
        raw = bytearray(arrays[name].tobytes())
        if raw:
            at = data.draw(st.integers(0, len(raw) - 1))
            raw[at] = data.draw(st.integers(0, 255))
        arrays[name] = np.frombuffer(bytes(raw), arrays[name].dtype).reshape(arrays[name].shape)
    try:
        WORLD.load_state(SavedState(state.identity, arrays))
    except StateError as error:
        check_sentence(str(error))
        return
    try:
        step(WORLD, IDLE)
    except WorldFaultError as error:
        check_sentence(str(error))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "a\\b", "C:x", "x\0y", ""])
@pytest.mark.parametrize("where", ["starts", "name", "sha256"])
def test_no_name_in_a_world_leads_out_of_its_folder(tmp_path: Path, name: str, where: str) -> None:
    table = asdict(read_world_file(FOLDER))
    table[where] = name if where == "name" else {**table[where], name: "x"}
    path = tmp_path / "world.toml"
    path.write_text(to_toml(table), encoding="utf-8")
    if (where, name) == ("sha256", "a/b"):
        read_world_file(tmp_path)  # a file of a folder inside, which nobody asks for
        return
    with pytest.raises(UserError):
        read_world_file(tmp_path)


@pytest.mark.parametrize("inner", ["transformer.safetensors", "starts/0.safetensors", "starts"])
def test_a_link_out_of_a_world_is_refused(tmp_path: Path, inner: str) -> None:
    folder = make_world(tmp_path / "tiny")
    outside = tmp_path / "outside"
    (folder / inner).rename(outside)
    (folder / inner).symlink_to(outside)
    with pytest.raises(UserError, match="a link that leads out of the world's folder"):
        NativeWorld.load(folder, RunSettings(threads=1))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("transformer", "width", 65536),
        ("transformer", "layers", 1024),
        ("transformer", "context_frames", 60000),
        ("autoencoder", "widths", [8192, 8192]),
        ("autoencoder", "blocks", 64),
    ],
)
def test_a_world_that_asks_for_more_than_it_brings_is_refused_before_memory_is_taken(
    tmp_path: Path, section: str, key: str, value: Any
) -> None:
    folder = make_world(tmp_path / "tiny")
    table = asdict(read_world_file(folder))
    table[section][key] = value
    if key == "width":
        table["transformer"]["heads"] = 64
    (folder / "world.toml").write_text(to_toml(table), encoding="utf-8")
    with pytest.raises(UserError):
        NativeWorld.load(folder, RunSettings(threads=1, engine="torch"))
