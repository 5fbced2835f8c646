"""`int8`: symmetric, one absmax scale per row; the layout is in csrc/packing/int8.h."""

from typing import Any

from numpy.typing import NDArray

from bitnet_py import _core

from ..weights import Weight
from . import ScaledEncoder


class Int8Encoder(ScaledEncoder):
    """Quantizes float rows as they pass."""

    def __init__(self, name: str, weight: Weight, format_id: str) -> None:
        """See Encoder."""
        super().__init__(name, weight, format_id, scale_kind="row", scale_dtype="F32")

    def encode(self, begin: int, end: int) -> NDArray[Any]:
        """See Encoder."""
        codes, scale = _core.quantize_int8_rows(self.weight.read(begin, end))
        self.put_scale(begin, scale)
        return _core.pack_int8(codes)


ENCODERS = {"int8": Int8Encoder}
