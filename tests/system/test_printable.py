"""Nothing that a file says reaches a terminal as anything but letters."""

import ast
import io
from pathlib import Path

import pytest

from worldmodel.commands.evaluate import _say
from worldmodel.evaluation.bench_report import print_comparison, print_throughput
from worldmodel.system.printable import counted, tell

PACKAGE = Path(__file__).parents[2] / "worldmodel"
HOSTILE = "doom\x1b[2J\x1b]0;owned\x07\x9b1mrooms\rgone\nline\x7f"


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_lines_are_told_whole_and_without_control_characters() -> None:
    stream = io.StringIO()
    tell(HOSTILE, "x" * 10_000, "", to=stream)
    first, second, third, end = stream.getvalue().split("\n")
    assert first.isprintable()
    assert first.startswith("doom?[2J")
    assert (second, third, end) == ("x" * 10_000, "", "")


def test_a_measurement_tells_of_a_world_with_an_evil_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {"sessions": 1, "frame_ms": 1.0, "fps_each": 1.0, "fps_together": 1.0}
    others = {"other_cores": 0.0}
    print_throughput({"world": HOSTILE, "on": HOSTILE, "sessions": [row], **others})
    side = {"frame_ms": 1.0, "settings": HOSTILE, "on": HOSTILE}
    pair = {"a": side, "b": side, "ratio": 1.0, "turns": 1, "ratio_range": [1.0, 1.0], **others}
    print_comparison(pair)
    _say(f"[1/2] rollouts, {HOSTILE}")
    told = capsys.readouterr()
    assert told.out.count("doom?[2J") == 6
    assert is_harmless(told.out)
    assert is_harmless(told.err)


@pytest.mark.parametrize("part", ["evaluation", "jobs", "recipe", "training", "datacheck"])
def test_no_job_prints_around_it(part: str) -> None:
    for path in (PACKAGE / part).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Name) and node.id == "print"), f"{path}:{node.lineno}"
            is_stream = isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "sys.stdout.write",
                "sys.stderr.write",
            )
            assert not is_stream, path


def test_one_is_no_plural() -> None:
    assert [counted(n, "frame") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert [counted(n, "batch") for n in (1, 8)] == ["1 batch", "8 batches"]
