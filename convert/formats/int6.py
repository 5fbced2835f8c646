"""`int6`: six bits per weight, a float16 scale per row and 32 columns; csrc/packing/int6.h."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core

from ..refusal import refuse
from ..weights import Weight
from . import ScaledEncoder


class Int6Encoder(ScaledEncoder):
    """Quantizes float rows as they pass."""

    def __init__(self, name: str, weight: Weight, format_id: str) -> None:
        """See Encoder."""
        super().__init__(name, weight, format_id, scale_kind="group", scale_dtype="F16")

    def encode(self, begin: int, end: int) -> NDArray[Any]:
        """See Encoder."""
        values = self.weight.read(begin, end)
        try:
            codes, scale = _core.quantize_int6_groups(values)
        except ValueError:
            largest = np.abs(values).max()
            refuse(self.weight.name, f"{largest} is too large for int6; use int8, bf16 or f32")
        self.put_scale(begin, scale)
        return _core.pack_int6(codes)

    def put_scale(self, begin: int, scale: NDArray[np.float32]) -> None:
        """[n, groups], put panel by panel: [panels, groups, rows of a panel]."""
        rows = self.panel_rows
        panels = -(-len(scale) // rows)
        padded = np.zeros((panels * rows, scale.shape[1]), np.float32)
        padded[: len(scale)] = scale
        first = begin // rows
        by_panel = padded.reshape(panels, rows, -1).swapaxes(1, 2)
        self._scale[first : first + panels] = by_panel


ENCODERS = {"int6": Int6Encoder}
