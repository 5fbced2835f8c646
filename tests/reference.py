"""What the kernels must compute, written down once more in numpy, from the papers and the diagrams.

Integers are exact. Functions that say "bitwise" do the float32 operations of the contract in its
order; the others compute in float64, and tests derive their tolerance from float32's rounding.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
EPS = float(np.finfo(np.float32).eps)  # one rounding is off by at most half of it
TINY = float(np.finfo(np.float32).tiny)  # below it roundings are absolute
GROUP = 128


# ---- Stored layouts: csrc/packing/ternary2.h, trits5.h, int8.h, int6.h


def unpack_ternary2(packed: Array, n: int, k: int) -> Array:
    """uint8 [N_pad/32, K_pad/4, 32] -> int8 [n, k] in {-1, 0, 1} (code 3 gives 2).

    Byte 4*i + j of a tile holds column j of rows i, i+8, i+16, i+24 in its bits from the lowest up.
    """
    panels, tiles, _ = packed.shape
    codes = np.zeros((panels * 32, tiles * 4), np.int8)
    for field in range(4):
        values = (packed >> np.uint8(2 * field) & np.uint8(3)).astype(np.int8)
        rows = values.reshape(panels, tiles, 8, 4).transpose(0, 2, 1, 3).reshape(panels, 8, -1)
        for panel in range(panels):
            first = 32 * panel + 8 * field
            codes[first : first + 8] = rows[panel]
    return codes[:n, :k] - np.int8(1)


def expand_trits5(packed: Array, k: int) -> Array:
    """uint8 [N_pad/32, stored tiles, 32] -> the same as ternary2, [N_pad/32, K_pad/4, 32].

    Byte p of stored tile f of a quintet is t + 84 * d: t has the four codes of tile f's byte p as
    digits base 3, the lowest field first; d is field f of byte p of the fifth tile.
    """
    quintets, rest = divmod(-(-k // 8) * 2, 5)
    stored = packed[:, : 4 * quintets].reshape(len(packed), quintets, 4, 32)
    t, d = stored % np.uint8(84), stored // np.uint8(84)
    power = np.arange(4, dtype=np.uint8)
    first = sum((t // np.uint8(3**i) % np.uint8(3)) << np.uint8(2 * i) for i in range(4))
    fifth = (d << (2 * power)[:, None]).sum(2, dtype=np.uint8)[:, :, None]
    tiles = np.concatenate([first, fifth], 2).reshape(len(packed), 5 * quintets, 32)
    return np.concatenate([tiles, packed[:, packed.shape[1] - rest :]], 1)


def unpack_trits5(packed: Array, n: int, k: int) -> Array:
    """uint8 [N_pad/32, stored tiles, 32] -> int8 [n, k] in {-1, 0, 1}."""
    return unpack_ternary2(expand_trits5(packed, k), n, k)


def unpack_int8(packed: Array, n: int, k: int) -> Array:
    """uint8 [N_pad/8, K_pad/4, 32] -> int8 [n, k]: byte 4*i + j holds column j of row i."""
    panels, tiles, _ = packed.shape
    rows = packed.view(np.int8).reshape(panels, tiles, 8, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(rows.reshape(panels * 8, tiles * 4)[:n, :k])


def unpack_int6(packed: Array, n: int, k: int) -> Array:
    """uint8 [N_pad/32, K_pad/4, 96] -> int8 [n, k] in [-32, 31].

    A tile is three runs of 32 bytes. Byte 4*i + j of run r holds column j: of row i + 8*r the code
    in bits 0-5, of row i + 24 two bits in bits 6-7, the highest of them in run 0.
    """
    panels, tiles, _ = packed.shape
    runs = packed.reshape(panels, tiles, 3, 8, 4).astype(np.int64)
    high = runs[:, :, 0] // 64 * 16 + runs[:, :, 1] // 64 * 4 + runs[:, :, 2] // 64
    rows = np.concatenate([runs % 64, high[:, :, None]], axis=2)  # panel, tile, field, i, j
    codes = rows.transpose(0, 2, 3, 1, 4).reshape(panels * 32, tiles * 4)
    return (codes[:n, :k] - 32).astype(np.int8)


# ---- Quantization


def absmean(w: Array) -> tuple[Array, np.float32]:
    """t int8 [N, K] and gamma, one for the tensor (arXiv 2402.17764, eq. 1-3)."""
    gamma = np.float32(max(np.abs(w).mean(dtype=np.float64), 1e-5))
    t = np.clip(np.rint(w * (np.float32(1) / gamma)), -1, 1).astype(np.int8)
    return t, gamma


def quantize_int6(w: Array) -> tuple[Array, Array]:
    """Bitwise: codes int8 [N, K] in [-32, 31] and float16 scales [N, ceil(K/32)] as float32.

    Of the scales max|w| / d, d = 28..43, the one with the smallest squared error (first of equals).
    """
    n, k = w.shape
    padded = np.zeros((n, -(-k // 32) * 32), np.float32)
    padded[:, :k] = w
    groups = padded.reshape(n, -1, 32)
    largest = np.abs(groups).max(2)
    best = np.zeros_like(largest)
    codes = np.zeros(groups.shape, np.float32)
    least = np.full(largest.shape, np.inf, np.float32)
    for divisor in range(28, 44):
        scale = (largest / np.float32(divisor)).astype(np.float16).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            tried = np.clip(np.rint(groups * (np.float32(1) / scale)[..., None]), -32, 31)
        error = (groups - scale[..., None] * tried) ** 2
        lanes = np.zeros((*largest.shape, 8), np.float32)
        for first in range(0, 32, 8):
            lanes += error[..., first : first + 8]
        total = np.zeros_like(largest)
        for lane in range(8):
            total += lanes[..., lane]
        better = (scale > 0) & (total < least)
        best[better], least[better], codes[better] = scale[better], total[better], tried[better]
    return codes.reshape(n, -1)[:, :k].astype(np.int8), best


def quantize_act(x: Array) -> tuple[Array, Array, Array]:
    """Bitwise: x float32 [T, K] -> q int8 [T, K], scale float32 [T], sums int32 [T, groups]."""
    absmax = np.maximum(np.abs(x).max(1), np.float32(1e-5))
    ratio = np.float32(127) / absmax
    q = np.clip(np.rint(x * ratio[:, None]), -128, 127).astype(np.int8)
    sums = [q[:, k : k + GROUP].sum(1, dtype=np.int32) for k in range(0, x.shape[1], GROUP)]
    return q, absmax / np.float32(127), np.stack(sums, 1)


# ---- Linear layers, x [T, K] times w [N, K] -> [T, N]


def dot(q: Array, codes: Array) -> Array:
    """Integer product -> int32. float64 holds every partial sum exactly, and BLAS is fast."""
    return np.rint(q.astype(np.float64) @ codes.T.astype(np.float64)).astype(np.int32)


def linear(x: Array, codes: Array, scale: Array, kind: str, group_size: int = GROUP) -> Array:
    """Bitwise W1.58A8 or W8A8; scale per tensor [1], row [N_pad] or group [groups, N_pad].

    group_size: columns that share a group scale.
    """
    q, act_scale, _ = quantize_act(x)
    n, k = codes.shape
    if kind != "group":
        row_scale = np.broadcast_to(scale, (n,)) if kind == "tensor" else scale[:n]
        return dot(q, codes).astype(np.float32) * (act_scale[:, None] * row_scale)
    if scale.ndim == 3:  # int6
        scale = scale.swapaxes(0, 1).reshape(scale.shape[1], -1)
    total = np.zeros((len(x), n), np.float32)
    for group, first in enumerate(range(0, k, group_size)):
        last = first + group_size
        part = dot(q[:, first:last], codes[:, first:last])
        total += part.astype(np.float32) * scale[group, :n].astype(np.float32)
    return act_scale[:, None] * total


def by_panel(scale: Array) -> Array:
    """Scales [groups, N_pad] as int6 stores them, [N_pad/32, groups, 32]."""
    return np.ascontiguousarray(scale.reshape(len(scale), -1, 32).swapaxes(0, 1))


def dense(x: Array, w: Array) -> tuple[Array, Array]:
    """The product in float64, and the largest error of eight float32 lanes along K."""
    x64, w64 = x.astype(np.float64), w.astype(np.float64)
    roundings = x.shape[1] / 8 + 5  # a product and the sums of a lane, then three across lanes
    return x64 @ w64.T, EPS / 2 * roundings * (np.abs(x64) @ np.abs(w64).T)


# ---- Float operations


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight in float64 (arXiv 1910.07467)."""
    x64 = x.astype(np.float64)
    return x64 / np.sqrt((x64**2).mean(-1, keepdims=True) + eps) * weight


def rope(x: Array, cos: Array, sin: Array) -> Array:
    """Bitwise: halves rotated against each other (arXiv 2104.09864, rotate_half order)."""
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def activation(act: str, gate: Array, up: Array) -> tuple[Array, Array]:
    """act(gate) * up in float64, and its largest error in float32.

    exp is good to 2 ulp and four roundings follow. GELU's argument y of exp carries six roundings
    of its own, an absolute error that exp turns into a relative one of the size of y. Where exp
    overflows, x / infinity = 0 stands for at most |x| over the largest float.
    """
    x = gate.astype(np.float64)
    error = np.full(x.shape, 4.0)
    with np.errstate(over="ignore"):
        if act == "silu":
            value = x / (1 + np.exp(-x))
        elif act == "relu2":
            value = np.maximum(x, 0) ** 2
        else:
            y = 2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
            value = x / (1 + np.exp(-y))
            error += 3 * np.abs(y)
    value *= up
    return value, EPS * error * np.abs(value) + np.abs(x * up) / np.finfo(np.float32).max + TINY


def attention(q: Array, k: Array, v: Array, n_keys: int) -> tuple[Array, Array]:
    """One query [D] over keys [0, n_keys) in float64, and the largest float32 error of each output.

    A score's error becomes a relative error of its weight; then come exp and sums by blocks of 256.
    """
    q64, k64, v64 = (a.astype(np.float64) for a in (q, k[:n_keys], v[:n_keys]))
    dim = len(q)
    scale = 1 / np.sqrt(dim)
    scores = k64 @ q64 * scale
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    score_error = EPS / 2 * (dim / 8 + 6) * (np.abs(k64) @ np.abs(q64)) * scale
    score_error += EPS / 2 * (scores.max() - scores)  # of the subtraction of the maximum
    blocks = -(-n_keys // 256)
    relative = 2 * score_error.max() + EPS * (2 + 256 / 2 + 4 * blocks + 2)
    return weights @ v64, 2 * relative * (weights @ np.abs(v64))
