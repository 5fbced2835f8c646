"""What a conversion did, in numbers.

Owns: the fields, what they count, their JSON. Does not own: the table (report_table.py), the
measurements (verify.py, weight_error.py), the words about quality (verdict.py).
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from .absmean_weight import AbsmeanWeight
from .formats.ternary import TERNARY_FORMATS
from .options import ConvertOptions
from .plan import Plan, PlannedMatrix
from .verdict import quality_warnings
from .weight_error import relative_weight_error
from .weights import TernaryWeight

__all__ = ["ConversionReport", "StoredMatrix", "Verification", "make_report"]


@dataclass(frozen=True)
class StoredMatrix:
    """One matrix of the output.

    Attributes:
        name: of the tensor.
        role: "embedding", "linear" or "head".
        format: id of the format, "ternary2" for instance.
        scale: "none", "tensor", "row" or "group".
        origin: "float", or where ternary codes come from: "packed", "masters", "ternary-valued"
            (these three without loss), "absmean".
        n_weights: rows times columns, without padding.
        n_bytes: codes, padding and scales.
    """

    name: str
    role: str
    format: str
    scale: str
    origin: str
    n_weights: int
    n_bytes: int


@dataclass(frozen=True)
class Verification:
    """The same text through the source, run dense, and through the output.

    Attributes:
        text: name of the file.
        tokens: that were predicted.
        source_perplexity: exp of the mean negative log-likelihood per token.
        perplexity: of the output.
        perplexity_ratio: output over source; 1 is no loss.
        top1_agreement: share of tokens, 0..1, for which both rank the same token first.
        verdict: one sentence.
    """

    text: str
    tokens: int
    source_perplexity: float
    perplexity: float
    perplexity_ratio: float
    top1_agreement: float
    verdict: str


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` returns.

    Attributes:
        source: what the user named.
        out: the absolute path of the output.
        dry_run: nothing was written.
        model_type: of the source.
        method: as asked for.
        scale: granularity of absmean scales; "none" if the method has none.
        head: format of the output head.
        n_parameters: weights, a tied embedding counted once.
        n_bytes: all tensors of the output with padding and scales.
        bits_per_weight: 8 * n_bytes / n_parameters, so everything counts.
        linear_bits_per_weight: the same for the linear layers alone.
        weight_error: relative change of the weights that absmean made ternary, None if there are
            none or nothing was written.
        matrices: every matrix of the output.
        notes: about the source.
        warnings: what the user should act upon.
        verification: None unless a text was given.
        seconds: wall time of the conversion, without the verification.
    """

    source: str
    out: str
    dry_run: bool
    model_type: str
    method: str
    scale: str
    head: str
    n_parameters: int
    n_bytes: int
    bits_per_weight: float
    linear_bits_per_weight: float
    weight_error: float | None
    matrices: tuple[StoredMatrix, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    verification: Verification | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings, under the names of the attributes.

        A perplexity beyond all numbers is None: JSON has no infinity.
        """
        fields = asdict(self)
        if self.verification is not None:
            fields["verification"] = {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in fields["verification"].items()
            }
        return fields


def make_report(
    plan: Plan,
    options: ConvertOptions,
    source: str,
    out: str,
    *,
    seconds: float | None,
    is_verified: bool = False,
) -> ConversionReport:
    """The report of a conversion that was done, or only planned.

    Args:
        plan: the conversion.
        options: what the user asked for.
        source: as the user named it.
        out: the absolute path of the output.
        seconds: how long it took; None: a dry run.
        is_verified: a verification will be added.
    """
    matrices = tuple(_stored_matrix(matrix) for matrix in plan.matrices)
    linears = [matrix for matrix in matrices if matrix.role == "linear"]
    head = next(matrix for matrix in reversed(matrices) if matrix.role != "linear")
    rounded = [
        matrix.weight
        for matrix in plan.matrices
        if isinstance(matrix.weight, AbsmeanWeight) and matrix.weight.origin == "absmean"
    ]
    error = None if seconds is None or not rounded else relative_weight_error(rounded)
    n_ternary = sum(matrix.format in TERNARY_FORMATS for matrix in matrices)
    notes = plan.notes
    if options.scale is not None and not rounded:
        notes += (f"scale {options.scale} had no effect: the source has scales of its own",)
    if options.ternary_store != TERNARY_FORMATS[0] and n_ternary == 0:
        notes += (f"ternary_store {options.ternary_store} had no effect: nothing is ternary",)
    return ConversionReport(
        source=source,
        out=out,
        dry_run=seconds is None,
        model_type=plan.model_type,
        method=options.method,
        scale=options.scale_kind,
        head=head.format,
        n_parameters=plan.n_parameters,
        n_bytes=plan.n_bytes,
        bits_per_weight=8 * plan.n_bytes / plan.n_parameters,
        linear_bits_per_weight=(
            8 * sum(matrix.n_bytes for matrix in linears) / sum(m.n_weights for m in linears)
        ),
        weight_error=error,
        matrices=matrices,
        notes=notes,
        warnings=quality_warnings(len(rounded), n_ternary, error, is_verified=is_verified),
        verification=None,
        seconds=seconds or 0.0,
    )


def _stored_matrix(matrix: PlannedMatrix) -> StoredMatrix:
    weight = matrix.weight
    is_ternary = matrix.encoder.format in TERNARY_FORMATS and isinstance(weight, TernaryWeight)
    return StoredMatrix(
        name=matrix.name,
        role=matrix.role,
        format=matrix.encoder.format,
        scale=matrix.encoder.scale_kind,
        origin=weight.origin if is_ternary and isinstance(weight, TernaryWeight) else "float",
        n_weights=weight.shape[0] * weight.shape[1],
        n_bytes=matrix.encoder.n_bytes,
    )
