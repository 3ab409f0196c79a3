"""Parts of a state from strangers: torch unpickles them whole, here only what a state is made of.

`torch.distributed.checkpoint` reads its list of parts (`.metadata`) with `pickle.load`, and numbers
that are no tensors with `torch.load(weights_only=False)`: both may run code. The list is read by an
unpickler that knows the classes of a list alone, numbers as weights are.
"""

import io
import pickle
from pathlib import Path, PurePath
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

from worldmodel.storage.files import read_file
from worldmodel.system.printable import shown

LARGEST_LIST = 1 << 26  # bytes; of a model of a thousand tensors it has some hundred thousand
ALLOWED = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {
        "Size",
        "float32",
        "float64",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "uint8",
        "bool",
    },
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "pathlib._local": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "collections": {"OrderedDict"},
}


class _ListUnpickler(pickle.Unpickler):
    """Knows what a list of parts is made of, and nothing that does anything."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in ALLOWED.get(module, ()):
            raise ValueError(f"the list of parts asks for {shown(f'{module}.{name}')}")
        return super().find_class(module, name)


class CheckedReader(FileSystemReader):
    """Reads a folder of parts; a `ValueError` says what in their list does not belong there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def read_metadata(self, *_args: Any, **_more: Any) -> Metadata:
        """The list of parts: what there is, and in which file of the folder."""
        content = read_file(self._folder / ".metadata", LARGEST_LIST)
        try:
            found = _ListUnpickler(io.BytesIO(content)).load()
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError) as error:
            raise ValueError(f"the list of parts cannot be read: {shown(str(error))}") from error
        if not isinstance(found, Metadata) or not isinstance(found.storage_data, dict):
            raise ValueError("the list of parts is none")
        for info in found.storage_data.values():
            place = info.relative_path
            if not isinstance(place, str) or PurePath(place).name != place:
                raise ValueError(f"the list of parts leads out of its folder: {shown(place)}")
        found.storage_meta = found.storage_meta or StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found


class CheckedPlanner(DefaultLoadPlanner):
    """Numbers beside tensors are read as weights are: plain values, no objects."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Check what torch would unpickle, then hand it on."""
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)
