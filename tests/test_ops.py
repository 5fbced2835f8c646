"""The numpy operations against their formulas."""

import doctest
from typing import Any

import numpy as np
import pytest

from bitnet_py import ops

RNG = np.random.default_rng(3)
SHAPES = [(1, 1), (3, 5), (32, 128), (33, 129), (64, 260), (7, 1000)]


def matrix(n: int, k: int) -> np.ndarray:
    return RNG.standard_normal((n, k)).astype(np.float32)


def expanded(scale: np.ndarray, n: int, k: int) -> np.ndarray:
    """Any scale as one number per weight, float64 [N, K]."""
    wide = np.repeat(scale, 128, axis=1)[:, :k] if scale.ndim == 2 else scale.reshape(-1, 1)
    return np.broadcast_to(wide.astype(np.float64), (n, k))


@pytest.mark.parametrize("scale", ["tensor", "row", "group"])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_quantize_absmean(n: int, k: int, scale: str) -> None:
    w = matrix(n, k)
    w[0] = 0  # a row of zeros has gamma 1e-5
    t, gamma = ops.quantize_absmean(w, scale)
    size = {"tensor": (1,), "row": (n,), "group": (n, -(-k // 128))}[scale]
    assert (t.shape, t.dtype, gamma.shape, gamma.dtype) == ((n, k), np.int8, size, np.float32)
    axis, width = (None, k) if scale == "tensor" else (1, k if scale == "row" else 128)
    stored = np.float16 if scale == "group" else np.float32
    for begin in range(0, k, width):
        part = np.abs(w[:, begin : begin + width].astype(np.float64))
        expected = np.float32(np.maximum(part.mean(axis=axis), 1e-5)).astype(stored)
        got = gamma[:, begin // 128] if scale == "group" else gamma
        np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=np.finfo(stored).eps)
    ratio = w / expanded(gamma, n, k)
    assert (np.abs(np.clip(ratio, -1, 1) - t) <= 0.5 + 1e-6).all()


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_pack_and_unpack(n: int, k: int) -> None:
    t = RNG.integers(-1, 2, (n, k)).astype(np.int8)
    packed = ops.pack_ternary(t)
    assert packed.shape == (-(-n // 32), -(-k // 8) * 2, 32)
    np.testing.assert_array_equal(ops.unpack_ternary(packed, n, k), t, strict=True)
    backwards = ops.pack_ternary(t[:, ::-1])  # a view that is not contiguous
    np.testing.assert_array_equal(ops.unpack_ternary(backwards, n, k), t[:, ::-1])
    codes = RNG.integers(-127, 128, (n, k)).astype(np.int8)
    np.testing.assert_array_equal(ops.unpack_int8(ops.pack_int8(codes), n, k), codes, strict=True)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 200), (0, 5)])
def test_quantize_activations(shape: tuple[int, ...]) -> None:
    x = (4 * RNG.standard_normal(shape)).astype(np.float32)
    q, scale = ops.quantize_activations(x)
    assert (q.shape, q.dtype, scale.shape, scale.dtype) == (shape, np.int8, shape[:-1], np.float32)
    m = np.maximum(np.abs(x).max(axis=-1, initial=0), np.float32(1e-5))
    expected = np.clip(np.rint(x * (np.float32(127) / m)[..., None]), -128, 127)
    np.testing.assert_array_equal(q, expected.astype(np.int8))
    np.testing.assert_array_equal(scale, m / np.float32(127))


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
@pytest.mark.parametrize("scale", ["tensor", "row", "group", "int8"])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_linear(n: int, k: int, scale: str, lead: tuple[int, ...]) -> None:
    w, x = matrix(n, k), RNG.standard_normal((*lead, k)).astype(np.float32)
    if scale == "int8":
        codes, w_scale = ops.quantize_int8(w)
        y = ops.linear_int8(x, ops.pack_int8(codes), w_scale, threads=2)
        dense = ops.dequantize_int8(codes, w_scale).astype(np.float64)
    else:
        codes, w_scale = ops.quantize_absmean(w, scale)
        y = ops.bitlinear(x, ops.pack_ternary(codes), w_scale, n=n, threads=2)
        dense = codes * expanded(w_scale, n, k)
    q, x_scale = ops.quantize_activations(x)
    dequantized = q * x_scale.astype(np.float64)[..., None]
    assert (y.shape, y.dtype) == ((*lead, n), np.float32)
    # one rounding of each scale, of each group's product and of its sum
    bound = np.finfo(np.float32).eps * (3 + k // 128) * (np.abs(dequantized) @ np.abs(dense).T)
    assert (np.abs(y - dequantized @ dense.T) <= bound).all()


def test_rows_are_taken_from_the_scale_or_the_packed_shape() -> None:
    w, x = matrix(33, 16), matrix(1, 16)
    for scale, n in [("row", 33), ("group", 33), ("tensor", 64)]:
        t, gamma = ops.quantize_absmean(w, scale)
        assert ops.bitlinear(x, ops.pack_ternary(t), gamma).shape == (1, n)


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_int8_weights(n: int, k: int) -> None:
    w = matrix(n, k)
    codes, scale = ops.quantize_int8(w)
    np.testing.assert_allclose(scale, np.abs(w).max(axis=1) / 127, rtol=1e-6)
    error = np.abs(ops.dequantize_int8(codes, scale) - w)
    assert (error <= scale[:, None] * (0.5 + 1e-5)).all()


X, PACKED, ONE = matrix(2, 16), ops.pack_ternary(np.zeros((32, 16), np.int8)), np.ones(1, "f4")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.quantize_absmean(X[0]), r"expected w float32 \[N, K\], got float32 \[16\]"),
        (lambda: ops.quantize_absmean(X.astype("f8")), "expected w float32 .* got float64"),
        (lambda: ops.quantize_absmean(X, "column"), "expected scale tensor, row or group"),
        (lambda: ops.quantize_absmean(X * np.float32(np.nan)), "finite"),
        (lambda: ops.pack_ternary(np.full((1, 1), 2, np.int8)), "pack_ternary2"),
        (lambda: ops.pack_ternary(np.zeros((1, 1))), "expected t int8"),
        (lambda: ops.unpack_ternary(PACKED, 64, 16), "unpack_ternary2"),
        (lambda: ops.quantize_activations(X.astype("f2")), r"expected x float32 .* got float16"),
        (lambda: ops.bitlinear(X, PACKED, np.ones(31, "f4"), n=32), r"a scale \[32\], got \[31\]"),
        (lambda: ops.bitlinear(X, PACKED, np.ones((32, 2), "f4")), r"a scale \[32, 1\], got"),
        (lambda: ops.bitlinear(X, PACKED, ONE, n=65), "linear"),
        (lambda: ops.bitlinear(X[:, :7], PACKED, ONE), "linear"),
        (lambda: ops.linear_int8(X, PACKED, np.ones(32, "f4")), "linear"),
        (lambda: ops.dequantize_int8(np.zeros((2, 2), np.int8), ONE), r"a scale \[2\], got \[1\]"),
        (lambda: ops.pack_int8(np.full((1, 1), -128, np.int8)), "pack_int8"),
    ],
)
def test_wrong_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_examples() -> None:
    result = doctest.testmod(ops, extraglobs={"np": np})
    assert result.attempted > 2
    assert result.failed == 0
