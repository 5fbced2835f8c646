"""Numbers and lines of the READMEs' tables."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["line", "number"]


def number(value: float, digits: int) -> str:
    """A number with so many significant digits, without an exponent."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def line(cells: Iterable[str]) -> str:
    """A line of a table, without its end."""
    return f"| {' | '.join(cells)} |"
