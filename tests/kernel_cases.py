"""Which kernel tables and shapes the kernel tests run over."""

from collections.abc import Iterator

import numpy as np
import pytest

from bitnet_py import _core

# Every table of this build; those that this CPU cannot run are reported as skipped.
ISAS = [
    pytest.param(
        isa,
        marks=pytest.mark.skipif(
            isa not in _core.available_isas(), reason=f"this CPU cannot run {isa}"
        ),
    )
    for isa in _core.compiled_isas()
]

# (N, K): 1, a tile and its neighbours, primes, more than one block of columns, real layers.
SHAPES = [
    (1, 1),
    (7, 3),
    (8, 4),
    (9, 8),
    (31, 9),
    (32, 127),
    (33, 128),
    (37, 131),
    (64, 255),
    (65, 256),
    (97, 257),
    (127, 521),
    (172, 64),
    (128, 352),
    (2560, 640),
]

# Tokens: one and two (GEMV), every remainder of a register tile, past one block of tokens.
TOKENS = [1, 2, 3, 4, 5, 6, 7, 64, 65, 97]

THREADS = [1, 2, 5]


def calls() -> Iterator[tuple[int, int]]:
    """(tokens, threads): every number of tokens, and every number of threads for GEMV and GEMM."""
    for tokens in TOKENS:
        for threads in THREADS if tokens in (1, 7) else [2]:
            yield tokens, threads


def random_ternary2(n: int, k: int, seed: int = 0) -> np.ndarray:
    """Random packed codes uint8 [N_pad/32, K_pad/4, 32]; padding holds any code 0..2 as well.

    The padding's products meet zero activations or rows that nobody reads: it must not matter.
    """
    shape = (-(-n // 32), -(-k // 8) * 2, 32, 4)
    fields = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    return fields @ np.array([1, 4, 16, 64], np.uint8)


def random_trits5(n: int, k: int, seed: int = 0) -> np.ndarray:
    """Random packed codes uint8 [N_pad/32, tiles, 32], padding as in random_ternary2."""
    panels, tiles = -(-n // 32), -(-k // 8) * 2
    rng = np.random.default_rng(seed)
    byte = rng.integers(0, 81, (panels, tiles // 5 * 4, 32)) + 84 * rng.integers(
        0, 3, (panels, tiles // 5 * 4, 32)
    )
    fields = rng.integers(0, 3, (panels, tiles % 5, 32, 4)) @ np.array([1, 4, 16, 64])
    return np.concatenate([byte, fields], 1).astype(np.uint8)


def random_int8(n: int, k: int, seed: int = 0) -> np.ndarray:
    """Random packed codes in [-127, 127]: uint8 [N_pad/8, K_pad/4, 32]."""
    shape = (-(-n // 8), -(-k // 8) * 2, 32)
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8).view(np.uint8)


def random_int6(n: int, k: int, seed: int = 0) -> np.ndarray:
    """Random packed codes, every byte valid: uint8 [N_pad/32, K_pad/4, 96]."""
    shape = (-(-n // 32), -(-k // 8) * 2, 96)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def random_acts(tokens: int, k: int, seed: int = 1) -> np.ndarray:
    """int8 [tokens, k] over the whole range, with one row of each extreme where there is room."""
    q = np.random.default_rng(seed).integers(-128, 128, (tokens, k)).astype(np.int8)
    q[0] = -128
    if tokens > 2:
        q[1] = 127
    return q


def random_x(tokens: int, k: int, seed: int = 2) -> np.ndarray:
    """float32 [tokens, k], rows of very different magnitude."""
    rng = np.random.default_rng(seed)
    magnitude = 10.0 ** rng.integers(-4, 4, (tokens, 1))
    return (rng.standard_normal((tokens, k)) * magnitude).astype(np.float32)
