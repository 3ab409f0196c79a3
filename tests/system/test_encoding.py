"""What opens in UTF-8 opens in every encoding that editors save, wherever text is read."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from studies.markdown import write_between
from worldmodel.action import Action, Prompt
from worldmodel.config import ConfigError, UserError, read_toml
from worldmodel.game.controls import load_controls
from worldmodel.players import load_script, load_timeline
from worldmodel.storage.files import FileReadError, read_text
from worldmodel.storage.recording import FORMAT, FrameRow, read_recording
from worldmodel.system.encoding import TextError, decode_text
from worldmodel.training.wan.sources import caption_of
from worldmodel.wan.weight_files import read_tensors

PACKAGE = Path(__file__).parents[2] / "worldmodel"
SAVED: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "mark": lambda text: text.encode("utf-8-sig"),
    "windows": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "utf16": lambda text: text.encode("utf-16"),
    "utf16 windows": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "utf16 big": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf16 without mark": lambda text: text.encode("utf-16-le"),
    "utf32": lambda text: text.encode("utf-32"),
}
HEADER = (
    f'{{"format": "{FORMAT}", "settings": {{}}, "identity": {{}}, "seed": 3, "start": 0, '
    '"first_frame": 0, "frames_per_second": 10.0, "frame_size": [8, 16], "buttons": ["KeyW"], '
    '"versions": {}}\n'
)
ROWS = "".join(f"{FrameRow(index=i, time=i / 10).to_json()}\n" for i in range(3))


@pytest.fixture(params=SAVED)
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a text as an editor does."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(SAVED[request.param](text))
        return path

    return write


def test_every_text_is_read_in_every_encoding(save: Callable[[str, str], Path]) -> None:
    assert read_toml(save("any.toml", 'title = "Wald – é"\n')) == {"title": "Wald – é"}
    assert load_controls(save("controls.toml", "degrees_per_pixel = 0.2\n")).degrees_per_pixel
    assert load_script(save("walk.txt", "2 KeyW\n1 idle\n")) == [
        Action(frozenset({"KeyW"})),
        Action(frozenset({"KeyW"})),
        Action(),
    ]
    said = load_timeline(save("said.txt", "0 Ein Wald – é.\n2.5 ! Nacht.\n"))
    assert said == ((0.0, Prompt("Ein Wald – é.")), (2.5, Prompt("Nacht.", renew=True)))
    header, rows = read_recording(save("walk.jsonl", HEADER + ROWS))
    assert (header.seed, [row.index for row in rows]) == (3, [0, 1, 2])
    save("clip.txt", "Ein Wald\n")
    assert caption_of(Path(save("clip.mp4", "")), "") == "Ein Wald"
    index = save("weights.index.json", '{"weight_map": {"a": "gone.safetensors"}}')
    with pytest.raises(UserError, match=r"gone\.safetensors"):
        read_tensors(index)
    page = save("page.md", "# T\n\n<!-- a -->\n<!-- b -->\n")
    write_between(page, "T", "<!-- a -->", "<!-- b -->", "42")
    assert "42" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("saved", [SAVED["utf16"], SAVED["mark"]])
def test_a_recording_that_was_cut_off_is_read_up_to_there(
    tmp_path: Path, saved: Callable[[str], bytes]
) -> None:
    path = tmp_path / "walk.jsonl"
    whole = saved(HEADER + ROWS + FrameRow(index=3, time=0.3).to_json())
    for cut in (3, 4, 5):
        path.write_bytes(whole[:-cut] + bytes(64))
        assert [row.index for row in read_recording(path)[1]] == [0, 1, 2]


def test_other_encodings_are_told(tmp_path: Path) -> None:
    path = tmp_path / "said.txt"
    path.write_bytes("0 Ein Wäldchen.\n".encode("latin-1"))
    for read in (read_text, load_timeline, load_script, read_toml):
        with pytest.raises(UserError, match=r"said\.txt.*byte 7 is no text in UTF-8; save the"):
            read(path)
    with pytest.raises(FileReadError, match="o such file"):
        read_text(tmp_path / "none")
    with pytest.raises(TextError):
        decode_text(b"\xff\xfe\x00\xd8")


def test_a_decimal_comma_is_told(tmp_path: Path) -> None:
    path = tmp_path / "controls.toml"
    path.write_bytes(b"degrees_per_pixel = 0,2\r\n")
    with pytest.raises(ConfigError, match=r"controls\.toml.*line 1.*; write 0,2 as 0\.2$"):
        load_controls(path)
    path.write_text("x = [1,2]\ny = \n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_toml(path)
    assert "write" not in str(error.value)


def test_there_is_one_reader_of_text() -> None:
    """Nothing but `encoding` and `files` decodes files; what the system itself writes is ASCII."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            keywords = {
                k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg == "encoding"
            }
            reads = node.func.attr == "read_text" and (keywords or not node.args)
            assert not reads or keywords.get("encoding") == "ascii", f"{path}:{node.lineno}"
