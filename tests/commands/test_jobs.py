import argparse
import pkgutil
import subprocess
import sys

import pytest

from worldmodel import commands
from worldmodel.__main__ import main
from worldmodel.commands.argument_types import count, minutes, positive

MODULES = {module.name for module in pkgutil.iter_modules(commands.__path__)}
JOBS = sorted(
    name.removesuffix("_") for name in MODULES - {"argument_types", "studies", "bench_wan"}
)


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
