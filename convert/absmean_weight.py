"""Ternary codes by absmean (arXiv 2402.17764, eq. 1-3), computed while the rows stream by.

    gamma = max(mean|W|, 1e-5);  t = clip(rint_half_even(W * (1/gamma)), -1, 1);  w ~ gamma * t

Owns: the two passes that one gamma per tensor needs. The formulas are compiled
(csrc/packing/absmean.h).
"""

import numpy as np

from bitnet_py import _core

from .block_pool import BlockPool, row_blocks
from .refusal import refuse
from .weights import TernaryBlock, TernaryWeight, Weight

__all__ = ["AbsmeanWeight"]


class AbsmeanWeight(TernaryWeight):
    """The absmean codes of a float weight.

    Attributes:
        original: the float weight.
    """

    def __init__(self, original: Weight, scale_kind: str, *, origin: str = "absmean") -> None:
        """scale_kind: one gamma per "tensor", "row" or "group"."""
        super().__init__(
            original.name,
            original.shape,
            scale_kind=scale_kind,
            scale_dtype="F16" if scale_kind == "group" else "F32",
            origin=origin,
        )
        self.original = original
        self._tensor_gamma: float | None = None

    def prepare(self, pool: BlockPool) -> None:
        """Sums |W| where one gamma serves the tensor: rows in order, so blocks do not matter."""
        self.original.prepare(pool)
        if self.scale_kind != "tensor" or self._tensor_gamma is not None:
            return
        total = 0.0
        blocks = row_blocks(*self.shape, multiple=1)
        for sums in pool.map(
            lambda begin, end: _core.absmean_row_sums(self.original.read(begin, end)), blocks
        ):
            total = float(np.cumsum(np.concatenate(([total], sums)))[-1])
        self._tensor_gamma = _core.absmean_scale(total, self.shape[0] * self.shape[1])

    def read_ternary(self, begin: int, end: int) -> TernaryBlock:
        """Codes and gammas of rows [begin, end); group gammas are rounded to float16 before use."""
        rows = self.original.read(begin, end)
        if self.scale_kind == "group":
            codes, scale = _core.absmean_quantize_groups(rows, round_f16=True)
            if not np.isfinite(scale).all():
                refuse(
                    self.name,
                    "the mean |weight| of a group of 128 is too large for float16; use --scale row",
                )
            return TernaryBlock(codes, scale)
        if self.scale_kind == "row":
            gamma = np.array(
                [
                    _core.absmean_scale(float(s), self.shape[1])
                    for s in _core.absmean_row_sums(rows)
                ],
                np.float32,
            )
            return TernaryBlock(_core.absmean_quantize(rows, gamma), gamma)
        if self._tensor_gamma is None:
            message = f"{self.name}: read before prepare"
            raise RuntimeError(message)
        return TernaryBlock(
            _core.absmean_quantize(rows, self._tensor_gamma),
            np.array([self._tensor_gamma], np.float32),
        )
