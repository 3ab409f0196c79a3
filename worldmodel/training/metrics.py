"""Metrics of a run: JSON lines always, TensorBoard events where it is installed."""

import json
from pathlib import Path
from types import TracebackType
from typing import IO


class MetricsLog:
    """Appends figures to `metrics.jsonl` and to TensorBoard, side by side."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the extra [train] is not installed: the JSON lines say it all
            self._board = None
        else:
            self._board = SummaryWriter(str(folder))

    def write(self, step: int, figures: dict[str, float]) -> None:
        """One line for this step."""
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()
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
        self._file.close()
        if self._board is not None:
            self._board.close()
