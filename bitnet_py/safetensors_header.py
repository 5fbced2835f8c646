"""The header of a safetensors file: every rule of the format checked, each with its own refusal.

Owns: the rules. Does not own: the tensors' bytes (safetensors_file.py) or their meaning.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn

import numpy as np

from bitnet_py.errors import FormatError
from bitnet_py.json_file import parse_json_object

__all__ = ["NUMPY_DTYPES", "SafetensorsHeader", "TensorEntry", "read_header"]

MAX_HEADER_BYTES: Final = 100_000_000  # the limit of the format's own library
MAX_DIMENSIONS: Final = 32
MAX_ELEMENTS: Final = 1 << 60  # counting an empty axis as 1, so that numpy can hold the shape

# BF16 travels as its 16 bits and the 8-bit floats as theirs: numpy has no such types.
NUMPY_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?", "U8": "u1", "I8": "i1", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1",
        "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2",
        "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
    }.items()
}  # fmt: skip


class TensorEntry(NamedTuple):
    """A tensor's place: dtype as the file spells it ("BF16"), shape, its bytes [begin, end)."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsHeader(NamedTuple):
    """What a header says; the offsets of `entries` count from the start of the file."""

    entries: dict[str, TensorEntry]
    metadata: dict[str, str]


def read_header(file: BinaryIO, path: Path, size_bytes: int) -> SafetensorsHeader:
    """Reads and checks the header of a file that is open at its start.

    Args:
        file: the file.
        path: names it in errors.
        size_bytes: the length of the whole file.

    Raises:
        FormatError: the header breaks a rule; the message says which.
    """
    if size_bytes < 8:
        _refuse(path, f"{size_bytes} bytes is too short for a safetensors file")
    header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        _refuse(
            path,
            f"the header claims {header_bytes} bytes, more than {MAX_HEADER_BYTES}; "
            "is this a safetensors file?",
        )
    data_begin = 8 + header_bytes
    if data_begin > size_bytes:
        _refuse(
            path,
            f"the header ends at byte {data_begin}, past the end of the file ({size_bytes} bytes); "
            "is the download complete?",
        )
    text = file.read(header_bytes)
    if not text.startswith(b"{"):
        _refuse(path, "the header does not start with '{'")
    fields = parse_json_object(text, f"{path}: header")
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(path, "__metadata__ must map names to strings")
    entries = {
        name: _check_entry(path, name, entry, data_begin, size_bytes)
        for name, entry in fields.items()
    }
    _check_cover(path, entries, data_begin, size_bytes)
    return SafetensorsHeader(entries, metadata)


def _check_entry(
    path: Path, name: str, fields: Any, data_begin: int, size_bytes: int
) -> TensorEntry:
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"{name}: expected exactly the fields dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in NUMPY_DTYPES:
        _refuse(path, f"{name}: unknown dtype {dtype!r}")
    if not _is_sizes(shape):
        _refuse(path, f"{name}: the shape must be a list of integers >= 0, got {shape!r}")
    if len(shape) > MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        _refuse(path, f"{name}: the shape {shape} is too large")
    if not _is_sizes(offsets) or len(offsets) != 2:
        _refuse(path, f"{name}: data_offsets must be two integers >= 0, got {offsets!r}")
    begin, end = offsets
    if begin > end:
        _refuse(path, f"{name}: data_offsets end before they begin: {offsets}")
    if data_begin + end > size_bytes:
        _refuse(
            path,
            f"{name}: its data ends at byte {data_begin + end}, past the end of the file "
            f"({size_bytes} bytes); is the download complete?",
        )
    expected_bytes = math.prod(shape) * NUMPY_DTYPES[dtype].itemsize
    if end - begin != expected_bytes:
        _refuse(
            path,
            f"{name}: {dtype} {shape} takes {expected_bytes} bytes, data_offsets give "
            f"{end - begin}",
        )
    return TensorEntry(dtype, tuple(shape), data_begin + begin, data_begin + end)


def _check_cover(
    path: Path, entries: Mapping[str, TensorEntry], data_begin: int, size_bytes: int
) -> None:
    """Tensors lie end to end: no overlap, no hole, nothing behind the last one."""
    reached = data_begin
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin < reached:
            _refuse(path, f"{name}: its data overlaps another tensor's")
        if entry.begin > reached:
            _refuse(path, f"{name}: a hole of {entry.begin - reached} bytes before its data")
        reached = entry.end
    if reached != size_bytes:
        _refuse(path, f"{size_bytes - reached} bytes behind the last tensor's data")


def _is_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _refuse(path: Path, rule: str) -> NoReturn:
    message = f"{path}: {rule}"
    raise FormatError(message)
