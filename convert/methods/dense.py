"""`f32`, `f16`, `bf16`, `dense`: no quantization.

A ternary source becomes dense by its effective weights, scale times code. `dense` takes for each
matrix the narrowest float type that holds it without rounding.
"""

from ..weights import Weight
from . import Method, StoredAs, exact_dense_format


class Dense(Method):
    """All matrices in one float type, or each in its own."""

    def __init__(self, name: str, summary: str, format_id: str | None) -> None:
        """format_id: the type of all; None: each its own."""
        self.name = name
        self.summary = summary
        self.head = self.embedding = self.dense = format_id

    def linear(self, weight: Weight, scale_kind: str) -> StoredAs:  # noqa: ARG002
        """See Method."""
        return StoredAs(weight, self.dense or exact_dense_format(weight))


METHODS = (
    Dense("bf16", "all dense bfloat16", "bf16"),
    Dense("dense", "not quantized, each matrix in the float type of the source", None),
    Dense("f16", "all dense float16", "f16"),
    Dense("f32", "all dense float32", "f32"),
)
