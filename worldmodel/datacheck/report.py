"""The verdict on a data set: a table for people, one line of JSON for programs.

An error means that training on it cannot begin; a warning, that what is learned may disappoint.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.config import UserError
from worldmodel.datacheck.scan import Scan, scan_file
from worldmodel.datacheck.timing import MOST_FRAMES, Timing, estimate_timing
from worldmodel.episodes import find_episodes

LEAST_IDLE = 0.03  # share; worlds that never saw anybody rest decay when the player does
MOST_FLAT = 0.02  # share of frames of one colour
RATES_AGREE = 0.01  # relative
STRETCH = 8  # frames in a row that, if equal, were recorded once and copied
MOST_LINES = 10  # errors that the table lists
NAMED = 3  # files that a message names before it counts the others


@dataclass(slots=True)
class DataSet:
    """What was found in one folder."""

    folder: Path
    scans: list[Scan]
    unreadable: list[str]  # one sentence each
    clip: int  # frames that training will cut out
    timing: Timing
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """In all readable files."""
        return sum(scan.frames for scan in self.scans)

    def facts(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        lengths = [scan.frames for scan in self.scans] or [0]
        held, mouse, idle = _actions(self.scans)
        return {
            "folder": str(self.folder),
            "files": len(self.scans) + len(self.unreadable),
            "unreadable": self.unreadable,
            "frames": self.frames,
            "minutes": round(sum(scan.frames / scan.rate for scan in self.scans) / 60, 2),
            "lengths": [min(lengths), int(np.median(lengths)), max(lengths)],
            "sizes": {f"{w}x{h}": n for (h, w), n in _count(s.size for s in self.scans).items()},
            "rates": {f"{rate:g}": n for rate, n in _count(s.rate for s in self.scans).items()},
            "held": {name: round(share, 4) for name, share in held.items()},
            "idle": round(idle, 4),
            "mouse_degrees": mouse,
            "repeated": round(_share(self.scans, "repeated"), 4),
            "flat": round(sum(s.flat for s in self.scans) / max(1, self.frames), 4),
            "lag": self.timing.lag,
            "lag_explained": {str(k): round(v, 4) for k, v in self.timing.explained.items()},
            "errors": self.errors,
            "warnings": self.warnings,
        }


def check_folder(folder: Path, clip: int) -> DataSet:
    """Read every file of a folder once."""
    scans, unreadable, motions = [], [], 0
    for path in tqdm(find_episodes(folder), desc=folder.name, unit="file", leave=False):
        try:
            scan = scan_file(path, keeps_motion=motions < MOST_FRAMES)
        except UserError as error:
            unreadable.append(str(error))
            continue
        motions += len(scan.motion)
        scans.append(scan)
    found = DataSet(folder, scans, unreadable, clip, _timing(scans))
    _find_errors(found)
    if scans:
        _find_warnings(found)
    return found


def overlap(train: DataSet, heldout: DataSet) -> float:
    """Share of the held-out set's moving stretches that are in the other set, frame for frame."""
    known = [_stretches(scan.hashes) for scan in train.scans]
    wanted = [_stretches(scan.hashes) for scan in heldout.scans]
    if not known or not wanted or not sum(map(len, wanted)):
        return 0.0
    return float(np.isin(np.concatenate(wanted), np.concatenate(known)).mean())


def describe(data: DataSet) -> list[str]:
    """Lines for people."""
    facts = data.facts()
    errors = data.errors[:MOST_LINES]
    if hidden := len(data.errors) - len(errors):
        errors.append(f"and {hidden} more")
    complaints = [f"  ERROR        {text}" for text in errors]
    complaints += [f"  warning      {text}" for text in data.warnings]
    if not data.scans:
        return [f"{data.folder}", f"  files        {facts['files']}, none readable", *complaints]
    low, middle, high = facts["lengths"]
    mouse = facts["mouse_degrees"]
    held = ", ".join(f"{name} {100 * share:.1f} %" for name, share in facts["held"].items())
    explained = ", ".join(f"{lag:+d}: {100 * v:.1f} %" for lag, v in data.timing.explained.items())
    lag = data.timing.lag
    told = f"cannot be told ({data.timing.why})" if lag is None else f"{lag:+d} frames"
    return [
        f"{data.folder}",
        f"  files        {facts['files']}, {len(data.unreadable)} unreadable",
        f"  frames       {facts['frames']} ({facts['minutes']:g} min); episodes of {low} to {high} "
        f"frames, median {middle}",
        f"  size, rate   {_list(facts['sizes'])}; {_list(facts['rates'])} frames/s",
        f"  held         {held or 'no buttons'}; idle {100 * facts['idle']:.1f} %",
        f"  mouse        moves in {100 * mouse['moving']:.1f} % of the frames; of these p50 "
        f"{mouse['p50']:g}, p99 {mouse['p99']:g} degrees",
        f"  pictures     {100 * facts['repeated']:.1f} % repeat the one before, "
        f"{100 * facts['flat']:.1f} % of one colour",
        f"  actions lag  {told if lag else told.replace('+0 frames', 'none')}"
        + (f"; explained {explained}" if explained else ""),
        *complaints,
    ]


def _find_errors(data: DataSet) -> None:
    add = data.errors.append
    for text in data.unreadable:
        add(text)
    if not data.scans:
        return
    sizes = _count(scan.size for scan in data.scans)
    if len(sizes) > 1:
        usual = max(sizes, key=lambda size: sizes[size])
        others = [scan for scan in data.scans if scan.size != usual]
        add(
            f"frames are {usual[1]} x {usual[0]} in most files, not in {_names(others)} "
            f"({others[0].size[1]} x {others[0].size[0]})"
        )
    rates = [scan.rate for scan in data.scans]
    usual_rate = max(_count(rates), key=rates.count)
    others = [s for s in data.scans if abs(s.rate - usual_rate) > RATES_AGREE * usual_rate]
    if others:
        add(f"{usual_rate:g} frames/s in most files, not in {_names(others)} ({others[0].rate:g})")
    lengths = [len(scan.held) for scan in data.scans]
    if max(lengths) < data.clip:
        add(
            f"no episode is as long as a clip of {data.clip} frames; the longest has {max(lengths)}"
        )
    if sum(scan.flat for scan in data.scans) == data.frames:
        add("every frame is of one colour")


def _find_warnings(data: DataSet) -> None:
    add, scans = data.warnings.append, data.scans
    for scan in scans:
        if scan.frames != scan.rows:
            what = "the video was cut off" if scan.frames < scan.rows else "rows are missing"
            add(f"{scan.path.name}: {scan.frames} frames, {scan.rows} rows of actions ({what})")
    if data.timing.lag:
        side = "after" if data.timing.lag > 0 else "before"
        add(
            f"the picture answers {abs(data.timing.lag)} frame(s) {side} the row of the action "
            "that caused it; row i should hold what led to frame i"
        )
    held, _, idle = _actions(scans)
    if idle < LEAST_IDLE:
        add(
            f"nobody rests: {100 * idle:.1f} % of the frames are idle, {100 * LEAST_IDLE:.0f} % or "
            "more keep a world still when its player is"
        )
    if never := [name for name, share in held.items() if not share]:
        add(f"never pressed: {', '.join(never)}; the world cannot learn what they do")
    if always := [name for name, share in held.items() if share == 1]:
        add(f"always pressed: {', '.join(always)}; the world cannot learn what they do")
    if len(lists := _count(scan.buttons for scan in scans)) > 1:
        kinds = "; ".join(" ".join(names) or "none" for names in lists)
        add(f"files name different buttons ({kinds}); a config must name all that are pressed")
    _find_pictures(data)


def _find_pictures(data: DataSet) -> None:
    add, scans = data.warnings.append, data.scans
    flat, black = sum(s.flat for s in scans), sum(s.black for s in scans)
    if flat > MOST_FLAT * data.frames:
        add(f"{100 * flat / data.frames:.1f} % of the frames are of one colour ({black} black)")
    if _share(scans, "repeated_in_action") > 0.5:
        add("most frames repeat the one before while a key is held; was it recorded too fast?")
    short = [scan for scan in scans if len(scan.held) < data.clip]
    if short and len(short) < len(scans):
        add(f"{_names(short)}: shorter than a clip of {data.clip} frames and so never used")
    by_content: dict[bytes, list[Scan]] = {}
    for scan in scans:
        by_content.setdefault(scan.hashes.tobytes(), []).append(scan)
    for same in by_content.values():
        if len(same) > 1:
            add(f"{_names(same)} hold the same frames")


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


def _actions(scans: Sequence[Scan]) -> tuple[dict[str, float], dict[str, float], float]:
    """Share of the frames in which each button is held, the mouse's travel, the share of idling."""
    total = max(1, sum(len(scan.held) for scan in scans))
    held: Counter[str] = Counter()
    for scan in scans:
        for column, name in enumerate(scan.buttons):
            held[name] += int(scan.held[:, column].sum())
    travel = [np.abs(scan.mouse).max(axis=1, initial=0.0) for scan in scans]
    every = np.concatenate(travel) if travel else np.zeros(0)
    moving = every[every >= 0.1]
    p50, p99 = np.percentile(moving, [50, 99]) if len(moving) else (0.0, 0.0)
    mouse = {
        "moving": round(len(moving) / total, 4),
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
    }
    idle = sum(int(scan.idle.sum()) for scan in scans) / total
    return {name: count / total for name, count in held.items()}, mouse, idle


def _share(scans: Sequence[Scan], what: str) -> float:
    counts = [getattr(scan, what) for scan in scans]
    return sum(int(c.sum()) for c in counts) / max(1, sum(map(len, counts)))


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


def _count(values: Any) -> Counter[Any]:
    return Counter(values)


def _list(table: dict[str, int]) -> str:
    return ", ".join(table) or "none"


def _names(scans: Sequence[Scan]) -> str:
    names = ", ".join(scan.path.name for scan in scans[:NAMED])
    return names + (f" and {len(scans) - NAMED} more" if len(scans) > NAMED else "")
