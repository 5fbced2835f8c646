"""`f32`, `f16`, `bf16`: plain rows [N, K]."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..float_bits import from_float32, is_finite, to_float32
from ..refusal import refuse
from ..weights import Weight
from . import Encoder, Entry

DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


class DenseEncoder(Encoder):
    """Rounds to the type, half to even."""

    def __init__(self, name: str, weight: Weight, format_id: str) -> None:
        """See Encoder."""
        super().__init__(name, weight, format_id)
        self.entry = Entry(name, DTYPES[format_id], weight.shape)

    def encode(self, begin: int, end: int) -> NDArray[Any]:
        """See Encoder."""
        dtype = self.entry.dtype
        values = self.weight.read(begin, end)
        stored = from_float32(values, dtype)
        if dtype != self.weight.dtype and not is_finite(to_float32(stored, dtype)):
            largest = np.abs(values).max()
            refuse(self.weight.name, f"{largest} is too large for {self.format}; use bf16 or f32")
        return stored


ENCODERS = dict.fromkeys(DTYPES, DenseEncoder)
