"""`absmean`: ternary codes straight from the weights (arXiv 2402.17764).

What is ternary already is packed without loss. A model that was not trained to be ternary does not
survive absmean; the report says so with numbers.
"""

from ..absmean_weight import AbsmeanWeight
from ..ternary_valued import as_ternary
from ..weights import Weight
from . import TERNARY, Method, StoredAs


class Absmean(Method):
    """Lossless where the source is ternary, absmean elsewhere."""

    head = "int6"
    embedding = "int8"
    scale_kinds = ("tensor", "row", "group")

    def __init__(self, name: str, summary: str) -> None:
        """name, summary: see Method."""
        self.name = name
        self.summary = summary

    def linear(self, weight: Weight, scale_kind: str) -> StoredAs:
        """See Method."""
        return StoredAs(as_ternary(weight) or AbsmeanWeight(weight, scale_kind), TERNARY)


METHODS = (Absmean("absmean", "ternary by absmean; lossless where the source is ternary"),)
