"""What training took, from the records that runs leave; the records are kept beside the figures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.distillation.rows import Comparison
from worldmodel.config import ConfigError
from worldmodel.storage.files import read_file, read_text, write_atomically
from worldmodel.training.train_loop import CONFIG

SUMMARY = "summary.json"
RECORDS = (CONFIG, SUMMARY, "metrics.jsonl")
LARGEST = 64 << 20  # bytes of a record


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run or of several together."""

    minutes: float
    petaflops: float  # 10¹⁵ operations
    megabytes: float  # of what was computed beforehand and stored to be trained on


def keep_records(comparison: Comparison) -> None:
    """Copy the config, summary and metrics of every finished run that is here."""
    for run in comparison.runs:
        if not (run / SUMMARY).is_file():
            continue  # not run, or not finished: what an earlier run left stays
        for name in RECORDS:
            if (run / name).is_file():
                content = read_file(run / name, LARGEST)
                target = comparison.out / "runs" / run.name / name
                if not target.is_file() or read_file(target, LARGEST) != content:
                    write_atomically(target, content)


def cost_of(runs: Sequence[Path], out: Path) -> Cost | None:
    """Of several runs together; nothing if one has left no record."""
    summaries = [_summary(out / "runs" / run.name / SUMMARY) for run in runs]
    found = [summary for summary in summaries if summary is not None]
    if not found or len(found) < len(runs):
        return None

    def total(key: str) -> float:
        return sum(summary.get(key, 0.0) for summary in found)

    return Cost(total("minutes"), total("petaflops"), total("megabytes"))


def _summary(path: Path) -> dict[str, float] | None:
    if not path.is_file():
        return None
    try:
        table = json.loads(read_text(path, LARGEST))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: expected a table of what the run took")
    return {key: float(value) for key, value in table.items() if isinstance(value, int | float)}
