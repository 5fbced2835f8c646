"""Finds float weights that are ternary already: at most one magnitude besides zero.

Such a weight is packed without loss under its own magnitude. absmean would not do: it is not
idempotent, its mean counts the zeros and comes out too small.

Owns: the detection per tensor, row or group of 128 along K, and the reading of what was found.
"""

import numpy as np
from numpy.typing import NDArray

from bitnet_py._core import GROUP_SIZE

from .block_pool import row_blocks
from .weights import TernaryBlock, TernaryWeight, Weight

__all__ = ["as_ternary"]

FIRST_ROWS = 8  # enough to see that a dense weight is dense


class _TernaryValuedWeight(TernaryWeight):
    """A float weight whose values are -s, 0 and +s, with the magnitudes s found in it."""

    def __init__(self, original: Weight, scale_kind: str, magnitudes: NDArray[np.float32]) -> None:
        """magnitudes: float32 [1], [N] or [N, ceil(K/128)]."""
        exact_in_f16 = bool(np.all(magnitudes.astype(np.float16) == magnitudes))
        super().__init__(
            original.name,
            original.shape,
            dtype=original.dtype,
            scale_kind=scale_kind,
            scale_dtype="F16" if scale_kind == "group" and exact_in_f16 else "F32",
            origin="ternary-valued",
        )
        self._original = original
        self._magnitudes = magnitudes

    def read_ternary(self, begin: int, end: int) -> TernaryBlock:
        codes = np.sign(self._original.read(begin, end)).astype(np.int8)
        if self.scale_kind == "tensor":
            return TernaryBlock(codes, self._magnitudes)
        return TernaryBlock(codes, self._magnitudes[begin:end])


def as_ternary(weight: Weight) -> TernaryWeight | None:
    """The weight as ternary codes without loss, or None when it has other values.

    A dense weight costs a few rows; only a ternary one is read to its end. The coarsest scale that
    is exact is taken: tensor, else row, else group.
    """
    if isinstance(weight, TernaryWeight):
        return weight
    n_rows, n_cols = weight.shape
    starts = np.arange(0, n_cols, GROUP_SIZE)
    magnitudes = np.zeros((n_rows, len(starts)), np.float32)
    blocks = [(0, min(FIRST_ROWS, n_rows)), *row_blocks(n_rows, n_cols, multiple=1)]
    for begin, end in blocks:
        with np.errstate(over="ignore"):
            sizes = np.abs(weight.read(begin, end))
        largest = np.maximum.reduceat(sizes, starts, axis=1)
        per_column = np.repeat(largest, GROUP_SIZE, axis=1)[:, :n_cols]
        if not np.all((sizes == 0) | (sizes == per_column)):
            return None
        magnitudes[begin:end] = largest
    per_row = magnitudes.max(axis=1)
    if not _is_uniform(magnitudes, per_row[:, np.newaxis]):
        return _TernaryValuedWeight(weight, "group", magnitudes)
    per_tensor = per_row.max(keepdims=True)
    if not _is_uniform(per_row, per_tensor):
        return _TernaryValuedWeight(weight, "row", per_row)
    return _TernaryValuedWeight(weight, "tensor", per_tensor)


def _is_uniform(fine: NDArray[np.float32], coarse: NDArray[np.float32]) -> bool:
    """Whether the coarse scale serves every fine one; an all-zero part fits any scale."""
    return bool(np.all((fine == 0) | (fine == coarse)))
