"""`ternary2` and `trits5`: the same codes in 2 and in 1.6 bits per weight.

The diagrams are in csrc/packing/ternary2.h and trits5.h.
"""

from typing import Any, Final

from numpy.typing import NDArray

from bitnet_py import _core

from ..weights import TernaryWeight, Weight
from . import ScaledEncoder

__all__ = ["TERNARY_FORMATS"]

PACK: Final = {"ternary2": _core.pack_ternary2, "trits5": _core.pack_trits5}
TERNARY_FORMATS: Final = tuple(PACK)  # the default first


class TernaryEncoder(ScaledEncoder):
    """Packs the codes of a ternary weight."""

    def __init__(self, name: str, weight: Weight, format_id: str) -> None:
        """Raises TypeError for a weight without codes."""
        if not isinstance(weight, TernaryWeight):
            message = f"{name}: {format_id} needs ternary codes"
            raise TypeError(message)
        super().__init__(
            name, weight, format_id, scale_kind=weight.scale_kind, scale_dtype=weight.scale_dtype
        )
        self._ternary = weight

    def encode(self, begin: int, end: int) -> NDArray[Any]:
        """See Encoder."""
        codes, scale = self._ternary.read_ternary(begin, end)
        self.put_scale(begin, scale)
        return PACK[self.format](codes)


ENCODERS = dict.fromkeys(PACK, TernaryEncoder)
