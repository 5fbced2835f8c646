"""Models of a named shape with random weights: ternary linears, head and embedding as converted.

Owns: random codes, made in packed form: packing a billion int8 weights would take minutes. Does not
own: the layouts; where a shape has padding, the packer is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core
from bitnet_py.convert.methods import method_by_name

__all__ = ["HEAD", "LINEARS", "draw_codes", "random_tensors", "stored_bytes", "undrawn_tensor"]

LINEARS: Final = ("ternary2", "trits5")
HEAD: Final = str(method_by_name("auto").head)  # as bitnet-convert stores a head by default
EMBEDDING: Final = str(method_by_name("auto").embedding)  # and an embedding of its own
# Format: its scale kind, and the scale that gives variance 1 at K = 1: codes are -1, 0, 0, 1 with
# equal odds in ternary2 and -1, 0, 1 in trits5, uniform in [-127, 127], or in [-32, 31].
SCALES: Final = {
    "ternary2": ("tensor", 2**0.5),
    "trits5": ("tensor", 1.5**0.5),
    "int8": ("row", 3**0.5 / 127),
    "int6": ("group", 3**0.5 / 32),
}
BLOCK_WORDS: Final = 1 << 15  # random bytes are mended while they are in the cache
LOW_BITS: Final = np.uint64(0x5555555555555555)  # the low bit of each 2-bit code
SIGN_BITS: Final = np.uint64(0x8080808080808080)  # of each int8
SEVEN_BITS: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
ONE: Final = np.uint64(1)


def random_tensors(
    config: Mapping[str, Any],
    seed: int = 0,
    linear: str = "ternary2",
    head: str = HEAD,
) -> dict[str, _core.PackedTensor]:
    """All tensors of a decoder, as `_core.Model` takes them.

    Args:
        config: the decoder's config.
        seed: equal seeds give equal weights.
        linear: "ternary2" or "trits5".
        head: format of the output head, and of a tied embedding: "int6" or "int8".
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    for spec in _core.tensor_specs(config):
        tensors[spec.name] = undrawn_tensor(spec, config, linear, head)
        draw_codes(spec, tensors[spec.name], rng)
    return tensors


def stored_bytes(tensors: Mapping[str, _core.PackedTensor]) -> int:
    """Bytes of codes and scales, as they lie in the packed file."""
    return sum(
        tensor.data.nbytes + (0 if tensor.scale is None else tensor.scale.nbytes)
        for tensor in tensors.values()
    )


def undrawn_tensor(
    spec: _core.TensorSpec,
    config: Mapping[str, Any],
    linear: str = "ternary2",
    head: str = HEAD,
) -> _core.PackedTensor:
    """A tensor whose packed codes are memory not touched yet; `draw_codes` fills it.

    Scales are such that a product of unit activations has variance 1, so no value overflows.
    """
    if spec.role in ("norm", "bias"):
        values = np.full(spec.shape, 1 if spec.role == "norm" else 0, np.float32)
        return _core.PackedTensor("f32", values, None, "none")
    n, k = spec.shape
    if spec.role == "linear":
        format_name = linear
    else:
        is_head = spec.role == "head" or bool(config.get("tie_word_embeddings"))
        format_name = head if is_head else EMBEDDING
    kind, unit = SCALES[format_name]
    shape = _core.scale_shape(format_name, kind, n, k)
    scale = np.full(shape, unit * k**-0.5, np.float16 if kind == "group" else np.float32)
    if kind == "row":
        scale[n:] = 0  # padded rows
    elif kind == "group":  # [panels, groups, rows of a panel]
        scale[-1, :, n - (shape[0] - 1) * shape[2] :] = 0
    data = np.empty(_core.packed_shape(format_name, n, k), np.uint8)
    return _core.PackedTensor(format_name, data, scale, kind)


def draw_codes(
    spec: _core.TensorSpec, tensor: _core.PackedTensor, rng: np.random.Generator
) -> None:
    """Fills a tensor of `undrawn_tensor` with random codes; norms and biases stay as they are."""
    if tensor.scale is None:
        return
    n, k = spec.shape
    if tensor.format == "trits5":
        _draw_trits5(n, k, tensor, rng)
        return
    low, high, bits, pack = {
        "ternary2": (-1, 1, 2, _core.pack_ternary2),
        "int8": (-127, 127, 8, _core.pack_int8),
        "int6": (-32, 31, 6, _core.pack_int6),
    }[tensor.format]
    if tensor.data.size * 8 != n * k * bits:  # padding has a code of its own
        tensor.data[...] = pack(rng.integers(low, high, (n, k), np.int8, endpoint=True))
        return
    mend = {"ternary2": _mend_ternary2, "int8": _mend_int8}.get(tensor.format)
    words = tensor.data.reshape(-1).view(np.uint64)
    for begin in range(0, len(words), BLOCK_WORDS):
        block = words[begin : begin + BLOCK_WORDS]
        block[:] = rng.integers(0, 1 << 64, len(block), np.uint64)
        if mend is not None:  # every byte is valid int6
            mend(block)


def _draw_trits5(n: int, k: int, tensor: _core.PackedTensor, rng: np.random.Generator) -> None:
    if n % 32 != 0 or k % 8 != 0:
        tensor.data[...] = _core.pack_trits5(rng.integers(-1, 1, (n, k), np.int8, endpoint=True))
        return
    number = np.arange(243)  # in the order of the bytes: t below 81, d
    bytes_ = (number % 81 + 84 * (number // 81)).astype(np.uint8)
    quintets = k // 20 * 4
    for panel in tensor.data:
        panel[:quintets] = bytes_[rng.integers(0, 243, (quintets, 32), np.uint8)]
        fields = rng.integers(0, 3, (4, *panel[quintets:].shape), np.uint8)
        panel[quintets:] = fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6


def _mend_ternary2(words: NDArray[np.uint64]) -> None:
    """Turns the invalid code 3 into 1, weight 0: half of the weights are 0 then."""
    three = words & (words >> ONE) & LOW_BITS  # both bits set
    words ^= three << ONE


def _mend_int8(words: NDArray[np.uint64]) -> None:
    """Turns -128, which int8 does not have, into 0."""
    has_low_bits = (words & SEVEN_BITS) + SEVEN_BITS  # its sign bit: any of the low seven is set
    words ^= words & ~has_low_bits & SIGN_BITS
