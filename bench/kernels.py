"""The matrix kernels alone, beside what this CPU can do at best in the same rounds.

GEMM: 512 tokens times a ternary matrix that lies in the cache, quantizing of the activations with
it, in GMAC/s beside the register loop of the table's own instructions. GEMV: one token times a
matrix that exceeds L3 several times, in GB/s of codes and scales beside a plain read of the same
bytes. Every table of this CPU is measured, in every packed format that it has. Codes are random
bytes that are valid in all of them: speed does not depend on their values.

Usage: python -m bench.kernels [--shape 6912x2560] [--threads 1,2] [--json OUT]
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.harness import Contender, Samples, interleave, median_ratio
from bench.limits import Limits, LimitsError
from bench.report import Report, Row, add_report_arguments
from bitnet_py import _core

SHAPES: Final = ("6912x2560", "2560x6912")
TOKENS: Final = 512
SCALE: Final = 1e-3
TERNARY_BITS: Final = 2.0  # formats of at most so many are held against the loops as GEMM
L3_FILE: Final = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
L3_BYTES: Final = 32 << 20  # where the system does not tell
L3_TIMES: Final = 8  # what lies in DRAM is so many times as large
READ: Final = "read of the same bytes"
# The loop that a table is held against.
LOOP_OF_TABLE: Final = {
    "avx512_vbmi": "vpdpbusd 512",
    "avx512_vnni": "vpdpbusd 512",
    "avx_vnni": "vpdpbusd 256 (VEX)",
    "avx2": "maddubs+paddw",
}


@dataclass(frozen=True)
class Case:
    """A contender.

    Attributes:
        row: what is known of its row before.
        measure: takes a turn and gives the row's value.
        limit: name of the contender that it is held against.
        against: what the row calls that.
    """

    row: Row
    measure: Callable[[], float]
    limit: str | None = None
    against: str | None = None


@dataclass(frozen=True)
class Matrix:
    """A stored weight [n, k] with random codes."""

    n: int
    k: int
    weight: _core.PackedTensor

    @classmethod
    def draw(cls, format_name: str, n: int, k: int) -> Matrix:
        """A weight of a packed format, with its first kind of scale."""
        kinds = {info.name: info.scale_kinds for info in _core.formats()}
        kind = kinds[format_name][0]
        data = np.empty(_core.packed_shape(format_name, n, k), np.uint8)
        fields = np.indices((3, 3, 3, 3), dtype=np.uint8).reshape(4, 81)
        valid = fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6
        valid = valid[valid != 0x80]  # -128 is no int8 code
        pool = valid[np.random.default_rng(0).integers(0, len(valid), 1 << 20)]
        flat = data.reshape(-1)
        for first in range(0, len(flat), len(pool)):
            flat[first : first + len(pool)] = pool[: len(flat) - first]
        scale_type = np.float16 if kind == "group" else np.float32
        scale = np.full(_core.scale_shape(format_name, kind, n, k), SCALE, scale_type)
        return cls(n, k, _core.PackedTensor(format_name, data, scale, kind))

    @property
    def stored_bytes(self) -> int:
        """Codes and scales."""
        scale = self.weight.scale
        return self.weight.data.nbytes + (0 if scale is None else scale.nbytes)

    def seconds(self, kernels: _core.Kernels, x: NDArray[np.float32]) -> float:
        """One product with activations x [tokens, k]."""
        stored = self.weight
        start = time.perf_counter()
        kernels.linear(
            stored.format, stored.data, stored.scale, stored.scale_kind, self.n, self.k, x
        )
        return time.perf_counter() - start


def stored_bits(format_name: str) -> float:
    """Bits per weight of a packed format, scales not counted."""
    n, k = 64, 2560  # no padding in any of them
    return 8 * math.prod(_core.packed_shape(format_name, n, k)) / (n * k)


def tables_with(isas: Sequence[str], format_name: str) -> list[str]:
    """The tables that multiply a format."""
    return [isa for isa in isas if format_name in _core.Kernels(isa).products]


def measure(report: Report, cases: Sequence[Case], rounds: int) -> None:
    """Lets cases take turns; a row of each, with the ratio to its limit."""
    samples = interleave([Contender(c.row.name, c.measure) for c in cases], rounds=rounds)
    for case in cases:
        taken: Samples = samples[case.row.name]
        filled = replace(case.row, value=taken.median, n=taken.n, spread=taken.spread)
        if case.limit is not None:
            ratio = median_ratio(taken, samples[case.limit])
            filled = replace(filled, reference=case.against or case.limit, ratio=ratio)
        report.add(filled)


def loop_cases(limits: Limits | None, threads: int) -> list[Case]:
    """The register loops of this CPU."""
    if limits is None:
        return []
    cases = []
    for name, loop in limits.loops.items():
        fields = {"name": f"{name} {threads}T", "engine": "limit", "format": name}
        row = _row(phase="limit", threads=threads, unit=loop.unit, **fields)
        cases.append(Case(row, partial(limits.giga_per_s, name, threads)))
    return cases


def gemm_cases(
    matrix: Matrix, tokens: int, isas: Sequence[str], limits: Limits | None, threads: int
) -> list[Case]:
    """Every table's GEMM of a matrix."""
    x = np.random.default_rng(1).standard_normal((tokens, matrix.k), np.float32)
    giga = matrix.n * matrix.k * tokens / 1e9

    def rate(kernels: _core.Kernels) -> float:
        return giga / matrix.seconds(kernels, x)

    cases = []
    for isa in tables_with(isas, matrix.weight.format):
        loop = LOOP_OF_TABLE.get(isa)
        limit = f"{loop} {threads}T" if limits is not None and loop in limits.loops else None
        phase = f"GEMM T={tokens}"
        row = _row(
            name=f"{phase} {matrix.n}x{matrix.k} {matrix.weight.format} {isa} {threads}T",
            engine=f"bitnet_py {isa}",
            format=matrix.weight.format,
            shape=f"{matrix.n}x{matrix.k}",
            phase=phase,
            threads=threads,
            unit="GMAC/s",
        )
        measured = partial(rate, _core.Kernels(isa, threads))
        cases.append(Case(row, measured, limit, f"the {loop} loop"))
    return cases


def gemv_cases(
    matrix: Matrix, shape: str, isas: Sequence[str], limits: Limits | None, threads: int
) -> list[Case]:
    """A plain read of a matrix that lies in DRAM, and every table's GEMV of it."""
    x = np.random.default_rng(1).standard_normal((1, matrix.k), np.float32)
    stored = matrix.weight.format
    fields = {"phase": "GEMV from DRAM", "shape": shape, "threads": threads, "unit": "GB/s"}

    def rate(kernels: _core.Kernels) -> float:
        return matrix.stored_bytes / matrix.seconds(kernels, x) / 1e9

    cases, limit = [], None
    if limits is not None:
        limit = f"read {stored} {threads}T"
        row = _row(name=limit, engine="limit", format=stored, **fields)
        cases.append(Case(row, partial(limits.read_gb_per_s, matrix.weight.data, threads)))
    for isa in tables_with(isas, stored):
        name = f"GEMV {shape} {stored} {isa} {threads}T"
        row = _row(name=name, engine=f"bitnet_py {isa}", format=stored, **fields)
        cases.append(Case(row, partial(rate, _core.Kernels(isa, threads)), limit, READ))
    return cases


def l3_bytes() -> int:
    """The size of the last cache."""
    try:
        text = L3_FILE.read_text().strip()
        return int(text.removesuffix("K")) * 1024
    except (OSError, ValueError):
        return L3_BYTES


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    known = [info.name for info in _core.formats() if info.packed]
    tables = [isa for isa in _core.available_isas() if isa != "generic"]
    parser = argparse.ArgumentParser(description="Measure kernels beside this CPU's limits.")
    parser.add_argument("--shape", dest="shapes", action="append", type=_shape, metavar="NxK")
    parser.add_argument("--threads", type=_numbers, default=[1, 2], metavar="N,N")
    parser.add_argument("--isa", dest="isas", action="append", choices=_core.available_isas())
    parser.add_argument("--format", dest="formats", action="append", choices=known)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of the GEMM")
    parser.add_argument("--dram-mb", type=int, metavar="N", help="size of what lies in DRAM")
    parser.add_argument("--rounds", type=int, default=11, metavar="N")
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    args.shapes = args.shapes or [_shape(text) for text in SHAPES]
    args.isas = args.isas or tables or ["generic"]
    args.formats = args.formats or known
    args.dram_mb = args.dram_mb or math.ceil(L3_TIMES * l3_bytes() / 1e6)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    report = Report("kernels", args.json, argv)
    with tempfile.TemporaryDirectory() as scratch:
        limits: Limits | None = None
        try:
            limits = Limits(Path(scratch))
        except LimitsError as reason:
            report.skip("limits", str(reason))
        for threads in args.threads:
            cases = loop_cases(limits, threads)
            for format_name in args.formats:
                if stored_bits(format_name) <= TERNARY_BITS:
                    for n, k in args.shapes:
                        matrix = Matrix.draw(format_name, n, k)
                        cases += gemm_cases(matrix, args.tokens, args.isas, limits, threads)
            measure(report, cases, args.rounds)
        for format_name in args.formats:
            n, k = args.shapes[0]
            copies = math.ceil(args.dram_mb * 1e6 / Matrix.draw(format_name, n, k).stored_bytes)
            matrix = Matrix.draw(format_name, copies * n, k)
            for threads in args.threads:
                cases = gemv_cases(matrix, f"{copies} x {n}x{k}", args.isas, limits, threads)
                measure(report, cases, args.rounds)
    return report.exit_code()


def _row(**fields: Any) -> Row:
    base = {"engine": "", "format": "", "shape": "", "device": "cpu", "value": 0.0}
    return Row(**(base | fields))


def _shape(text: str) -> tuple[int, int]:
    n, _, k = text.partition("x")
    return int(n), int(k)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
