"""A flag that means nothing to what is asked for is told, not ignored."""

import socket
from pathlib import Path

import pytest

from worldmodel.__main__ import main, make_parser


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("evaluate --rows a", "--rows means nothing to a whole evaluation"),
        ("evaluate --walks 8", "(--walks is for --places)"),
        ("evaluate --streams 2", "(--streams is for --compare)"),
        ("evaluate --places --clips 4", "--clips means nothing to --places"),
        ("evaluate --places --compare x.toml", "--places means nothing to --compare"),
        ("evaluate --compare x.toml --world y", "--world means nothing to --compare"),
        ("evaluate --quick --rows a", "--rows means nothing to --quick"),
        ("bench --players 8", "(--players is for --serve)"),
        ("bench --seconds 10", "(--seconds is for --serve)"),
        ("bench --layers 2", "(--layers is for a bench of a Wan model)"),
        ("bench --live --soak 9", "--soak means nothing to --live"),
        ("bench --serve --frames 9", "--frames means nothing to --serve"),
        ("bench --sizes default --world x", "--world means nothing to --sizes"),
        ("bench --sessions 2 --compare a b", "--compare means nothing to --sessions"),
        ("bench --random-weights --engine torch", "--engine means nothing to a bench of a Wan"),
        ("bench --serve a --world b", "each names the world; give one"),
        ("record --keys ArrowLeft=0", "(--keys is for --env or --player human)"),
        ("record --env CartPole-v1 --level basic", "--level means nothing to --env"),
        ("train x.toml --estimate --threads 2", "--threads means nothing to --estimate"),
        ("play --headless --scale 2", "there is no window; leave one of them out"),
        ("play --headless --sync", "there is no window; leave one of them out"),
        ("play --load x.moment --start 1", "--load and --start: the moment says which"),
        ("play --replay x.jsonl --seed 3", "--replay and --seed: the recording says which"),
        ("play --replay x.jsonl --player idle", "--replay and --player: the recording says"),
        ("play --replay x.jsonl --headless --show-keys", "is of a clip: add --record"),
    ],
)
def test_a_flag_without_a_meaning_is_told(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""


def test_a_port_that_is_taken_is_told_before_a_world_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("uvicorn")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main(["serve", "--port", port]) == 2
        assert main(["serve", "--port", "0", str(tmp_path / "missing")]) == 2
    busy, missing = capsys.readouterr().err.splitlines()
    assert f"--port {port} cannot be listened on: [Errno" in busy
    assert "missing" in missing


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("evaluate --judge-clips 5", "evaluate --inverse-dynamics-clips 5"),
        ("evaluate --judge-steps 7", "evaluate --inverse-dynamics-steps 7"),
        ("bench --block 3", "bench --chunk 3"),
        ("clip walk.jsonl --beside", "clip walk.jsonl --side-by-side"),
        ("play --beside", "play --side-by-side"),
    ],
)
def test_a_flag_that_was_renamed_is_taken_by_its_old_name(old: str, new: str) -> None:
    parser = make_parser()
    assert vars(parser.parse_args(old.split())) == vars(parser.parse_args(new.split()))
