"""A long measurement, part by part: what is being done, how long it took, what is known so far.

    parts = KeptParts(3, out, say, stamp)
    near = parts.take("next_frame", "next frame, 5 samplers", measure)
    parts.keep("next_frame", {...})     # on disk from here on, whatever happens afterwards

What a part gave is in `out/parts`, and is not measured again while the stamp is the same: the
settings, the world, the code.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.files import plain, write_atomically
from worldmodel.storage.save_tensors import save_tensors

FILE, FOLDER = "figures.json", "parts"
T = TypeVar("T")


def say_nothing(line: str) -> None:
    """For who calls as a library."""
    del line


class KeptParts:
    """Counts the parts that begin, and writes every figure as soon as it is known."""

    def __init__(
        self,
        total: int,
        out: Path | None,
        say: Callable[[str], None],
        stamp: str = "",
        kinds: Iterable[type] = (),  # what parts give is made of: dataclasses
    ) -> None:
        self.total, self.out, self.say, self.stamp = total, out, say, stamp
        self.kinds = {kind.__name__: kind for kind in kinds}
        self.known: dict[str, Any] = {}
        self._begun = 0

    def take(self, name: str, label: str, measure: Callable[[], T]) -> T:
        """What a part gives: measured now, or before it was stopped the last time."""
        self._begun += 1
        place, began = f"[{self._begun}/{self.total}]", time.perf_counter()
        if (kept := self._load(name)) is not None:
            self.say(f"{place} {label}: measured before")
            return kept[0]
        self.say(f"{place} {label} …")
        value = measure()
        if self.out is not None:
            tensors, found = to_plain(value)
            header = {"stamp": self.stamp, "value": found}
            save_tensors(self._path(name), tensors, header)
        self.say(f"{place} {label}: {time.perf_counter() - began:.0f} s")
        return value

    def skip(self, label: str) -> None:
        """A part that led to one that is kept."""
        self._begun += 1
        self.say(f"[{self._begun}/{self.total}] {label}: not needed again")

    def is_kept(self, name: str) -> bool:
        """Whether a part need not be measured."""
        return self._load(name) is not None

    def forget(self, name: str) -> None:
        """Remove what a part gave: nothing needs it any more, and it is large."""
        self._path(name).unlink(missing_ok=True)

    def keep(self, name: str, figures: Any) -> None:
        """Write a figure beside those that are known already."""
        self.known[name] = figures
        if self.out is not None:
            content = {**self.known, "parts": f"{self._begun} of {self.total}"}
            write_atomically(self.out / FILE, (json.dumps(content, indent=1) + "\n").encode())

    def begin(self) -> None:
        """Make room: parts of another world, of other settings or code are of no use here."""
        if self.out is None:
            return
        folder = self.out / FOLDER
        stamp = folder / "stamp.txt"
        if not stamp.is_file():
            if folder.is_dir() and any(folder.iterdir()):
                raise UserError(
                    f"{folder}: holds files that no evaluation left there; give another --out"
                )
        elif stamp.read_bytes() == self.stamp.encode():
            return
        for part in folder.glob("*.safetensors"):
            part.unlink()
        write_atomically(stamp, self.stamp.encode())

    def _path(self, name: str) -> Path:
        assert self.out is not None
        return self.out / FOLDER / f"{plain(name)}.safetensors"

    def _load(self, name: str) -> tuple[Any] | None:
        """A part's value in a tuple, for a part may give nothing."""
        if self.out is None or not self._path(name).is_file():
            return None
        try:
            tensors, header = load_tensors(self._path(name))
            if header["stamp"] == self.stamp:
                return (from_plain(header["value"], tensors, self.kinds),)
        except (UserError, LookupError, TypeError, ValueError):  # broken: it is measured again
            pass
        return None


def to_plain(value: Any) -> tuple[dict[str, Tensor], Any]:
    """The tensors in a value by name, and what JSON can hold of it."""
    tensors: dict[str, Tensor] = {}

    def plain(part: Any) -> Any:
        name = str(len(tensors))
        if isinstance(part, Tensor):
            tensors[name] = part
            return ["tensor", name]
        if isinstance(part, np.ndarray):
            tensors[name] = torch.from_numpy(np.ascontiguousarray(part))
            return ["array", name]
        if is_dataclass(part):
            inside = [[field.name, plain(getattr(part, field.name))] for field in fields(part)]
            return ["made", type(part).__name__, inside]
        if hasattr(part, "_asdict"):
            return ["made", type(part).__name__, [[k, plain(v)] for k, v in part._asdict().items()]]
        if isinstance(part, Mapping):
            return ["table", [[k, plain(v)] for k, v in part.items()]]
        if isinstance(part, list | tuple):
            return ["list", [plain(one) for one in part]]
        return ["plain", part]

    return tensors, plain(value)


def from_plain(part: Any, tensors: Mapping[str, Tensor], kinds: Mapping[str, type]) -> Any:
    """The value again; of `kinds`, by name, are the dataclasses that may be made."""
    match part:
        case ["tensor", name]:
            return tensors[name]
        case ["array", name]:
            return tensors[name].numpy()
        case ["made", kind, inside]:
            return kinds[kind](**{name: from_plain(one, tensors, kinds) for name, one in inside})
        case ["table", inside]:
            return {key: from_plain(one, tensors, kinds) for key, one in inside}
        case ["list", inside]:
            return [from_plain(one, tensors, kinds) for one in inside]
        case ["plain", value]:
            return value
    raise ValueError(f"no part of a value: {str(part)[:80]}")
