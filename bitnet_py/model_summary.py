"""What a packed folder holds, in numbers: read from headers, no weight is touched."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitnet_py import _core
from bitnet_py.checkpoint import read_checkpoint
from bitnet_py.tokenizer import load_tokenizer

__all__ = ["ModelSummary", "TensorGroup", "summarize"]


@dataclass(frozen=True)
class TensorGroup:
    """Tensors that differ by their layer only.

    Attributes:
        pattern: their name, * for the layer.
        role: "embedding", "linear", "head", "norm" or "bias".
        format: of the codes.
        scale: scale kind, "none" for dense formats.
        count: how many tensors.
        parameters: weights in them, without padding.
        n_bytes: on disk, scales and padding included.
    """

    pattern: str
    role: str
    format: str
    scale: str
    count: int
    parameters: int
    n_bytes: int


@dataclass(frozen=True)
class ModelSummary:
    """A packed folder's description.

    Attributes:
        folder: the folder.
        model_type: of the source, as its config names it.
        decoder: every field of the decoder.
        tensors: by pattern, in order of use.
        tokenizer: vocab_size, bos_token, eos_token; None without one.
        conversion: what the converter noted.
    """

    folder: str
    model_type: str
    decoder: dict[str, Any]
    tensors: tuple[TensorGroup, ...]
    tokenizer: dict[str, Any] | None
    conversion: dict[str, Any]

    @property
    def parameters(self) -> int:
        """All weights."""
        return sum(group.parameters for group in self.tensors)

    @property
    def n_bytes(self) -> int:
        """All bytes on disk, scales and padding included."""
        return sum(group.n_bytes for group in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Effective, with everything: scales, padding, embedding, head, norms."""
        return _bits(self.tensors)

    @property
    def linear_bits_per_weight(self) -> float:
        """Effective, of the linear layers with their scales and padding."""
        return _bits(group for group in self.tensors if group.role == "linear")

    def to_json(self) -> dict[str, Any]:
        """As JSON, with the sums."""
        return asdict(self) | {
            "parameters": self.parameters,
            "bytes": self.n_bytes,
            "bits_per_weight": self.bits_per_weight,
            "linear_bits_per_weight": self.linear_bits_per_weight,
            "context_length": self.decoder["max_position_embeddings"],
        }


def summarize(folder: Path) -> ModelSummary:
    """Describes a packed folder.

    Raises:
        FileNotFoundError: there is no such folder.
        FormatError: the folder is not a packed one, or breaks a rule of the format.
    """
    checkpoint = read_checkpoint(folder)
    groups: dict[tuple[str, str, str, str], TensorGroup] = {}
    for spec in _core.tensor_specs(checkpoint.decoder):
        tensor = checkpoint.tensors[spec.name]
        pattern = re.sub(r"\.\d+\.", ".*.", spec.name)
        key = (pattern, spec.role, tensor.format, tensor.scale_kind)
        old = groups.get(key, TensorGroup(*key, count=0, parameters=0, n_bytes=0))
        scale_bytes = 0 if tensor.scale is None else tensor.scale.nbytes
        groups[key] = TensorGroup(
            *key,
            count=old.count + 1,
            parameters=old.parameters + math.prod(spec.shape),
            n_bytes=old.n_bytes + tensor.data.nbytes + scale_bytes,
        )
    tokenizer = load_tokenizer(folder)
    conversion = checkpoint.config["quantization_config"].get("conversion")
    return ModelSummary(
        folder=str(folder),
        model_type=str(checkpoint.config.get("model_type")),
        decoder=_core.config_fields() | checkpoint.decoder,
        tensors=tuple(groups.values()),
        tokenizer=None
        if tokenizer is None
        else {
            "vocab_size": tokenizer.vocab_size,
            "bos_token": tokenizer.special_tokens.get("bos_token"),
            "eos_token": tokenizer.special_tokens.get("eos_token"),
        },
        conversion=conversion if isinstance(conversion, dict) else {},
    )


def _bits(groups: Iterable[TensorGroup]) -> float:
    chosen = tuple(groups)
    return 8 * sum(g.n_bytes for g in chosen) / max(sum(g.parameters for g in chosen), 1)
