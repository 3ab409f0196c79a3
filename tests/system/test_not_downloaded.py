"""What stands where a file was never downloaded is told in one sentence, by every reader."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from tests.worlds.wan.wan_tiny import make_wan_world, save_words
from worldmodel.config import UserError, read_toml
from worldmodel.datacheck.scan import scan_file
from worldmodel.players import load_script
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.episodes import load_actions, load_episode
from worldmodel.storage.images import read_picture
from worldmodel.storage.moments import load_moment
from worldmodel.storage.recording import read_recording
from worldmodel.storage.video import read_video
from worldmodel.system.not_downloaded import what_instead
from worldmodel.training.wan.load_weights import load_autoencoder
from worldmodel.wan.weight_files import read_tensors
from worldmodel.worlds.find import open_world
from worldmodel.worlds.wan.found_parts import ImportPlan
from worldmodel.worlds.wan.importer import import_files

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:" + b"4d7a" * 16 + b"\nsize 5676070400\n"
)
STRANGERS = {
    "pointer": (POINTER, r"Git LFS pointer, not the file of 5676\.1 MB .* `git lfs pull`"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>", "a web page, .* download the"),
    "answer": (b'{"error":"Invalid username or password."}', "a server's answer, .*Invalid user"),
    "denied": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "AccessDenied"),
}
READERS: dict[str, Callable[[Path], object]] = {
    "episode.safetensors": load_episode,
    "actions.safetensors": load_actions,
    "checked.safetensors": scan_file,
    "tensors.safetensors": load_tensors,
    "weights.safetensors": read_tensors,
    "weights.pt": read_tensors,
    "autoencoder.pth": load_autoencoder,
    "moment.safetensors": load_moment,
    "recording.jsonl": read_recording,
    "picture.png": read_picture,
    "video.mp4": lambda path: list(read_video(path)),
    "video.mkv": lambda path: list(read_video(path)),
    "script.txt": load_script,
    "world.toml": read_toml,
    "world.safetensors": lambda path: open_world(path),
    "import.safetensors": lambda path: import_files([path], path.parent / "new", ImportPlan()),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("name", READERS)
def test_every_reader_says_what_it_found_instead(tmp_path: Path, name: str, stranger: str) -> None:
    content, told = STRANGERS[stranger]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s){name}: .*{told}") as error:
        READERS[name](path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("part", ["transformer.safetensors", "starts/0.safetensors", "world.toml"])
@pytest.mark.parametrize("make", [make_world, make_wan_world])
def test_a_world_that_was_cloned_without_lfs_says_so(
    tmp_path: Path, make: Callable[[Path], Path], part: str
) -> None:
    folder = make(tmp_path / "bar")
    if (folder / part).exists():
        (folder / part).write_bytes(POINTER)
        with pytest.raises(UserError, match=rf"{part}: a Git LFS pointer"):
            open_world(folder)


def test_weights_of_another_kind_are_told_apart(tmp_path: Path) -> None:
    words = tmp_path / "words.safetensors"
    save_words(words)
    with pytest.raises(
        UserError, match=r"words\.safetensors: a file of the kind 'prompts', and a "
    ):
        open_world(words)
    with pytest.raises(UserError, match="no transformer among these files"):
        import_files([words], tmp_path / "new", ImportPlan())


def test_what_may_be_the_file_is_left_to_its_reader() -> None:
    for head in (
        b"",
        b"version 2 of this\n",
        b'{"weight_map": {}}',
        b"<!-- Markdown -->",
    ):
        assert what_instead(head) == ""
