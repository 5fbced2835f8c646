"""F32, F16 and BF16 as numpy can hold them: BF16 travels as the uint16 of its bits.

Owns: the conversions between them, rounding half to even. Does not own: which tensor gets which.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOAT_BYTES", "from_float32", "is_finite", "to_float32"]

FLOAT_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}


def to_float32(stored: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Widens stored floats; exact.

    Args:
        stored: float32, float16, or uint16 (the bits of BF16), C-contiguous, any shape.
        dtype: "F32", "F16" or "BF16".

    Returns:
        float32 of the same shape; `stored` itself where nothing has to be done.
    """
    if dtype == "BF16":
        bits = stored.astype(np.uint32)
        bits <<= np.uint32(16)
        return bits.view(np.float32)
    return stored.astype(np.float32, copy=False)


def from_float32(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Rounds finite values half to even; what is too large for the type becomes infinite.

    Returns:
        float32, float16, or uint16 (the bits of BF16), of the same shape.
    """
    if dtype == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return ((bits + (odd + np.uint32(0x7FFF))) >> np.uint32(16)).astype(np.uint16)
    with np.errstate(over="ignore"):
        return values.astype(np.float16 if dtype == "F16" else np.float32, copy=False)


def is_finite(values: NDArray[np.float32]) -> bool:
    """Whether there is neither NaN nor infinity. One fast sum decides in nearly all cases."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())
