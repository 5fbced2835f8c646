"""Attention over blocks of keys: right within rounding, and each query's bits its own."""

import numpy as np
import pytest
import reference
from kernel_cases import ISAS, THREADS

from bitnet_py import _core

BLOCK = _core.KEY_BLOCK
N_KEYS = [1, 2, 7, 8, 9, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 5, 700]
HEAD_DIMS = [1, 4, 16, 20, 64, 80, 128]


def as_stored(x: np.ndarray, kv_dtype: str) -> np.ndarray:
    """What a cache of this type gives back for rows [n, head_dim]."""
    if kv_dtype == "f16":
        return x.astype(np.float16).astype(np.float32)
    if kv_dtype == "int8":
        absmax = np.abs(x).max(axis=1, keepdims=True)
        codes = np.rint(x * (np.float32(127) / absmax))
        return (absmax / np.float32(127) * codes).astype(np.float32)
    return x


def random_heads(head_dim: int, queries: int, keys: int = 700) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(9)
    sizes = (queries, keys, keys)
    return tuple(rng.standard_normal((size, head_dim)).astype(np.float32) for size in sizes)


@pytest.mark.parametrize("kv_dtype", _core.KV_DTYPES)
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("isa", ISAS)
def test_attend(isa: str, head_dim: int, kv_dtype: str) -> None:
    q, k, v = random_heads(head_dim, len(N_KEYS))
    q *= 4  # sharper than the mean of all values
    got = _core.Kernels(isa).attend(q, k, v, N_KEYS, kv_dtype=kv_dtype)
    k, v = as_stored(k, kv_dtype), as_stored(v, kv_dtype)
    for i, n_keys in enumerate(N_KEYS):
        expected, tolerance = reference.attention(q[i], k, v, n_keys)
        assert (np.abs(got[i] - expected) <= tolerance).all(), n_keys


@pytest.mark.parametrize("kv_dtype", _core.KV_DTYPES)
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("isa", ISAS)
def test_a_query_does_not_depend_on_the_others(isa: str, head_dim: int, kv_dtype: str) -> None:
    """Alone, in every grouping, in both orders, on several threads: the same bits."""
    q, k, v = random_heads(head_dim, len(N_KEYS))
    kernels = _core.Kernels(isa)
    alone = np.concatenate(
        [
            kernels.attend(q[i : i + 1], k, v, N_KEYS[i : i + 1], kv_dtype=kv_dtype)
            for i in range(len(q))
        ]
    )
    for size in (2, 3, 4, 5, len(q)):
        for i in range(0, len(q), size):
            some = slice(i, i + size)
            got = kernels.attend(q[some], k, v, N_KEYS[some], kv_dtype=kv_dtype)
            np.testing.assert_array_equal(got, alone[some])
    back = kernels.attend(q[::-1].copy(), k, v, N_KEYS[::-1], kv_dtype=kv_dtype)
    np.testing.assert_array_equal(back[::-1], alone)
    for threads in THREADS:
        got = _core.Kernels(isa, threads).attend(q, k, v, N_KEYS, kv_dtype=kv_dtype)
        np.testing.assert_array_equal(got, alone)


@pytest.mark.parametrize("kv_dtype", _core.KV_DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_keys_that_a_query_does_not_see_do_not_touch_it(isa: str, kv_dtype: str) -> None:
    q, k, v = random_heads(64, 4)
    n_keys = [297, 298, 299, 300]
    clean = _core.Kernels(isa).attend(q, k, v, n_keys, kv_dtype=kv_dtype)
    k[297:], v[297:] = np.nan, np.inf
    got = _core.Kernels(isa).attend(q, k, v, n_keys, kv_dtype=kv_dtype)
    np.testing.assert_array_equal(got[0], clean[0])
    assert not np.isfinite(got[1:]).any()


@pytest.mark.parametrize("isa", ISAS)
def test_large_scores_do_not_overflow(isa: str) -> None:
    """A score of 10000 beats the others wherever it stands, also in an earlier block."""
    q, k, v = random_heads(16, 1)
    for winner in (0, BLOCK - 1, BLOCK, 650):
        keys = k.copy()
        keys[winner] = q[0] * (4e4 / (q[0] @ q[0]))
        got = _core.Kernels(isa).attend(q, keys, v, [700])
        np.testing.assert_array_equal(got[0], v[winner])


@pytest.mark.parametrize("isa", ISAS)
def test_the_cache_rounds_to_float16_to_nearest_even(isa: str) -> None:
    """Over one key the result is its value as stored: ties, subnormals, the largest, zeros."""
    halves = np.arange(0, 0x7C00, 7, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[:-1] + halves[1:]) / 2
    v = np.concatenate([halves, -halves, ties, -ties, np.nextafter(ties, np.float32(0))])
    v = v[: len(v) // 16 * 16].reshape(-1, 16)
    rows = np.concatenate(
        [_core.Kernels(isa).attend(v[:1], row[None], row[None], [1], kv_dtype="f16") for row in v]
    )
    np.testing.assert_array_equal(rows, v.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("isa", ISAS)
def test_int8_values_so_small_that_127_divided_by_them_is_infinite(isa: str) -> None:
    v = np.array([[3e-37, -1e-37, 0, 0], [1e-38, 0, -1e-38, 0], [1e-45, 0, 0, 0]], np.float32)
    for row in v:
        got = _core.Kernels(isa).attend(v[:1], row[None], row[None], [1], kv_dtype="int8")
        np.testing.assert_allclose(got[0], row, rtol=0, atol=1e-36 / 127)


@pytest.mark.parametrize("isa", ISAS)
def test_int8_keys_of_zeros_and_of_large_values(isa: str) -> None:
    v = np.array([[0, 0, 0, 0], [3e38, -1e38, 0, 1]], np.float32)
    for row in v:
        got = _core.Kernels(isa).attend(v[:1], row[None], row[None], [1], kv_dtype="int8")
        np.testing.assert_allclose(
            got[0], as_stored(row[None] + 0, "int8")[0] if row.any() else row
        )
