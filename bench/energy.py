"""The arithmetic energy of one decoded token, by the model of the BitNet papers.

A product y = W x with W [N, K] costs N * (K - 1) additions and N * K multiplications; with ternary
W the additions are int8 ones and only the scaling of x and of y is multiplied, N + K times
(arXiv 2310.11453 on computational efficiency; it counts the accumulation as int8, so does this).
Energies per operation: its table from Horowitz (ISSCC 2014) for 45 nm and from PokeBNN (arXiv
2112.00133) for 7 nm. Moving data is not counted, on either side. Nothing is measured: a CPU
multiplies where the model adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["ENERGY", "Operations", "dense_operations", "energy_mj", "ternary_operations"]


class Energy(NamedTuple):
    """pJ of one operation."""

    fp16_add: float
    fp16_multiply: float
    int8_add: float
    int8_multiply: float


ENERGY: Final[Mapping[str, Energy]] = {
    "45 nm": Energy(0.4, 1.1, 0.03, 0.2),
    "7 nm": Energy(0.16, 0.34, 0.007, 0.07),
}


class Operations(NamedTuple):
    """How many operations of each kind."""

    fp16_adds: int = 0
    fp16_multiplications: int = 0
    int8_adds: int = 0
    int8_multiplications: int = 0

    def plus(self, other: Operations) -> Operations:
        """Both together."""
        return Operations(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def linears(config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """[N, K] of every linear layer of a decoder; the output head is not among them."""
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    q_width = config["num_attention_heads"] * config["head_dim"]
    kv_width = config["num_key_value_heads"] * config["head_dim"]
    layer = [
        (q_width, hidden), (kv_width, hidden), (kv_width, hidden), (hidden, q_width),
        (intermediate, hidden), (intermediate, hidden), (hidden, intermediate),
    ]  # fmt: skip
    return layer * int(config["num_hidden_layers"])


def attention(config: Mapping[str, Any], context: int) -> Operations:
    """Products of a query with `context` keys and of their weights with the values, in FP16."""
    width = config["num_attention_heads"] * config["head_dim"]
    products = 2 * width * context * config["num_hidden_layers"]
    return Operations(fp16_adds=products, fp16_multiplications=products)


def dense_operations(config: Mapping[str, Any], context: int) -> Operations:
    """A token of a decoder in FP16: linears, attention, output head."""
    total = attention(config, context)
    for n, k in [*linears(config), (config["vocab_size"], config["hidden_size"])]:
        total = total.plus(Operations(fp16_adds=n * (k - 1), fp16_multiplications=n * k))
    return total


def ternary_operations(config: Mapping[str, Any], context: int) -> Operations:
    """A token of a ternary decoder with the same attention.

    A product of the output head's six or eight bits with int8 counts as one of int8.
    """
    total = attention(config, context)
    for n, k in linears(config):
        total = total.plus(Operations(int8_adds=n * (k - 1), fp16_multiplications=n + k))
    n, k = config["vocab_size"], config["hidden_size"]
    scaled = Operations(
        int8_adds=n * (k - 1), int8_multiplications=n * k, fp16_multiplications=n + k
    )
    return total.plus(scaled)


def energy_mj(operations: Operations, process: str) -> float:
    """Millijoules of operations in a process of `ENERGY`."""
    pairs = zip(operations, ENERGY[process], strict=True)
    return sum(count * picojoules for count, picojoules in pairs) * 1e-9
