"""The operations of BitNet b1.58 (arXiv 2402.17764) on numpy arrays, by the engine's own kernels.

Weights w ~ scale * t with t in {-1, 0, 1}; activations x ~ scale * q with q int8. Scales multiply.

    t, scale = quantize_absmean(w)
    y = bitlinear(x, pack_ternary(t), scale, n=len(w))
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core

__all__ = [
    "bitlinear",
    "dequantize_int8",
    "linear_int8",
    "pack_int8",
    "pack_ternary",
    "quantize_absmean",
    "quantize_activations",
    "quantize_int8",
    "unpack_int8",
    "unpack_ternary",
]


def quantize_absmean(
    w: NDArray[np.float32], scale: str = "tensor"
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Ternary weights: t = clip(rint(w / gamma), -1, 1), gamma = max(mean|w|, 1e-5).

    Args:
        w: float32 [N, K], finite.
        scale: "tensor", "row", or "group" for one gamma per 128 columns of a row, as float16.

    Returns:
        t int8 [N, K] in {-1, 0, 1}, and gamma float32: [1], [N] or [N, ceil(K / 128)].

    Raises:
        ValueError: not a finite float32 matrix, or an unknown scale.

    Example:
        >>> t, gamma = quantize_absmean(np.float32([[1, -1, 0.25, 3.75]]))
        >>> t.tolist(), gamma.tolist()
        ([[1, -1, 0, 1]], [1.5])
    """
    w = _matrix("quantize_absmean", "w", w, np.float32)
    if scale == "group":
        return _core.absmean_quantize_groups(w)
    sums = _core.absmean_row_sums(w)
    if scale == "row":
        gamma = np.array([_core.absmean_scale(float(s), w.shape[1]) for s in sums], np.float32)
        return _core.absmean_quantize(w, gamma), gamma
    if scale == "tensor":
        gamma = np.array([_core.absmean_scale(float(sums.sum()), w.size)], np.float32)
        return _core.absmean_quantize(w, float(gamma[0])), gamma
    message = f"[quantize_absmean] expected scale tensor, row or group, got {scale!r}"
    raise ValueError(message)


def pack_ternary(t: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Packs ternary weights four to a byte, in the order that the kernels read.

    Args:
        t: int8 [N, K] in {-1, 0, 1}.

    Returns:
        uint8 [N_pad / 32, K_pad / 4, 32], N padded to 32 and K to 8 with weight 0.

    Raises:
        ValueError: not an int8 matrix, or another value in it.
    """
    return _core.pack_ternary2(_matrix("pack_ternary", "t", t, np.int8))


def unpack_ternary(packed: NDArray[np.uint8], n: int, k: int) -> NDArray[np.int8]:
    """The inverse of `pack_ternary`.

    Args:
        packed: uint8 [N_pad / 32, K_pad / 4, 32].
        n: rows, without padding.
        k: columns, without padding.

    Returns:
        int8 [n, k] in {-1, 0, 1}.

    Raises:
        ValueError: a shape that n and k do not give, or bytes that are no ternary codes.
    """
    return _core.unpack_ternary2(packed, n, k)


def quantize_activations(
    x: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Activations per token: q = clip(rint(x * 127 / m), -128, 127), m = max(max|x|, 1e-5).

    Args:
        x: float32 [..., K], finite.

    Returns:
        q int8 [..., K], and the scale m / 127 float32 [...]: x ~ scale * q.

    Raises:
        ValueError: not float32.

    Example:
        >>> q, scale = quantize_activations(np.float32([[0.5, -1, 0.25]]))
        >>> q.tolist()
        [[64, -127, 32]]
    """
    rows = _rows("quantize_activations", x)
    q, scale, _ = _kernels(1).quantize_act(rows)
    k = x.shape[-1]
    return np.ascontiguousarray(q[:, :k]).reshape(x.shape), scale.reshape(x.shape[:-1])


def bitlinear(
    x: NDArray[np.float32],
    packed: NDArray[np.uint8],
    scale: NDArray[np.float32],
    *,
    n: int | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """The W1.58A8 linear layer: quantizes x per token, multiplies in integers, scales once.

    Args:
        x: float32 [..., K], finite.
        packed: uint8 [N_pad / 32, K_pad / 4, 32], of `pack_ternary`.
        scale: float32 [1] per tensor, [N] per row or [N, ceil(K / 128)] per group, as
            `quantize_absmean` gives it.
        n: rows N of the weight; needed with a scale per tensor when N is no multiple of 32.
        threads: split the rows; results do not depend on it.

    Returns:
        float32 [..., N].

    Raises:
        ValueError: shapes or types that do not fit.
    """
    rows, k = _rows("bitlinear", x), x.shape[-1]
    scale = np.asarray(scale, np.float32)
    kind = "group" if scale.ndim == 2 else "tensor" if scale.size == 1 else "row"
    if n is None:
        n = len(scale) if kind != "tensor" else packed.shape[0] * 32
    stored = np.zeros(_core.scale_shape("ternary2", kind, n, k), np.float32)
    _store_scale("bitlinear", stored, scale, kind, n)
    y = _kernels(threads).linear("ternary2", packed, stored, kind, n, k, rows)
    return y.reshape(*x.shape[:-1], n)


def quantize_int8(w: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric absmax weights: codes = rint(w / scale), scale = max|w| / 127 per row.

    Args:
        w: float32 [N, K], finite.

    Returns:
        codes int8 [N, K] in [-127, 127], and the scale float32 [N].

    Raises:
        ValueError: not a finite float32 matrix.
    """
    return _core.quantize_int8_rows(_matrix("quantize_int8", "w", w, np.float32))


def dequantize_int8(codes: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights that codes stand for.

    Args:
        codes: int8 [N, K].
        scale: float32 [N].

    Returns:
        float32 [N, K], scale * codes.

    Raises:
        ValueError: shapes or types that do not fit.
    """
    codes = _matrix("dequantize_int8", "codes", codes, np.int8)
    stored = np.zeros((len(codes),), np.float32)
    _store_scale("dequantize_int8", stored, np.asarray(scale, np.float32), "row", len(codes))
    return codes.astype(np.float32) * stored[:, None]


def pack_int8(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Puts int8 weights into the order that the kernels read.

    Args:
        codes: int8 [N, K] in [-127, 127].

    Returns:
        uint8 [N_pad / 8, K_pad / 4, 32], N and K padded to 8 with 0.

    Raises:
        ValueError: not an int8 matrix, or a code -128.
    """
    return _core.pack_int8(_matrix("pack_int8", "codes", codes, np.int8))


def unpack_int8(packed: NDArray[np.uint8], n: int, k: int) -> NDArray[np.int8]:
    """The inverse of `pack_int8`.

    Args:
        packed: uint8 [N_pad / 8, K_pad / 4, 32].
        n: rows, without padding.
        k: columns, without padding.

    Returns:
        int8 [n, k].

    Raises:
        ValueError: a shape that n and k do not give.
    """
    return _core.unpack_int8(packed, n, k)


def linear_int8(
    x: NDArray[np.float32],
    packed: NDArray[np.uint8],
    scale: NDArray[np.float32],
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    """The W8A8 linear layer: quantizes x per token, multiplies in integers, scales once.

    Args:
        x: float32 [..., K], finite.
        packed: uint8 [N_pad / 8, K_pad / 4, 32], of `pack_int8`.
        scale: float32 [N].
        threads: split the rows; results do not depend on it.

    Returns:
        float32 [..., N].

    Raises:
        ValueError: shapes or types that do not fit.
    """
    rows, k = _rows("linear_int8", x), x.shape[-1]
    scale = np.asarray(scale, np.float32)
    n = scale.size
    stored = np.zeros(_core.scale_shape("int8", "row", n, k), np.float32)
    _store_scale("linear_int8", stored, scale, "row", n)
    y = _kernels(threads).linear("int8", packed, stored, "row", n, k, rows)
    return y.reshape(*x.shape[:-1], n)


@lru_cache(maxsize=8)
def _kernels(threads: int) -> _core.Kernels:
    return _core.Kernels(threads=threads)


def _matrix(op: str, name: str, array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    if array.ndim != 2 or array.dtype != dtype:
        expected = f"{name} {np.dtype(dtype)} [N, K]"
        message = f"[{op}] expected {expected}, got {array.dtype} {list(array.shape)}"
        raise ValueError(message)
    return np.ascontiguousarray(array)


def _rows(op: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last axis of x as rows of a matrix [T, K]."""
    if x.ndim < 1 or x.dtype != np.float32:
        message = f"[{op}] expected x float32 [..., K], got {x.dtype} {list(x.shape)}"
        raise ValueError(message)
    return np.ascontiguousarray(x.reshape(-1, x.shape[-1]))


def _store_scale(
    op: str, stored: NDArray[np.float32], scale: NDArray[np.float32], kind: str, n: int
) -> None:
    """Writes a scale in the layout of files: padded rows, groups first."""
    shape = (n, stored.shape[0]) if kind == "group" else (1,) if kind == "tensor" else (n,)
    if scale.size != np.prod(shape) or (kind == "group" and scale.shape != shape):
        message = f"[{op}] expected a scale {list(shape)}, got {list(scale.shape)}"
        raise ValueError(message)
    if kind == "group":
        stored[:, :n] = scale.T
    else:
        stored[: scale.size] = scale.reshape(-1)
