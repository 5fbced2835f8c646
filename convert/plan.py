"""Which tensor of the decoder comes from where, and in which format it is stored.

Owns: this choice; it is complete, with all sizes, before any large tensor is read. Does not own:
what a method does to a weight (methods/), names and shapes (`_core.tensor_specs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core

from .absmean_weight import AbsmeanWeight
from .architectures import Architecture, describe
from .formats import Encoder, encoder
from .methods import TERNARY, StoredAs, exact_dense_format
from .module_patterns import matches_module
from .options import TERNARY_HEAD, ConvertOptions
from .refusal import refuse
from .sources import Source
from .ternary_valued import as_ternary
from .weights import TernaryWeight, Weight

__all__ = ["Plan", "PlannedMatrix", "make_plan"]


class PlannedMatrix(NamedTuple):
    """A matrix of the decoder and how it will be stored.

    Attributes:
        name: of the decoder's tensor.
        role: "embedding", "linear" or "head".
        encoder: holds the weight and its format.
    """

    name: str
    role: str
    encoder: Encoder

    @property
    def weight(self) -> Weight:
        """What is stored."""
        return self.encoder.weight


@dataclass(frozen=True)
class Plan:
    """A conversion, before it is done.

    Attributes:
        model_type: of the source.
        decoder: the decoder's fields.
        matrices: in the order of use.
        vectors: norms and biases, float32, by name.
        notes: what the user should know about the source.
    """

    model_type: str
    decoder: Mapping[str, Any]
    matrices: list[PlannedMatrix]
    vectors: dict[str, NDArray[np.float32]]
    notes: tuple[str, ...]

    @property
    def n_parameters(self) -> int:
        """Weights of the decoder, a tied embedding counted once."""
        return sum(int(np.prod(matrix.weight.shape)) for matrix in self.matrices) + sum(
            vector.size for vector in self.vectors.values()
        )

    @property
    def n_bytes(self) -> int:
        """Everything that is stored: codes, padding, scales, norms and biases."""
        return sum(matrix.encoder.n_bytes for matrix in self.matrices) + sum(
            vector.nbytes for vector in self.vectors.values()
        )


def make_plan(source: Source, options: ConvertOptions) -> Plan:
    """Reads the source's config, norms and biases, and a few rows of each matrix.

    Only a float source that turns out to be ternary-valued is read to its end here.

    Raises:
        ValueError: modules_to_not_convert that are none of this model.
        FormatError: what the source asks for cannot be done, or a tensor is missing, has another
            shape or dtype than config.json says, or is used by no rule; names it.
    """
    architecture = describe(source)
    specs = _specs(source, architecture)
    chooser = _Chooser(source, architecture, options)
    matrices: list[PlannedMatrix] = []
    vectors: dict[str, NDArray[np.float32]] = {}
    for spec in specs:
        source_name = architecture.source_names.get(spec.name, spec.name)
        if len(spec.shape) == 1:
            vectors[spec.name] = source.vector(source_name, spec.shape[0])
        else:
            matrices.append(chooser.matrix(spec, source_name))
    _refuse_unused(source, architecture)
    _refuse_idle_patterns(options.modules_to_not_convert, matrices)
    notes = architecture.notes
    if source.config.get("auto_map") is not None:
        notes += (
            "config.json names code of its own (auto_map), which is never run: this is the plain "
            f"{source.config['model_type']}",
        )
    return Plan(source.config["model_type"], architecture.decoder, matrices, vectors, notes)


class _Chooser:
    """Chooses the format of each matrix."""

    def __init__(self, source: Source, architecture: Architecture, options: ConvertOptions) -> None:
        self._source = source
        self._architecture = architecture
        self._options = options
        self._method = options.chosen_method
        self._is_tied = architecture.decoder["tie_word_embeddings"]

    def matrix(self, spec: _core.TensorSpec, source_name: str) -> PlannedMatrix:
        """The format of one matrix of the decoder."""
        n_rows, n_cols = spec.shape
        if spec.role == "embedding":
            weight = self._source.matrix(source_name, (n_rows, n_cols))
        else:
            weight = self._source.linear(source_name, (n_rows, n_cols))
        module = spec.name.removesuffix(".weight")
        if matches_module(module, self._options.modules_to_not_convert):
            stored = self._dense(weight)
        elif spec.role == "linear":
            stored = self._linear(weight, module)
        elif spec.role == "head" or self._is_tied:
            stored = self._head(weight)
        else:
            stored = self._embedding(weight)
        format_id = self._options.ternary_store if stored.format == TERNARY else stored.format
        return PlannedMatrix(spec.name, spec.role, encoder(spec.name, stored.weight, format_id))

    def _linear(self, weight: Weight, module: str) -> StoredAs:
        if self._source.keeps_dense(module):
            return self._dense(weight)
        if self._architecture.has_masters and not isinstance(weight, TernaryWeight):
            weight = AbsmeanWeight(weight, "tensor", origin="masters")
        return self._method.linear(weight, self._options.scale_kind)

    def _head(self, weight: Weight) -> StoredAs:
        """The output head, which a tied embedding is too."""
        head = self._options.head
        if head is None:
            return self._table(weight, self._method.head)
        if head == TERNARY_HEAD:
            kind = self._options.scale_kind if self._method.scale_kinds else "tensor"
            return StoredAs(as_ternary(weight) or AbsmeanWeight(weight, kind), TERNARY)
        return StoredAs(weight, head)

    def _embedding(self, weight: Weight) -> StoredAs:
        """An embedding of its own: as exact as the user wants the head to be."""
        dense = {info.name for info in _core.formats() if not info.packed}
        if self._options.head in dense:
            return self._dense(weight)
        return self._table(weight, self._method.embedding)

    def _table(self, weight: Weight, format_id: str | None) -> StoredAs:
        """The method's own choice for embedding and head."""
        ternary = as_ternary(weight) if self._method.scale_kinds else None
        if ternary is not None:
            return StoredAs(ternary, TERNARY)
        return StoredAs(weight, format_id or exact_dense_format(weight))

    def _dense(self, weight: Weight) -> StoredAs:
        return StoredAs(weight, self._method.dense or exact_dense_format(weight))


def _specs(source: Source, architecture: Architecture) -> list[_core.TensorSpec]:
    try:
        return _core.tensor_specs(architecture.decoder)
    except ValueError as error:  # sizes that do not fit each other
        refuse(source.config_name, str(error))


def _refuse_idle_patterns(patterns: Sequence[str], matrices: Sequence[PlannedMatrix]) -> None:
    """A misspelled module would be converted without a word."""
    modules = [matrix.name.removesuffix(".weight") for matrix in matrices]
    for pattern in patterns:
        if not any(matches_module(module, [pattern]) for module in modules):
            message = (
                f"[convert] expected modules_to_not_convert to be modules of this model, got "
                f"{pattern!r}, which is none; there are {modules[0]}, {modules[1]}, ..., "
                f"{modules[-1]}"
            )
            raise ValueError(message)


def _refuse_unused(source: Source, architecture: Architecture) -> None:
    unused = [
        name
        for name in source.unused_names()
        if not any(fnmatchcase(name, pattern) for pattern in architecture.useless)
    ]
    if unused:
        more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
        refuse(
            source.folder,
            f"no rule uses the tensor {unused[0]}{more}: the model computes something that the "
            f"decoder of model_type {source.config['model_type']} does not",
        )
