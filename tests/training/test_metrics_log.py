"""What a run writes down for people."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.test_limits import SPARSE
from worldmodel.recipe.ledger import FILE, Ledger
from worldmodel.recipe.outcome import UNKNOWN, read_verdict
from worldmodel.storage.files import FileReadError
from worldmodel.system.limits import LARGEST_LOG, LARGEST_RECORD, LONGEST_LINE
from worldmodel.training.metrics_log import LOG, MetricsLog, last_figures, read_rows, readable
from worldmodel.training.run_stage import SUMMARY
from worldmodel.training.shards import add_to_summary


@pytest.mark.parametrize(
    ("loss", "shown"),
    [(0.00031234, "0.000312"), (1.83253, "1.83"), (412.25, "412"), (12345.6, "12346")],
)
def test_a_loss_has_three_digits_that_count_however_small_it_is(loss: float, shown: str) -> None:
    assert readable(loss) == shown


@SPARSE
def test_a_log_larger_than_any_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / LOG).open("wb") as file:
        file.truncate(LARGEST_LOG + 1)
    for read in (lambda: last_figures(tmp_path), lambda: MetricsLog(tmp_path, 0)):
        with pytest.raises(FileReadError, match=r"metrics\.jsonl: 256\.0 MB, at most 256\.0 MB"):
            read()


def test_lines_that_no_run_writes_are_left_out(tmp_path: Path) -> None:
    lines = ['{"step": 1}', '{"step": 2, "x": "' + "x" * LONGEST_LINE + '"}', "[" * 100_000]
    (tmp_path / LOG).write_text("\n".join([*lines, "[3]", '{"step": 4}', '{"st']))
    assert [row["step"] for row in read_rows(tmp_path / LOG)] == [1, 4]


@pytest.mark.parametrize(
    "text",
    ["{" + " " * LARGEST_RECORD + "}", "[1]", '{"a": ' + "[" * 100_000, "{", "9" * 5000],
)
def test_what_a_run_says_of_itself_is_a_table_of_a_sane_size_or_a_sentence(
    tmp_path: Path, text: str
) -> None:
    for name in (SUMMARY, FILE):
        (tmp_path / name).write_text(text)
    with pytest.raises(FileReadError, match=r"summary\.json: (1\.0 MB|not JSON|a list|an? int)"):
        add_to_summary(tmp_path, {}, {"minutes": 1.0}, {}, made=1)
    with pytest.raises(ValueError, match=r"progress\.json: .*; remove it"):
        Ledger.open(tmp_path)
    assert read_verdict(tmp_path).sentence == UNKNOWN


def test_figures_of_a_summary_that_are_no_numbers_do_not_count(tmp_path: Path) -> None:
    (tmp_path / SUMMARY).write_text('{"minutes": "long", "petaflops": 2.5}')
    work = {"minutes": 1.0, "petaflops": 1.0}
    assert add_to_summary(tmp_path, {}, work, {}, made=1) == {"minutes": 1.0, "petaflops": 3.5}


FULL = """
import resource, sys, time
from pathlib import Path
from worldmodel.storage.files import FileWriteError
from worldmodel.training.metrics_log import MetricsLog

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
with MetricsLog(Path(sys.argv[1]), 0) as log:
    for step in range(1000):
        try:
            log.write(step, {"loss": 1.0})
        except FileWriteError as error:
            print(error)
            break
    time.sleep(0.5)  # TensorBoard writes in a thread
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("room", [0, 2000])
def test_a_full_disk_is_a_sentence_and_no_traceback_of_tensorboard(
    room: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "metrics.jsonl: cannot be written" in done.stdout
