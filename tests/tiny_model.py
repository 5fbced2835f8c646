"""Small random models for tests: a decoder config and its tensors in any format, from a seed."""

from typing import Any

import numpy as np

from bitnet_py import _core

TINY_DECODER: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 172,  # not a multiple of 8: padding is in play
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 640,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}


def pack_weight(
    w: np.ndarray, format: str, scale_kind: str | None = None
) -> tuple[str, np.ndarray, np.ndarray | None, str]:
    """w float32 [N, K] -> (format, data, scale, scale kind), as `_core.Model` takes it."""
    n, k = w.shape
    if format == "f32":
        return format, w, None, "none"
    if format == "f16":
        return format, w.astype(np.float16), None, "none"
    if format == "bf16":
        return format, (w.view(np.uint32) >> 16).astype(np.uint16), None, "none"
    if format == "int8":
        codes, rows = _core.quantize_int8_rows(w)
        scale = np.zeros(_core.scale_shape("int8", "row", n, k), np.float32)
        scale[:n] = rows
        return format, _core.pack_int8(codes), scale, "row"
    scale_kind = scale_kind or "tensor"
    shape = _core.scale_shape("ternary2", scale_kind, n, k)
    if scale_kind == "group":
        t, groups = _core.absmean_quantize_groups(w)
        scale = np.zeros(shape, np.float16)
        scale[:, :n] = groups.T
        return format, _core.pack_ternary2(t), scale, scale_kind
    sums = _core.absmean_row_sums(w)
    scale = np.zeros(shape, np.float32)
    if scale_kind == "row":
        scale[:n] = (sums / k).astype(np.float32)
        t = _core.absmean_quantize(w, scale[:n].copy())
    else:
        scale[0] = _core.absmean_scale(float(sums.sum()), w.size)
        t = _core.absmean_quantize(w, float(scale[0]))
    return format, _core.pack_ternary2(t), scale, scale_kind


def tiny_tensors(
    decoder: dict[str, Any],
    *,
    linear: str = "ternary2",
    scale_kind: str | None = None,
    head: str = "int8",
    seed: int = 0,
) -> dict[str, Any]:
    """Random tensors for a decoder: linears in one format, embeddings and head in another."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for spec in _core.tensor_specs(decoder):
        values = rng.normal(size=spec.shape).astype(np.float32)
        if spec.role == "norm":
            tensors[spec.name] = ("f32", 1 + values * np.float32(0.1), None, "none")
        elif spec.role == "bias":
            tensors[spec.name] = ("f32", values * np.float32(0.1), None, "none")
        elif spec.role == "linear":
            weight = values * np.float32(spec.shape[1] ** -0.5)
            tensors[spec.name] = pack_weight(weight, linear, scale_kind)
        else:
            tensors[spec.name] = pack_weight(values, head)
    return tensors


def tiny_core_model(
    decoder: dict[str, Any] | None = None, *, isa: str = "", threads: int = 1, **tensor_options: Any
) -> _core.Model:
    """A `_core.Model` of `tiny_tensors`."""
    decoder = decoder or TINY_DECODER
    return _core.Model(decoder, tiny_tensors(decoder, **tensor_options), isa=isa, threads=threads)
