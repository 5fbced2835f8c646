"""How fast a decoder runs on this machine, in the terms of llama-bench.

A test is `ppN`, a prompt of N tokens in one call, or `tgN`, N single tokens one after the other;
`@ dD` behind it: with D tokens in the KV cache before. Both give the logits of the last token;
nothing is sampled. Owns: one timed test, the order of repetitions, median and spread. Does not own:
what is printed (cli_bench.py), other engines (bench/).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core

__all__ = [
    "Measured",
    "Samples",
    "Workload",
    "fill_cache",
    "measure_tests",
    "random_ids",
    "run_seconds",
    "weight_bytes_per_token",
]

SEED_TOKENS = 256  # what is really computed of a filled cache; the rest repeats it


@dataclass(frozen=True)
class Samples:
    """What was measured of one thing, one value per round."""

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


class Workload(NamedTuple):
    """What is timed.

    Attributes:
        tokens: how many are evaluated.
        at_once: how many of them in one call: 1 decodes, `tokens` is a prompt.
        depth: tokens in the KV cache before.
    """

    tokens: int
    at_once: int
    depth: int = 0

    @property
    def is_decode(self) -> bool:
        """Whether tokens come one after the other."""
        return self.at_once == 1

    @property
    def name(self) -> str:
        """As llama-bench prints it."""
        kind = "tg" if self.is_decode else "pp"
        return f"{kind}{self.tokens}" + (f" @ d{self.depth}" if self.depth else "")


class Measured(NamedTuple):
    """A test with a number of threads, and its tokens per second."""

    test: Workload
    threads: int
    tokens_per_s: Samples


def random_ids(vocab_size: int, count: int) -> NDArray[np.int32]:
    """The same random token ids in every run; the first three are left to special tokens."""
    low = min(3, vocab_size - 1)
    return np.random.default_rng(1).integers(low, vocab_size, count).astype(np.int32)


def fill_cache(session: _core.Session, ids: NDArray[np.int32], depth: int) -> None:
    """Gives a session `depth` tokens: what it costs to read them does not depend on what they say.

    The first 256 are computed and the others copied from them: a real prompt of 16k tokens would
    take longer than what is measured behind it.

    Args:
        session: of any length; its content is replaced.
        ids: token ids, at least one.
        depth: tokens in the cache afterwards.
    """
    session.truncate(0)
    if depth == 0:
        return
    seed = ids[: min(depth, SEED_TOKENS)]
    session.forward(seed, "none")
    if depth > len(seed):
        k, v = session.export_kv()
        at = np.arange(depth) % k.shape[2]
        session.import_kv(np.take(k, at, axis=2), np.take(v, at, axis=2))


def run_seconds(session: _core.Session, ids: NDArray[np.int32], test: Workload) -> float:
    """Runs a test once and returns the seconds it took.

    Args:
        session: holds at least `test.depth` tokens, and has room for `test.tokens` more.
        ids: at least `test.tokens` token ids.
        test: what to run.
    """
    session.truncate(test.depth)
    start = time.perf_counter()
    for first in range(0, test.tokens, test.at_once):
        session.forward(ids[first : min(first + test.at_once, test.tokens)])
    return time.perf_counter() - start


def measure_tests(
    models: Mapping[int, _core.Model],
    tests: Sequence[Workload],
    *,
    kv_dtype: str,
    repetitions: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Measured]:
    """Measures every test with every number of threads.

    They take turns, repetition by repetition, so that a busy moment of the machine hits all alike;
    one turn of each before that is not counted.

    Args:
        models: the same model by its number of threads.
        tests: what to run.
        kv_dtype: how keys and values are stored.
        repetitions: measured turns of each.
        on_progress: called with (turns done, turns to do).

    Raises:
        ValueError: a test needs more than the model's context, or there is nothing to do.
    """
    if not models or not tests or repetitions < 1:
        message = "[bench] expected at least one test, one number of threads and one repetition"
        raise ValueError(message)
    config = next(iter(models.values())).config
    longest = max(tests, key=lambda test: test.depth + test.tokens)
    if longest.depth + longest.tokens > config["max_position_embeddings"]:
        message = (
            f"[bench] expected depth + tokens of at most {config['max_position_embeddings']}, "
            f"the model's context, got {longest.depth} + {longest.tokens}; take shorter ones"
        )
        raise ValueError(message)
    ids = random_ids(config["vocab_size"], max(SEED_TOKENS, *(test.tokens for test in tests)))
    rooms: dict[int, int] = {}
    for test in tests:
        rooms[test.depth] = max(rooms.get(test.depth, 0), test.depth + test.tokens)
    sessions = {}
    for threads, model in models.items():
        for depth, room in rooms.items():
            session = sessions[threads, depth] = _core.Session(model, room, kv_dtype)
            fill_cache(session, ids, depth)

    pairs = [(threads, test) for threads in models for test in tests]
    seconds: dict[tuple[int, Workload], list[float]] = {pair: [] for pair in pairs}
    turns = (repetitions + 1) * len(pairs)
    for turn in range(turns):
        threads, test = pairs[turn % len(pairs)]
        taken = run_seconds(sessions[threads, test.depth], ids, test)
        if turn >= len(pairs):
            seconds[threads, test].append(taken)
        if on_progress is not None:
            on_progress(turn + 1, turns)
    return [
        Measured(test, threads, Samples(tuple(seconds[threads, test])).rates(test.tokens))
        for threads, test in pairs
    ]


def weight_bytes_per_token(model: _core.Model, tensors: Mapping[str, _core.PackedTensor]) -> int:
    """The bytes of codes and scales that one decoded token reads: all linears and the output head.

    Args:
        model: whose config says what is a head.
        tensors: its tensors by name.
    """
    tied = bool(model.config["tie_word_embeddings"])
    products = _core.Kernels(model.isa).products
    total = 0
    for spec in _core.tensor_specs(model.config):
        if spec.role in ("linear", "head") or (spec.role == "embedding" and tied):
            tensor = tensors[spec.name]
            if tensor.format in products:
                total += tensor.data.nbytes
            else:  # it was expanded when the model was made
                total += math.prod(_core.packed_shape("ternary2", *spec.shape))
            total += 0 if tensor.scale is None else tensor.scale.nbytes
    return total
