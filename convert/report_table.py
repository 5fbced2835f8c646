"""The report as people read it.

Owns: the tables and their words. Does not own: the numbers (report.py).
"""

from collections import Counter

from rich.console import Console
from rich.table import Table

from bitnet_py.cli_run import plain

from .report import ConversionReport, Verification

__all__ = ["print_report"]

ORIGINS = {
    "packed": "ternary, without loss",
    "ternary-valued": "ternary, without loss",
    "masters": "ternary, as the model defines it",
    "absmean": "ternary by absmean",
}


def print_report(report: ConversionReport, console: Console) -> None:
    """Prints sizes, what became of the linear layers, warnings, and the verification."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    would = "would be " if report.dry_run else ""
    table.add_row("source", plain(f"{report.source} ({report.model_type})"))
    table.add_row(f"output{' (dry run)' if report.dry_run else ''}", plain(report.out))
    for words, count in _linear_counts(report).items():
        table.add_row("linear layers" if count else "", f"{would}{words}: {count}")
    table.add_row("output head", report.head)
    table.add_row("weights", f"{report.n_parameters:,}")
    table.add_row("size", f"{report.n_bytes / 1e6:,.2f} MB")
    table.add_row(
        "bits per weight",
        f"{report.bits_per_weight:.2f} with everything, {report.linear_bits_per_weight:.3f} in the "
        "linear layers",
    )
    if report.weight_error is not None:
        table.add_row("weight error", f"{report.weight_error:.3f} (relative, of absmean)")
    if not report.dry_run:
        table.add_row("time", f"{report.seconds:.1f} s")
    console.print(table)
    if report.verification is not None:
        _print_verification(report.verification, console)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    for warning in report.warnings:
        console.print(f"WARNING: {warning}", style="bold yellow", markup=False, highlight=False)


def _linear_counts(report: ConversionReport) -> Counter[str]:
    return Counter(
        ORIGINS.get(matrix.origin, f"dense {matrix.format}")
        + (f", scale per {matrix.scale}" if matrix.scale != "none" else "")
        for matrix in report.matrices
        if matrix.role == "linear"
    )


def _print_verification(verification: Verification, console: Console) -> None:
    table = Table("", "source, dense", "output", title=plain(f"verified with {verification.text}"))
    table.add_row(
        f"perplexity ({verification.tokens:,} tokens)",
        f"{verification.source_perplexity:.4g}",
        f"{verification.perplexity:.4g} (x {verification.perplexity_ratio:,.4f})",
    )
    table.add_row("same first choice", "", f"{verification.top1_agreement:.2%}")
    console.print(table)
    console.print(f"verdict: {verification.verdict}", markup=False, highlight=False)
