"""Small random models of any format, for tests; the same seed gives the same bytes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bitnet_py import _core
from bitnet_py.model import Model

DECODER = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
}


def make_decoder(**changes: Any) -> dict[str, Any]:
    """A decoder's config: small, except for the fields given."""
    return DECODER | changes


def make_tensors(
    decoder: Mapping[str, Any],
    *,
    linear: str = "ternary2",
    scale: str = "tensor",
    embedding: str = "f32",
    seed: int = 0,
) -> dict[str, _core.PackedTensor]:
    """Random tensors for a decoder.

    Args:
        decoder: its config.
        linear: format of the linear layers.
        scale: scale kind of the linear layers, where the format has one.
        embedding: format of embedding and head; "int8" has one scale per row, "int6" one
            per 32 columns.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    for spec in _core.tensor_specs(decoder):
        if len(spec.shape) == 1:
            center = 1.0 if spec.role == "norm" else 0.0
            values = (center + 0.1 * rng.standard_normal(spec.shape)).astype(np.float32)
            tensors[spec.name] = _core.PackedTensor("f32", values, None, "none")
            continue
        w = rng.standard_normal(spec.shape).astype(np.float32) / np.float32(spec.shape[1] ** 0.5)
        if spec.role == "linear":
            tensors[spec.name] = pack(w, linear, scale)
        else:
            tensors[spec.name] = pack(w * 4, embedding, "row")
    return tensors


def pack(w: np.ndarray, format_name: str, scale: str) -> _core.PackedTensor:
    """A matrix float32 [N, K] in a format, with a scale of this kind where the format has one."""
    n, k = w.shape
    if format_name == "f32":
        return _core.PackedTensor("f32", w, None, "none")
    if format_name == "f16":
        return _core.PackedTensor("f16", w.astype(np.float16), None, "none")
    if format_name == "bf16":
        bits = np.ascontiguousarray(w.view(np.uint16)[:, 1::2])
        return _core.PackedTensor("bf16", bits, None, "none")
    if format_name == "int8":
        codes, row_scale = _core.quantize_int8_rows(w)
        stored = np.zeros(_core.scale_shape("int8", "row", n, k), np.float32)
        stored[:n] = row_scale
        return _core.PackedTensor("int8", _core.pack_int8(codes), stored, "row")
    if format_name == "int6":
        codes, group_scale = _core.quantize_int6_groups(w)
        panels, groups, rows = _core.scale_shape("int6", "group", n, k)
        stored = np.zeros((panels * rows, groups), np.float16)
        stored[:n] = group_scale
        stored = np.ascontiguousarray(stored.reshape(panels, rows, groups).swapaxes(1, 2))
        return _core.PackedTensor("int6", _core.pack_int6(codes), stored, "group")
    pack_codes = {"ternary2": _core.pack_ternary2, "trits5": _core.pack_trits5}[format_name]
    stored = np.zeros(_core.scale_shape(format_name, scale, n, k), np.float32)
    if scale == "group":
        t, gamma = _core.absmean_quantize_groups(w)
        stored[:, :n] = gamma.T
        return _core.PackedTensor(format_name, pack_codes(t), stored.astype("f2"), scale)
    sums = _core.absmean_row_sums(w)
    if scale == "row":
        gamma = np.array([_core.absmean_scale(s, k) for s in sums], np.float32)
        stored[:n] = gamma
        t = _core.absmean_quantize(w, gamma)
    else:
        stored[0] = _core.absmean_scale(float(sums.sum()), n * k)
        t = _core.absmean_quantize(w, float(stored[0]))
    return _core.PackedTensor(format_name, pack_codes(t), stored, scale)


def make_model(
    decoder: Mapping[str, Any] | None = None,
    *,
    linear: str = "ternary2",
    scale: str = "tensor",
    embedding: str = "f32",
    seed: int = 0,
    **arguments: Any,
) -> Model:
    """A random model; `arguments` go to `Model.from_tensors`."""
    decoder = decoder or make_decoder()
    tensors = make_tensors(decoder, linear=linear, scale=scale, embedding=embedding, seed=seed)
    return Model.from_tensors(decoder, tensors, **arguments)


def write_folder(
    folder: Path, decoder: Mapping[str, Any], tensors: Mapping[str, _core.PackedTensor]
) -> Path:
    """A packed folder of these tensors, one rule for each packed one."""
    arrays, rules = {}, []
    for name, tensor in tensors.items():
        arrays[name] = (tensor.data, "BF16" if tensor.format == "bf16" else None)
        if tensor.scale is not None:
            arrays[f"{name}_scale"] = (tensor.scale, None)
            rule = {"pattern": name, "format": tensor.format, "scale": tensor.scale_kind}
            rules.append(rule)
    block = {
        "quant_method": "bitnet_py",
        "format_version": 1,
        "decoder": dict(decoder),
        "tensors": rules,
    }
    config = {"model_type": "llama", "quantization_config": block}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", arrays)
    return folder


def write_safetensors(path: Path, arrays: Mapping[str, tuple[np.ndarray, str | None]]) -> None:
    """Arrays with the name of their type, where numpy has none for it."""
    names = {"float32": "F32", "float16": "F16", "uint8": "U8"}
    header, data = {}, b""
    for name, (array, dtype) in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        dtype = dtype or names[str(array.dtype)]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
