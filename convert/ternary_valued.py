"""Finds float weights that are ternary already: at most one magnitude besides zero.

Such a weight is packed without loss under its own magnitude. absmean would not do: it is not
idempotent, its mean counts the zeros and comes out too small.

Owns: the detection per tensor, row or group of 128 along K, and the reading of what was found.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bitnet_py._core import GROUP_SIZE

from .block_pool import row_blocks
from .weights import TernaryBlock, TernaryWeight, Weight

__all__ = ["as_ternary"]

FIRST_ROWS: Final = 8  # enough to see that a dense weight is dense


class _TernaryValuedWeight(TernaryWeight):
    """A float weight whose values are -s, 0 and +s; each block finds its magnitudes s again."""

    def __init__(
        self, original: Weight, scale_kind: str, scale_dtype: str, tensor_magnitude: np.float32
    ) -> None:
        super().__init__(
            original.name,
            original.shape,
            dtype=original.dtype,
            scale_kind=scale_kind,
            scale_dtype=scale_dtype,
            origin="ternary-valued",
        )
        self._original = original
        self._tensor_magnitude = np.array([tensor_magnitude], np.float32)

    def read_ternary(self, begin: int, end: int) -> TernaryBlock:
        rows = self._original.read(begin, end)
        codes = np.sign(rows).astype(np.int8)
        if self.scale_kind == "tensor":
            return TernaryBlock(codes, self._tensor_magnitude)
        if self.scale_kind == "row":
            return TernaryBlock(codes, np.abs(rows).max(axis=1))
        return TernaryBlock(codes, _group_maxima(np.abs(rows)))


def as_ternary(weight: Weight) -> TernaryWeight | None:
    """The weight as ternary codes without loss, or None when it has other values.

    A dense weight costs a few rows; only a ternary one is read to its end. The coarsest scale that
    is exact is taken: tensor, else row, else group.
    """
    if isinstance(weight, TernaryWeight):
        return weight
    n_rows, n_cols = weight.shape
    fits_f16 = one_per_row = one_per_tensor = True
    magnitude = np.float32(0)
    for begin, end in [(0, min(FIRST_ROWS, n_rows)), *row_blocks(n_rows, n_cols, multiple=1)]:
        sizes = np.abs(weight.read(begin, end))
        of_groups = _group_maxima(sizes)
        if not _is_uniform(sizes, np.repeat(of_groups, GROUP_SIZE, axis=1)[:, :n_cols]):
            return None
        of_rows = of_groups.max(axis=1)
        largest = of_rows.max()
        one_per_row &= _is_uniform(of_groups, of_rows[:, np.newaxis])
        is_new = 0 not in (magnitude, largest) and magnitude != largest
        one_per_tensor &= _is_uniform(of_rows, largest) and not is_new
        magnitude = max(magnitude, largest)
        with np.errstate(over="ignore"):
            fits_f16 &= bool(np.all(of_groups.astype(np.float16) == of_groups))
    if one_per_row:
        kind = "tensor" if one_per_tensor else "row"
        return _TernaryValuedWeight(weight, kind, "F32", magnitude)
    return _TernaryValuedWeight(weight, "group", "F16" if fits_f16 else "F32", magnitude)


def _group_maxima(sizes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest of each group of 128 columns: float32 [n, ceil(K/128)]."""
    starts = np.arange(0, sizes.shape[1], GROUP_SIZE)
    largest: NDArray[np.float32] = np.maximum.reduceat(sizes, starts, axis=1)
    return largest


def _is_uniform(fine: NDArray[np.float32], coarse: NDArray[np.float32] | np.float32) -> bool:
    """Whether the coarse magnitude serves every fine one; an all-zero part fits any."""
    return bool(np.all((fine == 0) | (fine == coarse)))
