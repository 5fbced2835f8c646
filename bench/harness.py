"""Timing on a noisy machine: contenders take turns, and ratios are taken within a round.

Owns: warm-up, the order of turns, ratios. Does not own: what a turn does, median and spread of what
it gives (bitnet_py.speed), how a result is written (report.py).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bitnet_py.speed import Samples

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
