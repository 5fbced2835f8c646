"""Where a measured speed stands between bytes and multiplications.

Owns: the bytes of weights and the multiplications behind a row of `peers`. Does not own: the limits
(kernels.py measures them), drawing (plots.py), tables (summary.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from bench.engines import KINDS
from bench.shapes import decoder_config, ternary_parameters

__all__ = ["Place", "place_of"]

FORMATS: Final = {
    (kind.label, name): stored for kind in KINDS.values() for name, stored in kind.formats.items()
}


class Place(NamedTuple):
    """What a speed in tokens per second means.

    Attributes:
        gmac_per_s: 10^9 multiplications with addition per second in linears and output head.
        weight_gb_per_s: 10^9 bytes of weights read per second, once for each call.
    """

    gmac_per_s: float
    weight_gb_per_s: float

    @property
    def gmac_per_gb(self) -> float:
        """Multiplications for each byte."""
        return self.gmac_per_s / self.weight_gb_per_s


def place_of(row: Mapping[str, Any]) -> Place:
    """The place of a row of phase "decode" or "ppN"; attention is not counted.

    Raises:
        KeyError: an engine or format that is none of ours.
    """
    config = decoder_config(row["shape"])
    linear = ternary_parameters(config)
    head = config["vocab_size"] * config["hidden_size"]  # for the last token alone
    at_once = 1 if row["phase"] == "decode" else int(row["phase"].removeprefix("pp"))
    stored = FORMATS[row["engine"], row["format"]]
    weight_bytes = (linear * stored.linear_bits + head * stored.head_bits) / 8
    calls_per_s = row["value"] / at_once
    return Place((linear * at_once + head) * calls_per_s / 1e9, weight_bytes * calls_per_s / 1e9)
