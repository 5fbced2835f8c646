"""A packed folder with random weights, for measurements of loading.

Owns: its config.json. Does not own: the weights (random_model.py), the file (bitnet_py.convert).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.random_model import HEAD, draw_codes, undrawn_tensor
from bitnet_py import _core
from bitnet_py.checkpoint import FORMAT_VERSION, QUANT_METHOD
from bitnet_py.convert.formats import Entry
from bitnet_py.convert.writer import SafetensorsWriter

__all__ = ["write_random_folder"]

SHARD_BYTES: Final = 5_000_000_000
DTYPES: Final = {  # as safetensors has them
    np.dtype(np.uint8): "U8",
    np.dtype(np.float16): "F16",
    np.dtype(np.float32): "F32",
}


def write_random_folder(
    folder: Path,
    config: Mapping[str, Any],
    seed: int = 0,
    linear: str = "ternary2",
    head: str = HEAD,
) -> None:
    """Writes a model without tokenizer; one tensor at a time is in memory.

    Args:
        folder: an existing, empty folder.
        config: the decoder's config.
        seed: equal seeds give equal weights.
        linear: "ternary2" or "trits5".
        head: format of the output head, and of a tied embedding: "int6" or "int8".
    """
    specs = _core.tensor_specs(config)
    groups = [
        [
            Entry(name, DTYPES[array.dtype], array.shape)
            for name, array in _named_arrays(
                spec.name, undrawn_tensor(spec, config, linear, head)
            ).items()
        ]
        for spec in specs
    ]
    rules: dict[str, dict[str, str]] = {}
    rng = np.random.default_rng(seed)
    with SafetensorsWriter(folder, groups, SHARD_BYTES) as writer:
        for spec in specs:
            tensor = undrawn_tensor(spec, config, linear, head)
            draw_codes(spec, tensor, rng)
            for name, array in _named_arrays(spec.name, tensor).items():
                writer.append(name, array)
            if tensor.scale is not None:
                pattern = re.sub(r"\.\d+\.", ".*.", spec.name)
                rule = {"pattern": pattern, "format": tensor.format, "scale": tensor.scale_kind}
                rules[pattern] = rule
        writer.finish()
    block = {
        "quant_method": QUANT_METHOD,
        "format_version": FORMAT_VERSION,
        "decoder": dict(config),
        "tensors": list(rules.values()),
    }
    (folder / "config.json").write_text(json.dumps({"quantization_config": block}, indent=2))


def _named_arrays(name: str, tensor: _core.PackedTensor) -> dict[str, NDArray[Any]]:
    """The arrays of a tensor under their names in the file."""
    named = {name: tensor.data}
    return named if tensor.scale is None else named | {f"{name}_scale": tensor.scale}
