"""Metrics of a run: JSON lines always, TensorBoard events where it is installed."""

import contextlib
import io
import json
import math
import threading
from pathlib import Path
from typing import IO, Any

from worldmodel.storage.files import FileWriteError, read_file, write_atomically
from worldmodel.system.encoding import decode_text
from worldmodel.system.limits import LARGEST_LOG, LONGEST_LINE

LOG = "metrics.jsonl"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; what a full disk or a lost power left of a line is left out.

    A `FileReadError` if the file is larger than any log, or none.
    """
    rows = []
    for line in io.BytesIO(read_file(path, LARGEST_LOG)):
        try:
            row = json.loads(decode_text(line)) if len(line) <= LONGEST_LINE else None
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            rows.append(row)
    return rows


def last_figures(folder: Path) -> dict[str, float | None]:
    """Each figure of a run as it was logged last; None for one that was no number."""
    found: dict[str, float | None] = {}
    for row in read_rows(folder / LOG) if (folder / LOG).is_file() else ():
        found |= {k: v if isinstance(v, int | float) else None for k, v in row.items()}
    return found


def readable(loss: float) -> str:
    """A loss for people: three digits that count, however small it is."""
    return f"{loss:.0f}" if 1000 <= abs(loss) < 1e6 else f"{loss:.3g}"


class MetricsLog:
    """Appends figures to `metrics.jsonl` and to TensorBoard, side by side."""

    def __init__(self, folder: Path, step: int, *, writes: bool = True) -> None:
        """Go on from `step`: what a killed run logged after its last save is forgotten.

        Of several processes only one writes.
        """
        self._file: IO[str] | None = None
        self._board = None
        self._told_before = threading.excepthook
        if not writes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG
        if path.exists():
            kept = [json.dumps(row) for row in read_rows(path) if row["step"] <= step]
            write_atomically(path, "".join(f"{line}\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the extra [train] is not installed: the JSON lines say it all
            return
        threading.excepthook = self._hear
        with contextlib.suppress(OSError):  # a full disk: what is to be kept says so
            self._board = SummaryWriter(str(folder), purge_step=step + 1)

    def _hear(self, failed: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread; a full disk there is no traceback on the terminal."""
        is_its_own = type(failed.thread).__module__.startswith("tensorboard.")
        if not (is_its_own and isinstance(failed.exc_value, OSError)):
            self._told_before(failed)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Write the figures of one step, on one line."""
        if self._file is None:
            return
        finite = {key: v if math.isfinite(v) else None for key, v in figures.items()}
        try:
            self._file.write(json.dumps({"step": step, **finite}) + "\n")
            self._file.flush()
        except OSError as error:
            reason = error.strerror or error
            raise FileWriteError(f"{self._file.name}: cannot be written: {reason}") from error
        if self._board is not None:
            with contextlib.suppress(OSError):  # a full disk: the lines above say it all
                for key, value in figures.items():
                    self._board.add_scalar(key, value, step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk; `write` has said so
                self._file.close()
        if self._board is not None:
            with contextlib.suppress(OSError):
                self._board.close()
        threading.excepthook = self._told_before
