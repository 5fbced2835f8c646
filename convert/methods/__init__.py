"""Conversion methods: what becomes of a float weight. One file each, found by its place here.

A file has `METHODS`, a tuple of Method. To add a method, add its file; nothing else registers it.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from typing import Final, NamedTuple

from ..weights import Weight

__all__ = ["TERNARY", "Method", "StoredAs", "exact_dense_format", "method_by_name", "methods"]


TERNARY: Final = "ternary"  # ternary codes, in the format that the user chose for them


class StoredAs(NamedTuple):
    """A weight and the id of the format that it is stored in (formats/), or TERNARY."""

    weight: Weight
    format: str


class Method(ABC):
    """A conversion method.

    Attributes:
        name: what users type.
        summary: one line for --help.
        head: the format of the output head, and of a tied embedding, unless the user says
            another; None: the narrowest dense one that holds it.
        embedding: the format of an embedding of its own, None as for the head. Only one of its
            rows is read per token, so it need not be small.
        dense: the format of modules that are not to be quantized; None: the narrowest one that
            holds each.
        scale_kinds: granularities of scales to choose from, the default first; empty: none.
    """

    name: str
    summary: str
    head: str | None = None
    embedding: str | None = None
    dense: str | None = None
    scale_kinds: tuple[str, ...] = ()

    @abstractmethod
    def linear(self, weight: Weight, scale_kind: str) -> StoredAs:
        """How the weight of a linear layer is stored.

        Args:
            weight: as the source has it; a TernaryWeight where the source is ternary.
            scale_kind: one of `scale_kinds`; "none" if there are none.
        """


def exact_dense_format(weight: Weight) -> str:
    """The narrowest dense format that holds a weight without rounding: F32 -> "f32"."""
    return weight.dtype.lower()


def methods() -> dict[str, Method]:
    """Every method by name, sorted."""
    found: dict[str, Method] = {}
    for module in pkgutil.iter_modules(__path__):
        for method in importlib.import_module(f"{__name__}.{module.name}").METHODS:
            found[method.name] = method
    return dict(sorted(found.items()))


def method_by_name(name: str) -> Method:
    """Raises ValueError, with the names that there are, for any other."""
    known = methods()
    if name not in known:
        message = f"[convert] expected method to be one of {', '.join(known)}, got {name!r}"
        raise ValueError(message)
    return known[name]
