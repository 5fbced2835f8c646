"""Float weights as a checkpoint stores them: F32, F16 or BF16, [N, K].

Owns: widening to float32, and the check that every value is finite.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..float_bits import is_finite, to_float32
from ..refusal import refuse
from ..weights import Weight

__all__ = ["FloatWeight"]


class FloatWeight(Weight):
    """A float weight, or one times a number: `weight_scale` of an unpacked ternary weight."""

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        dtype: str,
        read_stored: Callable[[int, int], NDArray[Any]],
        where: str,
        factor: np.float32 | None = None,
    ) -> None:
        """Views a stored tensor.

        Args:
            name: of the tensor.
            shape: (N, K).
            dtype: "F32", "F16" or "BF16", as stored.
            read_stored: gives rows [begin, end) as stored; BF16 as uint16.
            where: names the tensor in errors.
            factor: multiplies every value.
        """
        super().__init__(name, shape, dtype if factor is None else "F32")
        self._stored_dtype = dtype
        self._read_stored = read_stored
        self._where = where
        self._factor = factor

    def read(self, begin: int, end: int) -> NDArray[np.float32]:
        """See Weight."""
        rows = to_float32(self._read_stored(begin, end), self._stored_dtype)
        if not is_finite(rows):
            row, column = np.argwhere(~np.isfinite(rows))[0]
            refuse(self._where, f"{rows[row, column]} at row {begin + row}, column {column}")
        return rows if self._factor is None else rows * self._factor
