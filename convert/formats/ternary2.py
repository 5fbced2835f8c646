"""`ternary2`: two bits per weight; the bit diagram is in csrc/packing/ternary2.h."""

from typing import Any

from numpy.typing import NDArray

from bitnet_py import _core

from ..weights import TernaryWeight, Weight
from . import ScaledEncoder


class Ternary2Encoder(ScaledEncoder):
    """Packs the codes of a ternary weight."""

    def __init__(self, name: str, weight: Weight, format_id: str) -> None:
        """Raises TypeError for a weight without codes."""
        if not isinstance(weight, TernaryWeight):
            message = f"{name}: ternary2 needs ternary codes"
            raise TypeError(message)
        super().__init__(
            name, weight, format_id, scale_kind=weight.scale_kind, scale_dtype=weight.scale_dtype
        )
        self._ternary = weight

    def encode(self, begin: int, end: int) -> NDArray[Any]:
        """See Encoder."""
        codes, scale = self._ternary.read_ternary(begin, end)
        self.put_scale(begin, scale)
        return _core.pack_ternary2(codes)


ENCODERS = {"ternary2": Ternary2Encoder}
