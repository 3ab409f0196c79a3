"""Metrics of a run: JSON lines always, TensorBoard events where it is installed."""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import IO

from worldmodel.files import FileWriteError, write_atomically


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
        if not writes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line and json.loads(line)["step"] <= step]
            write_atomically(path, "".join(f"{line}\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the extra [train] is not installed: the JSON lines say it all
            pass
        else:
            self._board = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """One line for this step."""
        if self._file is None:
            return
        finite = {key: v if math.isfinite(v) else None for key, v in figures.items()}
        try:
            self._file.write(json.dumps({"step": step, **finite}) + "\n")
            self._file.flush()
        except OSError as error:
            raise FileWriteError(f"{self._file.name}: cannot be written: {error}") from error
        if self._board is not None:
            for key, value in figures.items():
                self._board.add_scalar(key, value, step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
