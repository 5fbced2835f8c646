"""Proofs over a whole text: our perplexity and most probable tokens beside those of transformers.

Every conversion of a real checkpoint meets its source in transformers, float32, with the same
rules done by torch (torch_reference.py), and where there are published figures, those. The KV cache
is float32 too, but in the case that names the default, float16.

Two right programs differ in the last bits of floats, which now and then flips the rounding of an
int8 activation. Such flips do not favour a side, so the mean difference of log-likelihoods must be
within a tolerance and four of its standard errors, and so the share of tokens ranked first.

Usage: python -m bench.accuracy [--segments 80] [--json OUT]
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np

import bitnet_py
from bench.checkpoints import MissingData, checkpoint_folder, text_file
from bench.report import Report, Row, add_report_arguments
from bitnet_py.convert import convert
from bitnet_py.evaluate import SEPARATOR, Evaluation, evaluate_text

TEXT: Final = "tinystories_valid.txt"
TERNARY_TOLERANCE: Final = 2e-4
DENSE_TOLERANCE: Final = 1e-4
STANDARD_ERRORS: Final = 4
LEAST_AGREEMENT: Final = 0.99  # of the token ranked first
NONSENSE_AGREEMENT: Final = 0.98  # of a model that was not trained to be ternary: many near ties


@dataclass(frozen=True)
class Case:
    """One conversion to prove.

    Attributes:
        checkpoint: the source.
        format: how the rows call it.
        method: of the conversion.
        head: of the conversion, one of TorchReference's.
        kv_dtype: of the KV cache.
        absmean: the linears of the source are dense, and the conversion makes them ternary.
        tolerance: of the perplexity, relative to transformers'.
        least_agreement: share of tokens that both must rank first.
    """

    checkpoint: str
    format: str
    method: str
    head: str = "int6"
    kv_dtype: str = "f32"
    absmean: bool = False
    tolerance: float = TERNARY_TOLERANCE
    least_agreement: float = LEAST_AGREEMENT


CASES: Final = (
    Case("stories260K", "f32", "f32", "f32", tolerance=DENSE_TOLERANCE),
    Case("babyllama361", "f32", "f32", "f32", tolerance=DENSE_TOLERANCE),
    Case("bitllama1M", "ternary2, f32 head", "auto", "f32"),
    Case("bitllama1M", "ternary2, int8 head", "auto", "int8"),
    Case("bitllama1M", "ternary2, int6 head", "auto"),
    Case("bitllama1M", "ternary2, int8 head, f16 KV", "auto", "int8", "f16", least_agreement=0),
    Case(
        "stories260K",
        "absmean ternary2, int8 head",
        "absmean",
        "int8",
        absmean=True,
        least_agreement=NONSENSE_AGREEMENT,
    ),
    Case(
        "babyllama361",
        "absmean ternary2, int8 head",
        "absmean",
        "int8",
        absmean=True,
        least_agreement=NONSENSE_AGREEMENT,
    ),
)


class Published(NamedTuple):
    """Figures that others measured with transformers, as they rounded them."""

    perplexity: float
    bits_per_byte: float


PUBLISHED: Final = {  # (checkpoint, segments; None: all 394), the head dense
    ("stories260K", None): Published(4.157, 1.0075),
    ("bitllama1M", None): Published(4.434, 1.0531),
    ("babyllama361", None): Published(2.131, 1.0912),
    ("stories260K", 80): Published(3.458, 0.844),
    ("bitllama1M", 80): Published(3.687, 0.888),
    ("babyllama361", 80): Published(1.911, 0.934),
}


@functools.cache
def evaluate_source(source: Path, absmean: bool, head: str, text: str) -> Evaluation:
    """The source in transformers, by our rules."""
    from bench.torch_reference import TorchReference

    reference = TorchReference(source, absmean=absmean, head=head)
    return evaluate_text(cast("Any", reference), text)


def prove(report: Report, case: Case, text: str, segments: int | None, packed: Path) -> None:
    """The rows of one conversion, each checked against what it must be."""
    source = checkpoint_folder(case.checkpoint)
    convert(source, packed, method=case.method, head=case.head)
    model = bitnet_py.load(packed, kv_dtype=case.kv_dtype)
    ours = evaluate_text(model, text)
    name = f"{case.checkpoint} {case.format}"
    blank = Row(
        name=name,
        engine="bitnet_py",
        format=case.format,
        shape=case.checkpoint,
        threads=model.core.threads,
        device="cpu",
        phase="",
        value=0.0,
        unit="",
    )
    try:
        theirs = evaluate_source(source, case.absmean, case.head, text)
    except ImportError as error:
        report.add(_of_phase(blank, "perplexity", ours.perplexity))
        report.skip(f"{name} transformers", str(error))
    else:
        compare_transformers(report, case, blank, ours, theirs)
    report.add(replace(_of_phase(blank, "predicted", ours.tokens), unit="tokens"))
    published = PUBLISHED.get((case.checkpoint, segments))
    if published is not None and case.head == "f32":
        compare_published(report, blank, ours, published, case.tolerance)
    else:
        report.add(_of_phase(blank, "bits per byte", ours.bits_per_byte))


def compare_published(
    report: Report, blank: Row, ours: Evaluation, published: Published, tolerance: float
) -> None:
    """Our figures must round to those, within the tolerance."""
    for phase, value, figure, last_digit in (
        ("published perplexity", ours.perplexity, published.perplexity, 1e-3),
        ("bits per byte", ours.bits_per_byte, published.bits_per_byte, _last_digit(published)),
    ):
        row = _of_phase(blank, phase, value)
        row = replace(row, reference="the published figure", ratio=value / figure)
        allowed = last_digit / 2 + tolerance * figure
        report.check(row, abs(value - figure) <= allowed, f"{figure} +- {allowed:.2g}")


def compare_transformers(
    report: Report, case: Case, blank: Row, ours: Evaluation, theirs: Evaluation
) -> None:
    """Our perplexity must be theirs, and the same token must come first in most places."""
    ratio = ours.perplexity / theirs.perplexity
    standard_error = float(np.std(ours.nll - theirs.nll)) / len(ours.nll) ** 0.5
    allowed = case.tolerance + STANDARD_ERRORS * standard_error
    row = _of_phase(blank, "perplexity", ours.perplexity)
    row = replace(row, reference="transformers", ratio=ratio)
    report.check(row, abs(ratio - 1) <= allowed, f"{theirs.perplexity:.6g} +- {allowed:.1e} of it")
    agreement = float(np.mean(ours.argmax == theirs.argmax))
    row = replace(_of_phase(blank, "same token first", 100 * agreement), unit="%")
    least = case.least_agreement
    least -= STANDARD_ERRORS * (least * (1 - least) / len(ours.argmax)) ** 0.5
    report.check(row, agreement >= least, f"at least {least:.2%}")


def main(argv: Sequence[str] | None = None) -> int:
    """Proves every case."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description="Prove conversions against transformers.")
    parser.add_argument("--segments", type=int, metavar="N", help="only the first N of 394")
    parser.add_argument("--checkpoint", action="append", choices=sorted({c[0] for c in PUBLISHED}))
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    report = Report("accuracy", args.json, argv)
    try:
        text = SEPARATOR.join(text_file(TEXT).read_text("utf-8").split(SEPARATOR)[: args.segments])
        with tempfile.TemporaryDirectory() as scratch:
            for i, case in enumerate(CASES):
                if args.checkpoint is None or case.checkpoint in args.checkpoint:
                    prove(report, case, text, args.segments, Path(scratch) / str(i))
    except MissingData as reason:
        report.skip("accuracy", str(reason))
    return report.exit_code()


def _of_phase(blank: Row, phase: str, value: float) -> Row:
    return replace(blank, name=f"{blank.name} {phase}", phase=phase, value=value)


def _last_digit(published: Published) -> float:
    """The value of the last digit of the bits per byte that were published."""
    decimals = len(str(published.bits_per_byte).partition(".")[2])
    return float(10.0**-decimals)


if __name__ == "__main__":
    sys.exit(main())
