"""How weights lie in the packed folder (docs/format.md). One file per family of formats.

A file has `ENCODERS`, a dict from the format's id to its Encoder class. To add a format, add its
file; nothing else registers it. Layouts and shapes come from the extension, nobody restates them.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core
from bitnet_py.safetensors_header import NUMPY_DTYPES

from ..block_pool import BlockPool
from ..weights import Weight

__all__ = ["Encoder", "Entry", "encoder", "format_names"]


class Entry(NamedTuple):
    """A tensor of the file: its name, dtype as safetensors spells it, and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * NUMPY_DTYPES[self.dtype].itemsize


class Encoder(ABC):
    """Turns one weight into the bytes of one format, block of rows by block of rows.

    Attributes:
        weight: what is encoded.
        scale_kind: "none", "tensor", "row" or "group".
        entry: the codes.
        scale_entry: their scales, None where the format has none.
        panel_rows: blocks begin at multiples of it.
    """

    scale_kind: str = "none"
    scale_entry: Entry | None = None
    panel_rows: int = 1
    entry: Entry

    def __init__(self, name: str, weight: Weight, format_id: str) -> None:
        """A weight that will be stored as `name`; nothing is read yet."""
        self.name = name
        self.weight = weight
        self.format = format_id

    def prepare(self, pool: BlockPool) -> None:
        """The passes that must come before the first `encode`."""
        self.weight.prepare(pool)

    @abstractmethod
    def encode(self, begin: int, end: int) -> NDArray[Any]:
        """The stored bytes of rows [begin, end); blocks in order make the tensor.

        Any thread may call, for different blocks at once.
        """

    def take_scale(self) -> NDArray[Any] | None:
        """The scales, of the shape of scale_entry, when every block has been encoded.

        They are handed over and forgotten: kept for all tensors they would add up.
        """
        return None

    @property
    def n_bytes(self) -> int:
        """Codes and scales, with their padding."""
        return self.entry.n_bytes + (self.scale_entry.n_bytes if self.scale_entry else 0)


class ScaledEncoder(Encoder):
    """An encoder whose scales are collected while the blocks pass."""

    def __init__(
        self, name: str, weight: Weight, format_id: str, *, scale_kind: str, scale_dtype: str
    ) -> None:
        """scale_kind, scale_dtype: of the scales, "row" and "F32" for instance."""
        super().__init__(name, weight, format_id)
        shape = weight.shape
        self.scale_kind = scale_kind
        self.entry = Entry(name, "U8", tuple(_core.packed_shape(format_id, *shape)))
        self.scale_entry = Entry(
            f"{name}_scale", scale_dtype, tuple(_core.scale_shape(format_id, scale_kind, *shape))
        )
        self.panel_rows = _format_info(format_id).panel_rows
        self._scale: NDArray[Any] = np.empty(0)

    def prepare(self, pool: BlockPool) -> None:
        """See Encoder."""
        super().prepare(pool)
        assert self.scale_entry is not None
        dtype = NUMPY_DTYPES[self.scale_entry.dtype]
        self._scale = np.zeros(self.scale_entry.shape, dtype)  # padded rows keep 0

    def put_scale(self, begin: int, scale: NDArray[np.float32]) -> None:
        """Keeps the scales of a block: [1] per tensor, [n] per row, [n, groups] per group."""
        if self.scale_kind == "tensor":
            self._scale[:] = scale
        else:
            self._scale[..., begin : begin + len(scale)] = scale.T

    def take_scale(self) -> NDArray[Any]:
        """See Encoder."""
        scale, self._scale = self._scale, np.empty(0)
        return scale


def _encoders() -> dict[str, type[Encoder]]:
    found: dict[str, type[Encoder]] = {}
    for module in pkgutil.iter_modules(__path__):
        found |= importlib.import_module(f"{__name__}.{module.name}").ENCODERS
    return dict(sorted(found.items()))


def _format_info(format_id: str) -> _core.FormatInfo:
    return next(info for info in _core.formats() if info.name == format_id)


def format_names() -> list[str]:
    """The ids of all formats that can be written."""
    return list(_encoders())


def encoder(name: str, weight: Weight, format_id: str) -> Encoder:
    """The encoder of a weight that is stored as `name` in a format."""
    return _encoders()[format_id](name, weight, format_id)
