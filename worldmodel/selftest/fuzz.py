"""Random damage to right files: every reader answers with a sentence, in time, in little memory."""

import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worldmodel.selftest.targets import FuzzError, Target, dictionary

LONGEST_READ = 5.0  # seconds for one file


@dataclass(slots=True)
class Fuzzed:
    """What a while of damage did."""

    inputs: int = 0
    accepted: int = 0  # still right after the damage
    slowest: float = 0.0  # seconds
    broken: list[str] = field(default_factory=list)


def fuzz(found: Sequence[Target], seconds: float, seed: int = 0) -> Fuzzed:
    """Damage and read files for so long, each target in turn."""
    done, chance = Fuzzed(), random.Random(seed)
    pieces = dictionary()
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, _decoders_silenced():
        while time.monotonic() < ends:
            target = found[done.inputs % len(found)]
            data = mutate(chance.choice(target.seeds), pieces, chance)
            _try(target, Path(folder), data, done)
    return done


@contextlib.contextmanager
def _decoders_silenced() -> Iterator[None]:
    """Libraries that decode pictures complain on the terminal itself, not through Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _try(target: Target, folder: Path, data: bytes, done: Fuzzed) -> None:
    fault, accepted, took = _read(target, folder, data)
    if took > LONGEST_READ:  # or was it the machine that slept
        fault, accepted, took = _read(target, folder, data)
    if took > LONGEST_READ:
        fault = f"took {took:.1f} s"
    if fault:
        done.broken.append(f"{target.name}: {fault}")
        (Path(tempfile.gettempdir()) / f"worldmodel-broken-{target.file}").write_bytes(data)
    done.accepted += accepted
    done.inputs, done.slowest = done.inputs + 1, max(done.slowest, took)


def _read(target: Target, folder: Path, data: bytes) -> tuple[str, bool, float]:
    """What broke, whether the bytes were accepted, and how long that took."""
    fault, accepted, began = "", False, time.monotonic()
    try:
        accepted = target.read(folder, data)
    except Exception as error:  # noqa: BLE001  # this is what is looked for
        fault = f"{type(error).__name__}: {str(error)[:200]}"
    return fault, accepted, time.monotonic() - began


def mutate(data: bytes, pieces: Sequence[bytes], chance: random.Random) -> bytes:
    """One to four kinds of damage to a file."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + chance.choice(pieces) + data[at:]
            case 2:
                end = min(len(data), at + chance.randint(1, 30))
                data = data[:at] + data[end:]
            case 3:
                end = min(len(data), at + chance.randint(1, 8))
                data = data[:at] + chance.randbytes(end - at) + data[end:]
            case 4:
                end = min(len(data), at + chance.randint(1, 60))
                data = data[:at] + data[at:end] * chance.randint(2, 5) + data[end:]
            case 5 if data:
                flipped = bytearray(data)
                flipped[at % len(data)] ^= 1 << chance.randrange(8)
                data = bytes(flipped)
            case _:
                data = _replace_number(data, chance.choice(pieces), chance)
    return data


def _replace_number(data: bytes, piece: bytes, chance: random.Random) -> bytes:
    """Another thing where a number stands in a text."""
    digits = [i for i, byte in enumerate(data[:5000]) if 48 <= byte < 58]
    if not digits:
        return data
    at = chance.choice(digits)
    end = at
    while end < len(data) and (48 <= data[end] < 58 or data[end] in b".-e"):
        end += 1
    return data[:at] + piece + data[end:]


def check(done: Fuzzed) -> None:
    """A `FuzzError` that shows the first of what broke."""
    if done.broken:
        count = f"{len(done.broken)} of {done.inputs}"
        raise FuzzError(f"{count} files broke a reader: {done.broken[0]}")
