"""The pressed keys, drawn into a clip beside the recording."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.game.drawn_world import DrawnWorld
from worldmodel.__main__ import main as worldmodel
from worldmodel.game.cli import main
from worldmodel.game.panels import ACCENT
from worldmodel.storage.recording import read_recording
from worldmodel.storage.video import read_video, watch


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    Path("walk.txt").write_text("5 idle\n10 KeyW\n10 KeyW+KeyA mouse=8,0\n")
    return lambda *arguments: main([str(a) for a in arguments], lambda _: DrawnWorld())


def lit(frame: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> int:
    """Pixels in the colour of a pressed key."""
    near = np.abs(frame.astype(int) - np.array(ACCENT)).max(axis=2) < 40
    return int(near.sum())


def test_each_frame_shows_what_was_pressed_in_it(play: Callable[..., int]) -> None:
    assert play("--headless", "--player", "walk.txt", "--record", "walk") == 0
    before = {path.name: path.read_bytes() for path in Path().glob("walk.*")}
    assert worldmodel(["clip", "walk.jsonl"]) == 0
    drawn = list(read_video(Path("walk_keys.mp4")))
    plain = list(read_video(Path("walk.mp4")))
    assert len(drawn) == len(plain) == len(read_recording(Path("walk.jsonl"))[1])
    times = [
        [seconds for seconds, _ in watch(Path(f"{name}.mp4"))] for name in ("walk_keys", "walk")
    ]
    assert times[0] == times[1]
    extra = [lit(a) - lit(b) for a, b in zip(drawn, plain, strict=True)]
    assert max(extra[:6]) < 50 < min(extra[6:16])  # row 6 is the first with a key
    assert min(extra[16:]) > max(extra[6:16]) + 300  # another key, and an arrow
    middle = (slice(100, 300), slice(100, 500))
    for a, b in zip(drawn, plain, strict=True):
        assert np.abs(a[middle].astype(int) - b[middle].astype(int)).mean() < 6
    assert {path.name: path.read_bytes() for path in Path().glob("walk.*")} == before


def test_play_makes_it_on_request_and_never_overwrites(
    play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("walk_keys.mp4").write_bytes(b"mine")
    for how in ([], ["--headless"]):
        capsys.readouterr()
        code = play("--player", "walk.txt", "--fps", 0, "--record", "walk", "--show-keys", *how)
        assert code == 0
        clips = [line for line in capsys.readouterr().out.splitlines() if line.endswith(".mp4")]
        assert len(clips) == 2
        assert "_keys" in clips[1]
        assert len(list(read_video(Path(clips[1])))) == 26
    assert Path("walk_keys.mp4").read_bytes() == b"mine"
    assert worldmodel(["clip", "walk.mp4", "--out", "shared.mp4"]) == 0
    assert Path("shared.mp4").is_file()
    Path("clips").mkdir()
    for folder, made in (("clips", "clips/walk_keys.mp4"), (".", "walk_keys_003.mp4")):
        assert worldmodel(["clip", "walk.mp4", "--out", folder]) == 0
        assert Path(made).is_file()


def test_what_is_no_recording_is_named(
    play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    del play
    assert worldmodel(["clip", "walk.txt"]) == 2
    assert worldmodel(["clip", "none.jsonl"]) == 2
    assert "none.jsonl: not a recording" in capsys.readouterr().err
