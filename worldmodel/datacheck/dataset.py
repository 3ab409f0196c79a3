"""All files of a folder, in numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.config import UserError
from worldmodel.datacheck.scan import STILL_DEGREES, Scan, scan_file
from worldmodel.datacheck.state_facts import StateFacts, state_facts
from worldmodel.datacheck.timing import MOST_FRAMES, Timing, estimate_timing
from worldmodel.storage.episodes import find_episodes
from worldmodel.system.progress import through

STRETCH = 8  # frames in a row that, if equal, were recorded once and copied


@dataclass(slots=True)
class DataSet:
    """What was found in one folder."""

    folder: Path
    scans: list[Scan]
    unreadable: list[str]  # one sentence each
    clip: int  # frames that training will cut out
    timing: Timing
    state: StateFacts | None = None  # None: no file tells any
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Frames in all readable files together."""
        return sum(scan.frames for scan in self.scans)

    def facts(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        lengths = [scan.frames for scan in self.scans] or [0]
        held, mouse, idle = action_shares(self.scans)
        return {
            "folder": str(self.folder),
            "files": len(self.scans) + len(self.unreadable),
            "unreadable": self.unreadable,
            "frames": self.frames,
            "minutes": round(sum(scan.frames / scan.rate for scan in self.scans) / 60, 2),
            "lengths": [min(lengths), int(np.median(lengths)), max(lengths)],
            "sizes": {f"{w}x{h}": n for (h, w), n in Counter(s.size for s in self.scans).items()},
            "rates": {f"{rate:g}": n for rate, n in Counter(s.rate for s in self.scans).items()},
            "held": {name: round(share, 4) for name, share in held.items()},
            "idle": round(idle, 4),
            "mouse_degrees": mouse,
            "repeated": round(share_of(self.scans, "repeated"), 4),
            "flat": round(sum(s.flat for s in self.scans) / max(1, self.frames), 4),
            **self.timing.facts(),
            "state": self.state.facts() if self.state else None,
            "errors": self.errors,
            "warnings": self.warnings,
        }


def scan_folder(folder: Path, clip: int, most: int = 0) -> DataSet:
    """Read every file of a folder once, or at most `most` of them."""
    scans, unreadable, motions = [], [], 0
    paths = find_episodes(folder)
    paths = paths[:: -(-len(paths) // most)] if most else paths
    for path in through(paths, desc=folder.name, unit="file"):
        try:
            scan = scan_file(path, keeps_motion=motions < MOST_FRAMES)
        except UserError as error:
            unreadable.append(str(error))
            continue
        motions += len(scan.motion)
        scans.append(scan)
    return DataSet(folder, scans, unreadable, clip, _timing(scans), state_facts(scans))


def overlap(train: DataSet, heldout: DataSet) -> float:
    """Share of the held-out set's moving stretches that are in the other set, frame for frame."""
    known = [_stretches(scan.hashes) for scan in train.scans]
    wanted = [_stretches(scan.hashes) for scan in heldout.scans]
    if not known or not wanted or not sum(map(len, wanted)):
        return 0.0
    return float(np.isin(np.concatenate(wanted), np.concatenate(known)).mean())


def action_shares(scans: Sequence[Scan]) -> tuple[dict[str, float], dict[str, float], float]:
    """Share of the frames in which each button is held, the mouse's travel, the share of idling."""
    total = max(1, sum(len(scan.held) for scan in scans))
    held: Counter[str] = Counter()
    for scan in scans:
        for column, name in enumerate(scan.buttons):
            held[name] += int(scan.held[:, column].sum())
    travel = [np.abs(scan.mouse).max(axis=1, initial=0.0) for scan in scans]
    every = np.concatenate(travel) if travel else np.zeros(0)
    moving = every[every >= STILL_DEGREES]
    p50, p99 = np.percentile(moving, [50, 99]) if len(moving) else (0.0, 0.0)
    mouse = {
        "moving": round(len(moving) / total, 4),
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
    }
    idle = sum(int(scan.idle.sum()) for scan in scans) / total
    return {name: count / total for name, count in held.items()}, mouse, idle


def share_of(scans: Sequence[Scan], what: str) -> float:
    """Share of the frames of which a property of a `Scan` is true."""
    counts = [getattr(scan, what) for scan in scans]
    return sum(int(c.sum()) for c in counts) / max(1, sum(map(len, counts)))


def _timing(scans: Sequence[Scan]) -> Timing:
    """Buttons that not all files name count where they are named."""
    names = sorted({name for scan in scans for name in scan.buttons})
    vectors, motions = [], []
    for scan in scans:
        rows = len(scan.motion)
        if rows:
            vector = np.zeros((rows, len(names) + 2))
            for column, name in enumerate(scan.buttons):
                vector[:, names.index(name)] = scan.held[:rows, column]
            vector[:, -2:] = scan.mouse[:rows]
            vectors.append(vector)
            motions.append(scan.motion.astype(np.float64))
    return estimate_timing(vectors, motions)


def _stretches(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A number for every stretch of frames in which each is another one than the one before."""
    if len(hashes) < STRETCH:
        return np.zeros(0, np.uint64)
    count = len(hashes) - STRETCH + 1
    number = np.zeros(count, np.uint64)
    moves = np.ones(count, np.bool_)
    for i in range(STRETCH):
        number = number * np.uint64(0x9E3779B97F4A7C15) + hashes[i : i + count]  # wraps, as it may
        if i:
            moves &= hashes[i : i + count] != hashes[i - 1 : i - 1 + count]
    return number[moves]
