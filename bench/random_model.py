"""Models of a named shape with random weights: ternary2 linears, an int8 embedding and head.

Owns: random codes, made in packed form (packing a billion int8 weights would take minutes), and a
packed folder of them. Does not own: the layouts; where a shape has padding, the packer is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core

__all__ = ["random_tensors", "stored_bytes"]

BLOCK_BYTES = 1 << 18  # random bytes are mended while they are in the cache
LOW_BITS = np.uint64(0x5555555555555555)  # the low bit of each 2-bit code
HIGH_BIT = np.uint64(0x8080808080808080)  # the sign of each int8
SEVEN_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
ONE = np.uint64(1)


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, _core.PackedTensor]:
    """All tensors of a decoder, as `_core.Model` takes them.

    Scales are such that a product of unit activations has variance 1, so no value overflows.

    Args:
        config: the decoder's config.
        seed: equal seeds give equal weights.
    """
    rng = np.random.default_rng(seed)
    return {spec.name: _random_tensor(spec, rng) for spec in _core.tensor_specs(config)}


def stored_bytes(tensors: Mapping[str, _core.PackedTensor]) -> int:
    """Bytes of codes and scales, as they lie in the packed file."""
    return sum(
        tensor.data.nbytes + (0 if tensor.scale is None else tensor.scale.nbytes)
        for tensor in tensors.values()
    )


def _random_tensor(spec: _core.TensorSpec, rng: np.random.Generator) -> _core.PackedTensor:
    if spec.role == "norm":
        return _core.PackedTensor("f32", np.ones(spec.shape, np.float32), None, "none")
    if spec.role == "bias":
        return _core.PackedTensor("f32", np.zeros(spec.shape, np.float32), None, "none")
    n, k = spec.shape
    if spec.role == "linear":
        scale = np.full(_core.scale_shape("ternary2", "tensor", n, k), (2 / k) ** 0.5, np.float32)
        return _core.PackedTensor("ternary2", _random_ternary2(n, k, rng), scale, "tensor")
    scale = np.zeros(_core.scale_shape("int8", "row", n, k), np.float32)
    scale[:n] = (3 / k) ** 0.5 / 127
    return _core.PackedTensor("int8", _random_int8(n, k, rng), scale, "row")


def _random_ternary2(n: int, k: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Packed codes [N_pad/32, K_pad/4, 32]: half of the weights 0, a quarter each -1 and 1."""
    shape = _core.packed_shape("ternary2", n, k)
    if math.prod(shape) * 4 != n * k:  # padding must hold code 1
        return _core.pack_ternary2(rng.integers(-1, 2, (n, k), np.int8))
    packed = np.empty(shape, np.uint8)
    for words in _random_blocks(packed, rng):
        three = words & (words >> ONE) & LOW_BITS  # both bits set
        words ^= three << ONE  # the invalid code 3 becomes 1
    return packed


def _random_int8(n: int, k: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Packed codes [N_pad/8, K_pad/4, 32] in [-127, 127]."""
    shape = _core.packed_shape("int8", n, k)
    if math.prod(shape) != n * k:
        return _core.pack_int8(rng.integers(-127, 128, (n, k), np.int8))
    packed = np.empty(shape, np.uint8)
    for words in _random_blocks(packed, rng):
        is_sign_only = ~((words & SEVEN_BITS) + SEVEN_BITS) & HIGH_BIT  # seven low bits all 0
        words ^= is_sign_only & words  # -128 becomes 0
    return packed


def _random_blocks(
    packed: NDArray[np.uint8], rng: np.random.Generator
) -> Iterator[NDArray[np.uint64]]:
    """Fills an array with random bytes and yields it block by block, as words to be mended."""
    words = packed.reshape(-1).view(np.uint64)
    step = BLOCK_BYTES // 8
    for begin in range(0, len(words), step):
        block = words[begin : begin + step]
        block[:] = rng.integers(0, 1 << 64, len(block), np.uint64)
        yield block
