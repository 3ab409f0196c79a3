"""Foreign weight files, read so that nothing in them can run, and loaded so that nothing is lost.

    tensors = read_tensors(path)          # .pt, .pth, .safetensors, an index of shards
    load_strict(module, tensors, str(path))

What a file is comes from its bytes, never from its name. Tensors stay mapped from disk until they
are copied, so that an 11 GB file costs no 11 GB of memory. A training checkpoint's wrappers (the
averaged weights, the names that FSDP, `torch.compile` and checkpointing put between) are taken off.
"""

import contextlib
import io
import json
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from worldmodel.config import UserError
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.storage.files import check_file, read_text
from worldmodel.storage.tensor_files import open_tensors
from worldmodel.system.encoding import decode_text
from worldmodel.system.limits import (
    DEEPEST_WRAPPER,
    LARGEST_INDEX,
    LARGEST_PICKLE,
    LARGEST_WEIGHTS,
    LONGEST_NAME,
    LONGEST_SHOWN,
    MOST_OPCODES,
    MOST_SHARDS,
    MOST_SHARED,
    MOST_TENSORS,
)
from worldmodel.system.printable import printable

# A training checkpoint holds several networks; the first of these that is there is played.
NETWORKS = ("generator_ema", "generator", "ema", "model", "state_dict", "module")
WITHIN = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
BEFORE = (
    "module.", "generator_ema.", "generator.", "model.diffusion_model.", "diffusion_model.",
    "transformer.", "dit.", "net.", "first_stage_model.", "vae.", "model.",
)  # fmt: skip
# Files that hold a whole pipeline name its parts; of these only the network is a world's.
NETWORK = ("model.diffusion_model.", "diffusion_model.")
PIPELINE = (
    "first_stage_model.", "cond_stage_model.", "conditioner.", "text_encoders.", "vae.",
    "model_ema.",
)  # fmt: skip
OLD_PICKLES = 5  # in a file of the time before archives; tensors follow
SHOWN = 6  # names listed of each kind of difference
# What torch calls a thing of a pickle that it would have to run; the rest of what it says is
# advice to run it all the same.
FOREIGN = re.compile(r"(?:GLOBAL|class|function) ([\w.]{1,100})")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, mapped from disk, wrappers taken off."""
    try:
        check_file(path, LARGEST_WEIGHTS)  # a pipe would be waited for without end
        with path.open("rb") as file:
            beginning = file.read(9)
        if beginning[8:] == b"{":
            return unwrap(_read_safetensors(path), str(path))
        if decode_text(beginning[:8], is_cut=True).lstrip()[:1] == "{":
            return unwrap(_read_shards(path), str(path))
        return unwrap(_read_pickle(path, mapped=beginning[:2] == b"PK"), str(path))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except UserError as error:
        missing = error.__cause__
        if isinstance(missing, FileNotFoundError):
            raise CheckpointError(f"{missing.filename}: no such file") from error
        raise CheckpointError(str(error)) from error


def networks_in(path: Path) -> tuple[str, ...]:
    """The networks in a training checkpoint that `read_tensors` reads; of plain tensors none."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return ()
    content = _read_pickle(path, mapped=True)
    is_wrapped = isinstance(content, Mapping) and not _holds_tensors(content)
    return tuple(name for name in NETWORKS if is_wrapped and name in content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with open_tensors(path, LARGEST_WEIGHTS, "pt") as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); copy or download it again"
        ) from error


def _read_shards(path: Path) -> dict[str, Tensor]:
    """The files beside an index (`….safetensors.index.json`) that its `weight_map` names."""
    content = read_text(path, LARGEST_INDEX)
    try:
        names = json.loads(content)["weight_map"]
        shards = sorted(set(names.values()))
        if any(Path(shard).name != shard or not shard.isprintable() for shard in shards):
            raise ValueError("a shard outside its own folder")
        if "" in shards or len(shards) > MOST_SHARDS or len(names) > MOST_TENSORS:
            raise ValueError(
                f"{len(names)} tensors in {len(shards)} shards; at most {MOST_TENSORS} in "
                f"{MOST_SHARDS} are read, each with a name"
            )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = printable(str(error), LONGEST_SHOWN)
        raise CheckpointError(f"{path}: not an index of safetensors shards ({reason})") from error
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= _read_safetensors(path.with_name(shard))
        if len(tensors) > MOST_TENSORS:
            raise CheckpointError(f"{path}: its shards hold more than {MOST_TENSORS} tensors")
    if lost := sorted(names.keys() - tensors.keys()):
        raise CheckpointError(
            f"{path}: {len(lost)} tensors are in no shard, first {lost[0]}; download them again"
        )
    return tensors


def _read_pickle(path: Path, *, mapped: bool) -> Any:
    """What `torch.save` wrote, by the unpickler that knows tensors and plain containers only."""
    try:
        if mapped:
            _check_records(path)
        else:
            with path.open("rb") as file:
                stream = io.BytesIO(file.read(LARGEST_PICKLE))  # tensors follow, of any size
            for _ in range(OLD_PICKLES):
                _check_pickle(stream)
        with warnings.catch_warnings():  # of pickles newer than torch's own
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds something other than weights, and nothing of it was run"
            f"{_foreign(error)}; ask its author for safetensors"
        ) from error
    except MemoryError as error:
        raise CheckpointError(
            f"{path}: not a whole file of weights; copy or download it again"
        ) from error
    except Exception as error:  # a broken or forged pickle fails in a dozen ways
        raise CheckpointError(
            f"{path}: not a whole file of weights ({_first_line(error)}); "
            "expected safetensors or what torch.save writes"
        ) from error


def _foreign(error: Exception) -> str:
    """What a pickle would have run, if torch says it."""
    found = FOREIGN.search(str(error))
    return f" ({found[1]})" if found else ""


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "")
    reason = "" if "weights_only" in line else line  # which is how to run what the file holds
    return printable(reason or type(error).__name__, LONGEST_SHOWN)


def _check_records(path: Path) -> None:
    """Refuse an archive that would unpack to more than its own size."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if len(records) > MOST_TENSORS:
            raise ValueError(f"{len(records)} records, at most {MOST_TENSORS} are read")
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise ValueError("its records hold more than the file")
        for record in records:
            if record.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{record.filename} is compressed, which torch.save never does")
            if record.filename.endswith(".pkl") and record.file_size > LARGEST_PICKLE:
                raise ValueError(f"{record.filename} has {record.file_size} bytes")
        for record in (one for one in records if one.filename.endswith("data.pkl")):
            with archive.open(record) as stream:
                _check_pickle(stream)


def _check_pickle(stream: IO[bytes]) -> None:
    """Refuse what would keep torch busy: names of kilobytes, how it tells of them is quadratic,
    and millions of things.
    """
    longest = count = 0
    with contextlib.suppress(Exception):  # no pickle, or a broken one: torch says which
        for _, argument, _ in pickletools.genops(stream):
            longest = max(longest, len(argument) if isinstance(argument, str) else 0)
            count += 1
            if count > MOST_OPCODES:
                break
    if longest > LONGEST_NAME:
        raise ValueError(f"it holds a name of {longest} letters")
    if count > MOST_OPCODES:
        raise ValueError(f"its pickle is of more than {MOST_OPCODES} steps")


def unwrap(content: Any, where: str) -> dict[str, Tensor]:
    """The tensors of a network by their own names, out of whatever a training run put around."""
    for _ in range(DEEPEST_WRAPPER):  # one that holds itself has no end
        if not isinstance(content, Mapping) or _holds_tensors(content):
            break
        inner = next((name for name in NETWORKS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            found = ", ".join(map(_named, list(content)[:SHOWN])) or "nothing"
            raise CheckpointError(
                f"{where}: no weights; found {found}, expected tensors or one of "
                f"{', '.join(NETWORKS)}"
            )
        content = content[inner]
    if not isinstance(content, Mapping) or not _holds_tensors(content):
        raise CheckpointError(
            f"{where}: no weights; found a {type(content).__name__}, expected tensors by name"
        )
    # Numbers beside the tensors (a step, a loss) are no weights.
    tensors = {_named(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if nested := [name for name, value in content.items() if isinstance(value, Mapping | list)]:
        raise CheckpointError(f"{where}: {_named(nested[0])} lies among tensors but is none")
    if len(tensors) > MOST_TENSORS:
        raise CheckpointError(f"{where}: {len(tensors)} tensors, at most {MOST_TENSORS} are read")
    for name, tensor in tensors.items():
        _check_plain(tensor, f"{where}: {name}")
    _check_shared(tensors, where)
    return _plain_names(tensors, where)


def _holds_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _check_plain(tensor: Tensor, where: str) -> None:
    """Refuse tensors that are views of less than they show: copying one could fill the memory."""
    dense = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
    if not dense or tensor.is_meta:
        raise CheckpointError(f"{where} is not a dense tensor")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{where} claims {size(tensor)}, more than the file holds")


def _named(key: object) -> str:
    """A key of a pickled table, which need not be a text and may be a nest without end."""
    plain = isinstance(key, str) or (isinstance(key, int) and key.bit_length() < 64)
    return str(key) if plain else f"a {type(key).__name__}"


def _check_shared(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse many tensors that share little: written one by one they could fill a disk."""
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    storages = [tensor.untyped_storage() for tensor in tensors.values()]
    held = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    if claimed > MOST_SHARED * held:
        raise CheckpointError(
            f"{where}: its tensors claim {claimed >> 20} MB together, {claimed / held:.0f} times "
            "what the file holds"
        )


def _plain_names(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Names without what wrappers put within and before them."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        bare = name
        for part in WITHIN:
            bare = bare.replace(part, "")
        if bare in plain:
            raise CheckpointError(f"{where}: two tensors are called {bare} without their wrappers")
        plain[bare] = tensor
    plain = _network_of(plain)
    while prefix := next((p for p in BEFORE if plain and all(n.startswith(p) for n in plain)), ""):
        plain = {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
    return plain


def _network_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network alone, out of a file whose other tensors are all of a pipeline's known parts."""
    inside = {name: x for name, x in tensors.items() if name.startswith(NETWORK)}
    others = [name for name in tensors if name not in inside]
    return inside if inside and all(name.startswith(PIPELINE) for name in others) else tensors


@dataclass(frozen=True, slots=True)
class Difference:
    """How a file's tensors differ from a module's."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]  # "name is 3 x 4, expected 4 x 4"

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.missing or self.unexpected or self.misshapen)


def difference(module: nn.Module, tensors: Mapping[str, Tensor]) -> Difference:
    """What stands between `tensors` and the weights of `module`; nothing is loaded."""
    expected = module.state_dict()
    return Difference(
        missing=tuple(name for name in expected if name not in tensors),
        unexpected=tuple(name for name in tensors if name not in expected),
        misshapen=tuple(
            f"{name} is {size(tensors[name])}, expected {size(expected[name])}"
            for name in expected
            if name in tensors and not _fits(tensors[name], expected[name])
        ),
    )


def _fits(tensor: Tensor, expected: Tensor) -> bool:
    return tensor.shape == expected.shape and (
        tensor.is_floating_point() == expected.is_floating_point()
    )


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Fill `module` with exactly `tensors`; else an error that lists every kind of difference.

    A module on the `meta` device takes the tensors as they are (dtype of the file, still mapped);
    any other copies them into its own.
    """
    if found := difference(module, tensors):
        kinds = (
            ("missing", found.missing),
            ("unexpected", found.unexpected),
            ("misshapen", found.misshapen),
        )
        wrong = "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds if names)
        is_cut = not (found.unexpected or found.misshapen)
        remedy = "the file is not whole, download it" if is_cut else "name another file, or get it"
        raise CheckpointError(
            f"{where}: these are not the {len(module.state_dict())} tensors of the model: {wrong}; "
            f"{remedy} again"
        )
    on_meta = any(tensor.is_meta for tensor in module.state_dict().values())
    module.load_state_dict(dict(tensors), assign=on_meta)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def size(tensor: Tensor) -> str:
    """A tensor's shape and kind for messages: "3 x 4 bfloat16"."""
    shape = " x ".join(map(str, tensor.shape)) or "a number"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"
