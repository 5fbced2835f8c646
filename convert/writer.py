"""Writes safetensors whose tensors arrive block by block, so nothing large is ever in memory.

Sizes are known before any data, so the header is written first. It is padded with spaces to a
multiple of 64 bytes, and tensors whose size is a multiple of 64 come first: so every packed tensor
is 64-byte aligned in the mapped file, and the rest is aligned for its type.
Format: https://github.com/huggingface/safetensors#format

Owns: the layout of the files, their names, shards and index. Does not own: what is in a tensor.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from bitnet_py.safetensors_file import INDEX_NAME, SINGLE_NAME

from .formats import Entry

__all__ = ["ALIGNMENT", "SafetensorsWriter"]

ALIGNMENT: Final = 64


class SafetensorsWriter:
    """The tensor files of one folder. Use it as a context; leaving it closes the files."""

    def __init__(self, folder: Path, groups: Sequence[Sequence[Entry]], shard_bytes: int) -> None:
        """Creates the files and writes their headers.

        Args:
            folder: an existing folder.
            groups: the tensors; those of one group (codes and their scale) share a file.
            shard_bytes: no file has more data, unless one group has.
        """
        shards = _cut_shards(groups, shard_bytes)
        names = _shard_names(len(shards))
        self._shards = [
            _Shard(folder / name, entries) for name, entries in zip(names, shards, strict=True)
        ]
        self._shard_of = {
            entry.name: shard
            for shard, entries in zip(self._shards, shards, strict=True)
            for entry in entries
        }
        if len(shards) > 1:
            index = {
                "metadata": {"total_size": sum(e.n_bytes for entries in shards for e in entries)},
                "weight_map": {
                    entry.name: name
                    for name, entries in zip(names, shards, strict=True)
                    for entry in entries
                },
            }
            (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", "utf-8")

    def append(self, name: str, block: NDArray[Any]) -> None:
        """Writes the next bytes of a tensor. Blocks of a tensor come in order, tensors in any."""
        self._shard_of[name].append(name, block)

    def finish(self) -> None:
        """Closes the files. Raises RuntimeError when a tensor is not complete."""
        for shard in self._shards:
            shard.finish()

    def __enter__(self) -> "SafetensorsWriter":
        """Gives the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the files, complete or not."""
        for shard in self._shards:
            shard.file.close()


class _Shard:
    """One file: where each tensor goes on, and where it ends."""

    def __init__(self, path: Path, entries: Sequence[Entry]) -> None:
        ordered = sorted(entries, key=lambda entry: -_alignment(entry.n_bytes))  # stable
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for entry in ordered:
            end = offset + entry.n_bytes
            header[entry.name] = {
                "dtype": entry.dtype,
                "shape": entry.shape,
                "data_offsets": [offset, end],
            }
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        data_begin = 8 + len(text)
        self._path = path
        self._next = {
            entry.name: data_begin + header[entry.name]["data_offsets"][0] for entry in ordered
        }
        self._end = {
            entry.name: data_begin + header[entry.name]["data_offsets"][1] for entry in ordered
        }
        self.file: BinaryIO = path.open("xb")
        self.file.write(len(text).to_bytes(8, "little") + text)

    def append(self, name: str, block: NDArray[Any]) -> None:
        begin = self._next[name]
        if begin + block.nbytes > self._end[name]:
            message = f"{self._path}: more data for {name} than planned"
            raise RuntimeError(message)
        self.file.seek(begin)
        self.file.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
        self._next[name] = begin + block.nbytes

    def finish(self) -> None:
        for name, end in self._end.items():
            if self._next[name] != end:
                message = f"{self._path}: {name} is {end - self._next[name]} bytes short"
                raise RuntimeError(message)
        self.file.close()


def _alignment(n_bytes: int) -> int:
    """The largest power of two, up to 64, that divides a size."""
    return min(n_bytes & -n_bytes, ALIGNMENT)


def _cut_shards(groups: Sequence[Sequence[Entry]], shard_bytes: int) -> list[list[Entry]]:
    """Fills one shard after the other; a group is never split."""
    shards: list[list[Entry]] = [[]]
    used_bytes = 0
    for group in groups:
        group_bytes = sum(entry.n_bytes for entry in group)
        if shards[-1] and used_bytes + group_bytes > shard_bytes:
            shards.append([])
            used_bytes = 0
        shards[-1].extend(group)
        used_bytes += group_bytes
    return shards


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return [SINGLE_NAME]
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
