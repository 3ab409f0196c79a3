"""What is wrong with a data set, in sentences.

An error means that training on it cannot begin; a warning, that what is learned may disappoint.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from worldmodel.datacheck.dataset import DataSet, action_shares, overlap, scan_folder, share_of
from worldmodel.datacheck.scan import Scan
from worldmodel.datacheck.state_facts import StateFacts, Turning
from worldmodel.storage.episode import RATES_AGREE
from worldmodel.storage.episodes import HALVED, find_episodes, told_sizes
from worldmodel.storage.footage import left_out
from worldmodel.system.printable import counted

LEAST_IDLE = 0.03  # share; worlds that never saw anybody rest decay when the player does
MOST_FLAT = 0.02  # share of frames of one colour
MOST_SHARED = 0.02  # of the held-out stretches
FOLLOWS = 0.8  # share of a heading's turning that the mouse explains
AS_FAR = 0.1  # of a degree for each of the mouse
NAMED = 3  # files that a message names before it counts the others


def check_folder(folder: Path, clip: int, most: int = 0) -> DataSet:
    """Read a folder and judge it; training will cut clips of `clip` frames out of it.

    At most `most` of its files are read, from all over it; 0: all.
    """
    found = scan_folder(folder, clip, most)
    _find_errors(found)
    if found.scans:
        _find_warnings(found)
    if warning := left_out(folder, find_episodes(folder)):
        found.warnings.append(warning)
    return found


def check_apart(train: DataSet, heldout: DataSet) -> None:
    """Warn if what is held out was trained on; in a small game a little comes again by itself."""
    share = overlap(train, heldout)
    if share > MOST_SHARED:
        text = f"{100 * share:.1f} % of it is in {train.folder} too, frame for frame"
        heldout.warnings.append(text)


def _find_errors(data: DataSet) -> None:
    add = data.errors.append
    for text in data.unreadable:
        add(text)
    if not data.scans:
        return
    sizes = Counter(scan.size for scan in data.scans)
    if len(sizes) > 1:
        usual = max(sizes, key=lambda size: sizes[size])
        others = [scan for scan in data.scans if scan.size != usual]
        add(
            f"frames are {usual[1]} x {usual[0]} in most files, not in {_names(others)} "
            f"({others[0].size[1]} x {others[0].size[0]})"
        )
    odd = [scan for scan in data.scans if any(side % 2 for side in scan.size)]
    if odd:
        add(
            f"{_names(odd)}: frames of {odd[0].size[1]} x {odd[0].size[0]} cannot be halved even "
            f"once by an autoencoder; {told_sizes(odd[0].size)}"
        )
    rates = [scan.rate for scan in data.scans]
    usual_rate = max(Counter(rates), key=rates.count)
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
    if lag := data.timing.lag:
        add(
            f"the picture answers {_late(lag, 'frame')} the row of the action that caused it; row "
            "i should hold what led to frame i"
        )
    size = scans[0].size
    if not any(side % 2 for side in size) and any(side % HALVED for side in size):
        add(f"frames of {size[1]} x {size[0]} suit no config that ships; {told_sizes(size)}")
    held, _, idle = action_shares(scans)
    if idle < LEAST_IDLE:
        add(
            f"nobody rests: {100 * idle:.1f} % of the frames are idle, {100 * LEAST_IDLE:.0f} % or "
            "more keep a world still when its player is"
        )
    if never := [name for name, share in held.items() if not share]:
        add(f"never pressed: {', '.join(never)}; the world cannot learn what they do")
    if always := [name for name, share in held.items() if share == 1]:
        add(f"always pressed: {', '.join(always)}; the world cannot learn what they do")
    if len(lists := Counter(scan.buttons for scan in scans)) > 1:
        kinds = "; ".join(" ".join(names) or "none" for names in lists)
        add(f"files name different buttons ({kinds}); a config must name all that are pressed")
    _find_pictures(data)
    if data.state:
        _find_state(data.state, data)


def _find_pictures(data: DataSet) -> None:
    add, scans = data.warnings.append, data.scans
    flat, black = sum(s.flat for s in scans), sum(s.black for s in scans)
    if flat > MOST_FLAT * data.frames:
        add(f"{100 * flat / data.frames:.1f} % of the frames are of one colour ({black} black)")
    if share_of(scans, "repeated_in_action") > 0.5:
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


def _find_state(state: StateFacts, data: DataSet) -> None:
    add = data.warnings.append
    telling = sum(scan.state is not None for scan in data.scans)
    if telling < len(data.scans):
        add(f"{telling} of {len(data.scans)} files tell their state; the others tell none")
    if state.kinds > 1:
        add(
            f"files tell different states: {state.files} of {telling} have "
            f"{', '.join(state.numbers)}, and only these are judged"
        )
    if never := [name for name, number in state.numbers.items() if number.unknown == 1]:
        add(f"never known: {', '.join(never)} of the state")
    for jumps in state.jumps:
        add(
            f"{', '.join(jumps.names)} of the state: {counted(jumps.count, 'jump')}, the largest "
            f"of {jumps.largest:.4g} {jumps.unit}".rstrip()
            + f", the first in {jumps.first} (a teleport, a death, or a new episode in the file)"
        )
    for turning in state.turnings:
        _find_turning(turning, data)
    if lag := state.timing.lag:
        add(
            f"the picture moves {_late(lag, 'frame')} the row of the state that changes with it; "
            "row i should hold what frame i shows"
        )


def _find_turning(turning: Turning, data: DataSet) -> None:
    """A heading in degrees that grows to the left follows the mouse in the same row."""
    add, lag = data.warnings.append, turning.lag
    share = turning.explained[lag]
    if share < FOLLOWS:
        add(
            f"{turning.name} does not follow the mouse: it explains {100 * share:.0f} % of the "
            "turning; if the mouse turns the player, one of the two is wrong"
        )
    elif lag:
        add(f"{turning.name} follows the mouse {_late(lag, 'row')} its own")
    elif abs(turning.degrees + 1) > AS_FAR:
        add(
            f"{turning.name} goes {turning.degrees:+.2f} for each degree of the mouse to the "
            "right; expected -1.00: degrees that grow to the left"
        )


def _late(lag: int, of: str) -> str:
    return f"{counted(abs(lag), of)} {'after' if lag > 0 else 'before'}"


def _names(scans: Sequence[Scan]) -> str:
    names = ", ".join(scan.path.name for scan in scans[:NAMED])
    return names + (f" and {len(scans) - NAMED} more" if len(scans) > NAMED else "")
