"""What flows through the converter: matrices that are read block of rows by block of rows.

Owns: the two kinds of weights, float and ternary. Does not own: where the rows come from
(sources/), how codes are chosen (methods/), how they lie in a file (formats/).
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitnet_py._core import GROUP_SIZE

from .block_pool import BlockPool

__all__ = ["TernaryBlock", "TernaryWeight", "Weight"]


class Weight(ABC):
    """A matrix [N, K].

    Attributes:
        name: of the tensor, for errors and reports.
        shape: (N, K), as the decoder needs it.
        dtype: "F32", "F16" or "BF16": the narrowest type that holds the values exactly.
    """

    def __init__(self, name: str, shape: tuple[int, int], dtype: str) -> None:
        """See the attributes."""
        self.name = name
        self.shape = shape
        self.dtype = dtype

    @abstractmethod
    def read(self, begin: int, end: int) -> NDArray[np.float32]:
        """Rows [begin, end): float32 [end - begin, K], C-contiguous, finite. Any thread may call.

        Raises:
            FormatError: the stored values break a rule; names the tensor.
        """

    def prepare(self, pool: BlockPool) -> None:  # noqa: B027 - most weights need no first pass
        """A pass over the rows that must come before the first read, where there is one."""


class TernaryBlock(NamedTuple):
    """Some rows of a ternary weight: w = scale * codes.

    Attributes:
        codes: int8 [n, K] in {-1, 0, 1}.
        scale: float32, [1] per tensor, [n] per row, or [n, ceil(K/128)] per group; not negative.
    """

    codes: NDArray[np.int8]
    scale: NDArray[np.float32]


class TernaryWeight(Weight):
    """A matrix of ternary codes and scales.

    Attributes:
        scale_kind: "tensor", "row" or "group" (128 along K).
        scale_dtype: "F32", or "F16" where every scale is exact in it.
        origin: where the codes come from, for reports: "packed", "masters" (quantized at load by
            the model's own definition), "ternary-valued" (floats of one magnitude) or "absmean".
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        *,
        dtype: str = "F32",
        scale_kind: str = "tensor",
        scale_dtype: str = "F32",
        origin: str,
    ) -> None:
        """See the attributes."""
        super().__init__(name, shape, dtype)
        self.scale_kind = scale_kind
        self.scale_dtype = scale_dtype
        self.origin = origin

    @abstractmethod
    def read_ternary(self, begin: int, end: int) -> TernaryBlock:
        """Codes and scales of rows [begin, end). Any thread may call."""

    def read(self, begin: int, end: int) -> NDArray[np.float32]:
        """The effective weights: scale * code."""
        codes, scale = self.read_ternary(begin, end)
        if self.scale_kind == "group":
            per_column = np.repeat(scale, GROUP_SIZE, axis=1)[:, : codes.shape[1]]
            return codes * per_column
        return codes * scale[:, np.newaxis]
