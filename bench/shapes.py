"""The model shapes that benchmarks run, as decoder configs.

Owns: their sizes. Widths are multiples of 256, which TQ2_0 and its like need. Imports nothing but
the standard library: a peer's Python, which lacks bitnet_py, reads it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["SHAPES", "decoder_config", "head_parameters", "ternary_parameters"]


def _llama(
    hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int | None = None
) -> dict[str, Any]:
    """A Llama of BitNet b1.58's papers: 32000 tokens, untied."""
    return {
        "vocab_size": 32000,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads or heads,
        "head_dim": hidden // heads,
        "max_position_embeddings": 4096,
        "hidden_act": "silu",
    }


SHAPES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "tiny": _llama(256, 512, 2, 4) | {"vocab_size": 512},  # for trying a benchmark out
        "700M": _llama(1536, 4096, 24, 24),
        "1.3B": _llama(2048, 5632, 24, 32),  # the paper: 5460
        "3B": _llama(3072, 8704, 26, 32),  # the paper: 3200 / 8640
        "3.9B": _llama(3328, 9216, 27, 26),  # 3.89e9 parameters with embedding and head
        "2B4T": {  # microsoft/bitnet-b1.58-2B-4T, arXiv 2504.12285
            **_llama(2560, 6912, 30, 20, 5),
            "vocab_size": 128256,
            "hidden_act": "relu2",
            "attn_sub_norm": True,
            "ffn_sub_norm": True,
            "tie_word_embeddings": True,
            "rope_theta": 500000.0,
        },
        "7B": _llama(4096, 11008, 32, 32),
        "13B": _llama(5120, 13824, 40, 40),
        "70B": _llama(8192, 28672, 80, 64, 8),
    }
)


def decoder_config(shape: str) -> dict[str, Any]:
    """The decoder config of a named shape.

    Raises:
        ValueError: an unknown name.
    """
    if shape not in SHAPES:
        message = f"[shape] expected one of {', '.join(SHAPES)}, got {shape!r}"
        raise ValueError(message)
    return dict(SHAPES[shape])


def ternary_parameters(config: Mapping[str, Any]) -> int:
    """How many weights the linears of a decoder have; embedding and output head not counted."""
    heads = config["num_attention_heads"] + config["num_key_value_heads"]
    attention = 2 * config["hidden_size"] * config["head_dim"] * heads
    mlp = 3 * config["hidden_size"] * config["intermediate_size"]
    return int(config["num_hidden_layers"] * (attention + mlp))


def head_parameters(config: Mapping[str, Any]) -> int:
    """How many weights embedding and output head have; once where they are tied."""
    tables = 1 if config.get("tie_word_embeddings") else 2
    return int(tables * config["vocab_size"] * config["hidden_size"])
