"""The notebook runs; the Dockerfile copies what is there and starts what the program takes."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from worldmodel.__main__ import make_parser
from worldmodel.config import read_toml

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "docs" / "docker" / "Dockerfile"


def test_the_notebook_plays_a_world_and_shows_its_frames() -> None:
    notebook = json.loads((ROOT / "docs" / "play.ipynb").read_text(encoding="utf-8"))
    mpl.use("Agg")
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        assert not cell.get("outputs")  # a notebook is committed without what it showed
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    frames = names["frames"]
    assert len(frames) == 36
    assert np.mean(np.abs(frames[-1].astype(float) - frames[0])) > 5  # it went somewhere
    assert len(names["figure"].axes) == 8
    names["plt"].close("all")


def test_the_dockerfile_copies_and_starts_what_is_there() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY")]
    assert copied
    for sources in copied:
        for source in sources:
            assert (ROOT / source).exists(), source
    extras = set(re.search(r"/src\[([\w,]+)\]", text)[1].split(","))  # type: ignore[index]
    assert extras <= read_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"].keys()
    starts = [json.loads(line.removeprefix("CMD")) for line in text.splitlines() if "CMD" in line]
    said = re.findall(r"^# +docker run .* worldmodel (\w.*)$", text, re.MULTILINE)
    starts += [shlex.split(line) for line in said]
    assert len(starts) >= 2
    for words in starts:
        make_parser().parse_args(words)
