import argparse
import errno
import json
import math
import os
import pkgutil
import subprocess
import sys

import pytest

from worldmodel import __version__, commands
from worldmodel.__main__ import main
from worldmodel.commands.argument_types import count, minutes, positive
from worldmodel.config import UserError
from worldmodel.system.printable import tell_json
from worldmodel.worlds.run_settings import RunSettings

MODULES = {module.name for module in pkgutil.iter_modules(commands.__path__)}
PARTS = {"argument_types", "studies", "flags_of_modes"}
JOBS = sorted(name.removesuffix("_") for name in MODULES - PARTS)


@pytest.mark.parametrize("job", JOBS)
def test_every_module_is_a_job_that_explains_itself(
    job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([job, "--help"])
    assert left.value.code == 0
    assert f"usage: worldmodel {job}" in capsys.readouterr().out


def test_nothing_heavy_is_imported_before_a_job_runs() -> None:
    code = (
        "import sys; from worldmodel.__main__ import make_parser; make_parser(); "
        "print([m for m in ('torch', 'pygame', 'cv2', 'av', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_numbers_beyond_their_range_are_refused() -> None:
    assert (count("0"), positive("7"), minutes("0.5")) == (0, 7, 0.5)
    for read, text in [(count, "-1"), (count, str(2**31)), (positive, "0"), (minutes, "nan")]:
        with pytest.raises(argparse.ArgumentTypeError):
            read(text)


@pytest.mark.parametrize("job", ["train x", "make x", "ideas x", "bench", "serve"])
def test_nobody_starts_a_million_threads(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*job.split(), "--threads", "1000000"])
    assert "more than 1024 at once" in capsys.readouterr().err
    with pytest.raises(UserError, match="from 0 to 1024"):
        RunSettings(threads=1_000_000)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "n\x1b[2J"),
            "n?[2J: File name too long",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError("Unable to allocate 9 GiB"), "not enough memory: Unable to allocate 9 GiB"),
    ],
)
def test_what_the_machine_refuses_is_a_sentence(
    error: Exception,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr("worldmodel.worlds.find.list_all_worlds", refuse)
    assert main(["worlds"]) == 2
    assert capsys.readouterr().err == f"worldmodel: {told}\n"
    monkeypatch.setattr("worldmodel.game.launch.Launch", refuse)
    assert main(["play"]) == 2
    assert capsys.readouterr().err == f"play: {told}\n"


def test_help_says_no_default_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    for job in JOBS:
        with pytest.raises(SystemExit):
            main([job, "--help"])
        said = capsys.readouterr().out
        assert "(default: None)" not in said, job
        assert "(default: False)" not in said, job


def test_json_stands_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worlds", "--json"]) == 0
    said = capsys.readouterr()
    worlds = json.loads(said.out)["worlds"]
    assert [world["name"] for world in worlds] == [
        "car-racing",
        "doom-places",
        "doom-rooms",
        "doom-siege",
    ]
    assert all(world["title"] in said.err for world in worlds)  # the table, for people


def test_numbers_that_json_does_not_know_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    tell_json({"psnr": [math.inf, 1.5], "ssim": math.nan})
    assert capsys.readouterr().out == '{"psnr": [null, 1.5], "ssim": null}\n'


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"worldmodel {__version__}\n"


def test_no_library_writes_beside_the_json() -> None:
    code = (
        "from worldmodel.__main__ import main; main(['worlds', '--json']); "
        "import pygame, cv2, torch"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYGAME_HIDE_SUPPORT_PROMPT"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert list(json.loads(done.stdout)) == ["worlds"]
