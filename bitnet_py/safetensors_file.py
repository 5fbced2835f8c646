"""Safetensors files, one or a folder of shards, mapped for reading.

Owns: zero-copy views, reads of row blocks, the rules of shards and their index. Does not own: the
header's rules (safetensors_header.py), what the tensors mean (checkpoint.py, convert/).
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from bitnet_py.errors import FormatError
from bitnet_py.json_file import read_json_object
from bitnet_py.safetensors_header import NUMPY_DTYPES, TensorEntry, read_header

__all__ = [
    "INDEX_NAME",
    "NUMPY_DTYPES",
    "SINGLE_NAME",
    "SafetensorsFile",
    "SafetensorsFolder",
    "TensorEntry",
    "let_go",
]

SINGLE_NAME: Final = "model.safetensors"
INDEX_NAME: Final = "model.safetensors.index.json"
PICKLE_PATTERNS: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class SafetensorsFile:
    """One safetensors file, mapped read-only.

    Attributes:
        path: the file.
        entries: every tensor by name; offsets count from the start of the file.
        metadata: the header's `__metadata__`, empty when absent.
    """

    def __init__(self, path: str | Path) -> None:
        """Maps the file and checks its header; no tensor is read.

        Raises:
            FileNotFoundError: there is no such file.
            FormatError: the file breaks a rule of the format; the message says which.
        """
        self.path = Path(path)
        self._file = self.path.open("rb")
        try:
            size_bytes = self.path.stat().st_size
            self.entries, self.metadata = read_header(self._file, self.path, size_bytes)
            self._map: mmap.mmap | None = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except BaseException:
            self._file.close()
            raise

    def view(self, name: str) -> NDArray[Any]:
        """The tensor without a copy, read-only; BF16 as its uint16 bits.

        A tensor that is misaligned for its type is copied. Views stay valid after `close`.

        Raises:
            KeyError: no tensor of this name.
            ValueError: the file is closed.
        """
        entry = self.entries[name]
        if self._map is None:
            message = f"{self.path}: the file is closed"
            raise ValueError(message)
        dtype = NUMPY_DTYPES[entry.dtype]
        count = math.prod(entry.shape)
        if count == 0:
            array = np.empty(0, dtype)
        elif entry.begin % dtype.alignment == 0:
            array = np.frombuffer(self._map, dtype, count, entry.begin)
        else:
            array = np.frombuffer(self._map[entry.begin : entry.end], dtype, count)
        array.flags.writeable = False
        return array.reshape(entry.shape)

    def read_rows(self, name: str, begin: int, end: int) -> NDArray[Any]:
        """Reads rows [begin, end) of the first axis into fresh memory, not through the map.

        So a caller that streams a large tensor holds one block and not the whole file. Not for two
        threads at once.

        Returns:
            An array [end - begin, ...] of the tensor's type; BF16 as its uint16 bits.

        Raises:
            KeyError: no tensor of this name.
            ValueError: rows that the tensor does not have, or the file is closed.
            FormatError: the file became shorter since it was opened.
        """
        entry = self.entries[name]
        n_rows = entry.shape[0] if entry.shape else 0
        if not 0 <= begin <= end <= n_rows:
            message = f"[read_rows] {name} has {n_rows} rows, got [{begin}, {end})"
            raise ValueError(message)
        rows = np.empty((end - begin, *entry.shape[1:]), NUMPY_DTYPES[entry.dtype])
        row_bytes = (entry.end - entry.begin) // max(n_rows, 1)
        self._file.seek(entry.begin + begin * row_bytes)
        got_bytes = self._file.readinto(rows.reshape(-1).view(np.uint8).data)
        if got_bytes != rows.nbytes:
            _refuse(self.path, f"{name}: the file became shorter while it was read")
        return rows

    def close(self) -> None:
        """Lets go of the file. Views that were given out keep the map alive and stay valid."""
        self._map = None
        self._file.close()

    def __enter__(self) -> SafetensorsFile:
        """Gives the file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self.close()


class SafetensorsFolder:
    """The tensors of a folder: `model.safetensors`, or the shards that its index names.

    Attributes:
        folder: the folder.
        files: the open files, one per shard.
        entries: every tensor by name, of all files.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens every file and checks headers and index; no tensor is read.

        Raises:
            FileNotFoundError: there is no such folder.
            FormatError: no safetensors there (pickles are not read), or a file or the index breaks
                a rule; the message says which.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            message = f"{self.folder}: no such folder"
            raise FileNotFoundError(message)
        self.files: list[SafetensorsFile] = []
        self._file_of: dict[str, SafetensorsFile] = {}
        try:
            if (self.folder / SINGLE_NAME).is_file():
                self._add(self.folder / SINGLE_NAME)
            elif (self.folder / INDEX_NAME).is_file():
                self._add_shards(self.folder / INDEX_NAME)
            else:
                self._refuse_without_safetensors()
        except BaseException:
            self.close()
            raise
        self.entries = {name: file.entries[name] for name, file in self._file_of.items()}

    def path_of(self, name: str) -> Path:
        """The file that holds a tensor. Raises KeyError when there is none."""
        return self._file_of[name].path

    def view(self, name: str) -> NDArray[Any]:
        """See `SafetensorsFile.view`."""
        return self._file_of[name].view(name)

    def read_rows(self, name: str, begin: int, end: int) -> NDArray[Any]:
        """See `SafetensorsFile.read_rows`."""
        return self._file_of[name].read_rows(name, begin, end)

    def close(self) -> None:
        """Lets go of all files; views stay valid."""
        for file in self.files:
            file.close()

    def __enter__(self) -> SafetensorsFolder:
        """Gives the folder itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes all files."""
        self.close()

    def _add(self, path: Path) -> SafetensorsFile:
        file = SafetensorsFile(path)
        self.files.append(file)
        self._file_of.update(dict.fromkeys(file.entries, file))
        return file

    def _add_shards(self, index_path: Path) -> None:
        weight_map = read_json_object(index_path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            _refuse(index_path, "no weight_map")
        names_of: dict[str, set[str]] = {}
        for tensor_name, shard_name in weight_map.items():
            if not isinstance(shard_name, str) or not _is_plain_name(shard_name):
                _refuse(
                    index_path,
                    f"{tensor_name}: a shard must be the name of a file in this folder, "
                    f"got {shard_name!r}",
                )
            if not (self.folder / shard_name).is_file():
                _refuse(index_path, f"the shard {shard_name} is missing; download it too")
            names_of.setdefault(shard_name, set()).add(tensor_name)
        for shard_name, tensor_names in sorted(names_of.items()):
            file = self._add(self.folder / shard_name)
            if missing := tensor_names - file.entries.keys():
                _refuse(index_path, f"{min(missing)} should be in {shard_name}, which lacks it")
            if extra := file.entries.keys() - tensor_names:
                _refuse(index_path, f"{min(extra)} is in {shard_name}, but not in the weight_map")

    def _refuse_without_safetensors(self) -> NoReturn:
        pickles = sorted(
            path.name for pattern in PICKLE_PATTERNS for path in self.folder.glob(pattern)
        )
        if pickles:
            _refuse(
                self.folder,
                f"found {pickles[0]} but no safetensors. Pickles are never opened, they can run "
                "code: convert to safetensors first, e.g. load it with transformers where you "
                "trust it and call save_pretrained(..., safe_serialization=True)",
            )
        _refuse(self.folder, f"neither {SINGLE_NAME} nor {INDEX_NAME} is there")


def let_go(view: NDArray[Any]) -> None:
    """Gives the memory of a mapped view back; its pages are read again if they are needed again.

    Does nothing for an array that is no view of a mapped file, or where the system can not.
    """
    base: object = view
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    # Only a file's pages can be read again, and only read-only maps are files here.
    if not isinstance(base, mmap.mmap) or not memoryview(base).readonly:
        return
    if not hasattr(base, "madvise"):
        return
    begin = view.ctypes.data - np.frombuffer(base, np.uint8, 1).ctypes.data
    first = begin // mmap.PAGESIZE * mmap.PAGESIZE
    base.madvise(mmap.MADV_DONTNEED, first, begin + view.nbytes - first)


def _refuse(path: Path, rule: str) -> NoReturn:
    message = f"{path}: {rule}"
    raise FormatError(message)


def _is_plain_name(name: str) -> bool:
    """Whether a name stays in its folder on every system: no separator, drive or parent in it."""
    return name not in ("", ".", "..") and not any(mark in name for mark in "/\\:\0")
