"""The state that a data set tells beside its frames: what its numbers do, and whether they fit.

A number is judged by itself (range, largest step, how often it is not known), all positions of one
unit together as a place (does it jump?), a heading beside the mouse (does it follow?), and the
change of place and heading beside the motion of the picture (do they stand in the same row?).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.datacheck.scan import Scan
from worldmodel.datacheck.timing import LAGS, Numbers, Timing, estimate_timing
from worldmodel.state_spec import FULL_TURN, Kind, StateNumber, StateTrack

FAR = 8.0  # a step so many times as long as nine in ten are is a jump
LEAST_TURNS = 50  # frames in which the mouse moves
TURNING = 0.5  # degrees of the mouse, at least
MOVES: tuple[Kind, ...] = ("heading", "position")


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberFacts:
    """One number in all frames; a heading's and a phase's steps go the short way round."""

    kind: Kind
    unit: str
    low: float
    high: float
    step: float  # the largest from one frame to the next
    unknown: float  # share of the frames

    @property
    def is_constant(self) -> bool:
        """Whether it told nothing; also one that was never known."""
        return self.low == self.high


@dataclass(frozen=True, kw_only=True, slots=True)
class Jumps:
    """Steps of a place that are far longer than its others."""

    names: tuple[str, ...]
    unit: str
    count: int
    largest: float
    first: str  # file and frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Turning:
    """How a heading answers the mouse."""

    name: str
    degrees: float  # for each degree of the mouse to the right; −1 is right
    explained: dict[int, float]  # rows that the heading comes later -> share of its variance

    @property
    def lag(self) -> int:
        """The shift at which the mouse explains most."""
        return _best(self.explained)


@dataclass(frozen=True, kw_only=True, slots=True)
class StateFacts:
    """The state of the files that tell the same numbers, which most of those that tell any do."""

    files: int  # that tell these
    kinds: int  # of different states in the folder
    numbers: dict[str, NumberFacts] = field(default_factory=dict)
    jumps: Sequence[Jumps] = ()
    turnings: Sequence[Turning] = ()
    timing: Timing

    def facts(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {
            "files": self.files,
            "numbers": {
                name: {k: v if isinstance(v, str) else round(v, 4) for k, v in asdict(one).items()}
                for name, one in self.numbers.items()
            },
            "jumps": {", ".join(j.names): j.count for j in self.jumps},
            "degrees_per_mouse": {t.name: round(t.degrees, 3) for t in self.turnings},
            **self.timing.facts(),
        }


def state_facts(scans: Sequence[Scan]) -> StateFacts | None:
    """What the files' states are worth; None where no file tells any."""
    tracked = [(scan, scan.state) for scan in scans if scan.state is not None and len(scan.state)]
    if not tracked:
        return None
    meanings = Counter(track.spec.meaning for _, track in tracked)
    usual = max(meanings, key=lambda meaning: meanings[meaning])
    tracked = [(scan, track) for scan, track in tracked if track.spec.meaning == usual]
    tracks = [track for _, track in tracked]
    numbers = tracks[0].spec.numbers
    return StateFacts(
        files=len(tracked),
        kinds=len(meanings),
        numbers={name: _number(tracks, name, number) for name, number in numbers.items()},
        jumps=_jumps(tracked),
        turnings=[
            turning
            for name, number in numbers.items()
            if number.kind == "heading" and (turning := _turning(tracked, name))
        ],
        timing=_timing(tracked),
    )


def steps(values: NDArray[np.float32], number: StateNumber) -> Numbers:
    """How far a number n went into each frame but the first, the short way round: f−1."""
    change = np.diff(values.astype(np.float64))
    around = FULL_TURN if number.kind == "heading" else number.high - number.low
    if number.kind in ("heading", "phase"):
        change = (change + around / 2) % around - around / 2
    return change


def _number(tracks: Sequence[StateTrack], name: str, number: StateNumber) -> NumberFacts:
    columns = [track.column(name) for track in tracks]
    every = np.concatenate(columns)
    known = every[~np.isnan(every)]
    far = np.abs(np.concatenate([steps(column, number) for column in columns]))
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    return NumberFacts(
        kind=number.kind,
        unit=number.unit,
        low=low,
        high=high,
        step=float(np.nan_to_num(far).max(initial=0.0)),
        unknown=1 - len(known) / len(every),
    )


def _jumps(tracked: Sequence[tuple[Scan, StateTrack]]) -> list[Jumps]:
    """Jumps of each place: the positions of one unit."""
    numbers = tracked[0][1].spec.numbers
    units = {number.unit: None for number in numbers.values() if number.kind == "position"}
    found = []
    for unit in units:
        names = tuple(
            name for name, n in numbers.items() if n.kind == "position" and n.unit == unit
        )
        far = [_far(track, names) for _, track in tracked]
        every = np.concatenate(far)
        moving = every[every > 0]
        most = FAR * float(np.quantile(moving, 0.9)) if len(moving) else 0.0
        if len(moving) and (every > most).any():
            scan, steps_in = next(
                (s, f) for (s, _), f in zip(tracked, far, strict=True) if (f > most).any()
            )
            found.append(
                Jumps(
                    names=names,
                    unit=unit,
                    count=int((every > most).sum()),
                    largest=float(every.max()),
                    first=f"{scan.path.name}, frame {int(np.argmax(steps_in > most)) + 1}",
                )
            )
    return found


def _far(track: StateTrack, names: Sequence[str]) -> Numbers:
    """How far a place went into each frame but the first, 0 where it is not known: f−1."""
    numbers = track.spec.numbers
    moved = np.stack([steps(track.column(name), numbers[name]) for name in names])
    return np.nan_to_num(np.sqrt((moved**2).sum(axis=0)))


def _turning(tracked: Sequence[tuple[Scan, StateTrack]], name: str) -> Turning | None:
    """None where the mouse hardly moves."""
    pairs = []
    for scan, track in tracked:
        turned = steps(track.column(name), track.spec.numbers[name])
        pairs.append((scan.mouse[1 : len(track), 0].astype(np.float64), turned))
    if sum(int((np.abs(mouse) > TURNING).sum()) for mouse, _ in pairs) < LEAST_TURNS:
        return None
    fits = {lag: _fit(pairs, lag) for lag in LAGS}
    explained = {lag: share for lag, (_, share) in fits.items()}
    return Turning(name=name, degrees=fits[_best(explained)][0], explained=explained)


def _fit(pairs: Sequence[tuple[Numbers, Numbers]], lag: int) -> tuple[float, float]:
    """Degrees turned for each of the mouse `lag` rows before, and the share that this explains."""
    mouse = np.concatenate([m[: len(m) - lag] if lag >= 0 else m[-lag:] for m, _ in pairs])
    turned = np.concatenate([t[lag:] if lag >= 0 else t[:lag] for _, t in pairs])
    known = ~np.isnan(turned)
    mouse, turned = mouse[known], turned[known]
    slope = float(mouse @ turned / max(1e-9, float(mouse @ mouse)))
    rest = turned - slope * mouse
    return slope, max(0.0, 1 - float(rest @ rest) / max(1e-9, float(turned @ turned)))


def _best(explained: dict[int, float]) -> int:
    return max(explained, key=lambda lag: explained[lag])


def _timing(tracked: Sequence[tuple[Scan, StateTrack]]) -> Timing:
    """Whether the picture moves in the row in which place and heading do."""
    kinds = {number.kind for number in tracked[0][1].spec.numbers.values()}
    if not kinds & set(MOVES):
        return Timing(None, {}, "it has neither a position nor a heading")
    moved, motions = [], []
    for scan, track in tracked:
        rows = len(scan.motion)
        if rows:
            moved.append(_moved(track)[:rows])
            motions.append(scan.motion.astype(np.float64))
    return estimate_timing(moved, motions, "changes of the state")


def _moved(track: StateTrack) -> Numbers:
    """Change of every heading and position into each row, along the view where both are: f v."""
    numbers = track.spec.numbers
    names = {kind: [k for k, v in numbers.items() if v.kind == kind] for kind in MOVES}
    moving = [name for kind in MOVES for name in names[kind]]
    change = {name: steps(track.column(name), numbers[name]) for name in moving}
    if names["heading"] and len(names["position"]) > 1:
        x, y = names["position"][:2]
        view = np.deg2rad(track.column(names["heading"][0])[1:].astype(np.float64))
        ahead = change[x] * np.cos(view) + change[y] * np.sin(view)
        aside = change[x] * np.sin(view) - change[y] * np.cos(view)
        change |= {x: ahead, y: aside}
    table = np.zeros((len(track), len(change)))
    table[1:] = np.nan_to_num(np.stack(list(change.values()), axis=1))
    return table
