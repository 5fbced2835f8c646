"""Hugging Face's packed ternary weights: uint8 [N/4, K], four far-apart rows in a byte.

Row r + i * N/4 of the weight lies in bits 2i..2i+1 of packed row r; codes 0, 1, 2 are -1, 0, +1 and
3 is invalid. N is a multiple of 4.

Owns: this layout, and the inversion of `weight_scale` where the source divides by it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..refusal import refuse
from ..weights import TernaryBlock, TernaryWeight

__all__ = ["FIELDS", "PackedWeight", "multiplying_scale"]

FIELDS = 4  # 2-bit fields in a byte
INVALID_CODE = 3


class PackedWeight(TernaryWeight):
    """A packed weight with one scale."""

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        scale: np.float32,
        read_packed: Callable[[int, int], NDArray[np.uint8]],
        where: str,
    ) -> None:
        """Views a packed tensor.

        Args:
            name: of the tensor.
            shape: (N, K) of the weight.
            scale: multiplies the codes.
            read_packed: gives rows [begin, end) of the packed tensor, uint8 [end - begin, K].
            where: names the tensor in errors.
        """
        is_bf16 = scale.view(np.uint32) & 0xFFFF == 0
        super().__init__(name, shape, dtype="BF16" if is_bf16 else "F32", origin="packed")
        self._scale = np.array([scale], np.float32)
        self._read_packed = read_packed
        self._where = where

    def read_ternary(self, begin: int, end: int) -> TernaryBlock:
        """See TernaryWeight. Raises FormatError for a code 3."""
        codes = np.empty((end - begin, self.shape[1]), np.int8)
        field_rows = self.shape[0] // FIELDS
        for field in range(FIELDS):
            offset = field * field_rows
            first, last = max(begin, offset), min(end, offset + field_rows)
            if first >= last:
                continue
            packed = self._read_packed(first - offset, last - offset)
            found = (packed >> np.uint8(2 * field)) & np.uint8(3)
            if found.max() == INVALID_CODE:
                row, column = np.argwhere(found == INVALID_CODE)[0]
                refuse(
                    self._where,
                    f"code 3 at row {first + row}, column {column}; it must be 0, 1 or 2",
                )
            np.subtract(found.view(np.int8), 1, out=codes[first - begin : last - begin])
        return TernaryBlock(codes, self._scale)


def multiplying_scale(stored: np.float32, *, is_inverse: bool, where: str) -> np.float32:
    """The scale that multiplies codes, from a stored `weight_scale`.

    Raises:
        FormatError: it is not finite, not positive, or has no finite inverse.
    """
    if not (np.isfinite(stored) and stored > 0):
        refuse(where, f"the scale must be positive and finite, got {stored}")
    with np.errstate(over="ignore"):
        scale = np.float32(1) / stored if is_inverse else stored
    if not np.isfinite(scale):
        refuse(where, f"the scale {stored} has no finite inverse")
    return np.float32(scale)
