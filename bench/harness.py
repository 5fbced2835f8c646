"""Timing on a noisy machine: contenders take turns, and ratios are taken within a round.

Owns: warm-up, the order of turns, medians, spreads, ratios. Does not own: what a turn does, how a
result is written (report.py).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Contender", "Samples", "interleave", "median_ratio", "seconds_of"]


@dataclass(frozen=True)
class Contender:
    """One that takes turns.

    Attributes:
        name: unique among the contenders.
        measure: takes one turn and returns its number: seconds, tokens/s, bytes.
    """

    name: str
    measure: Callable[[], float]


@dataclass(frozen=True)
class Samples:
    """What a contender measured, one value per round."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.values)

    @property
    def median(self) -> float:
        """The value reported."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Interquartile range / median; 0 for a single value."""
        if self.n == 1:
            return 0.0
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return (high - low) / self.median

    def rates(self, amount: float) -> Samples:
        """Amount per second, of samples in seconds."""
        return Samples(tuple(amount / seconds for seconds in self.values))


def interleave(
    contenders: Sequence[Contender], *, rounds: int, warmup: int = 1, settle_s: float = 0.0
) -> dict[str, Samples]:
    """Lets contenders take turns round by round, a different one first in each round.

    Args:
        contenders: who takes turns.
        rounds: measured turns of each.
        warmup: turns of each before that, not kept.
        settle_s: pause before each turn, in which threads of the one before go to sleep.

    Returns:
        The samples of each contender by name; those of equal index are from one round.
    """
    values: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    if len(values) != len(contenders):
        message = f"contenders need names of their own, got {[c.name for c in contenders]}"
        raise ValueError(message)
    for turn in range(-warmup, rounds):
        first = turn % max(len(contenders), 1)
        for contender in [*contenders[first:], *contenders[:first]]:
            time.sleep(settle_s)
            value = contender.measure()
            if turn >= 0:
                values[contender.name].append(value)
    return {name: Samples(tuple(taken)) for name, taken in values.items()}


def median_ratio(ours: Samples, reference: Samples) -> float:
    """The median over rounds of ours / reference: what both met in a round cancels."""
    pairs = zip(ours.values, reference.values, strict=True)
    return statistics.median(mine / other for mine, other in pairs)


def seconds_of(action: Callable[[], object]) -> Callable[[], float]:
    """A measure of how long an action takes."""

    def measure() -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    return measure
