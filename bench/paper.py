"""The table of arXiv 2402.17764 (its table 1, figures 2 and 3) on this machine.

Memory and latency of a decoded token at the paper's shapes, ternary beside FP16 Llama: the fastest
of llama.cpp F16 and torch in fp32 and bf16. What was not measured, as it does not fit in memory, is
computed and says so: the bytes of FP16 weights over the best rate at which such weights were read
in this run. Arithmetic energy is by the papers' model (energy.py).

Usage: python -m bench.paper [--shape 700M] [--threads 2] [--peer-python PYTHON] [--json OUT]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.contest import MEMORY, measure_shape, own_contestant
from bench.energy import ENERGY, dense_operations, energy_mj, ternary_operations
from bench.engines import OURS, parse_contestants
from bench.peers import add_peer_arguments, read_where
from bench.report import Report, Row, add_report_arguments
from bench.shapes import SHAPES, decoder_config, head_parameters, ternary_parameters

PAPER_SHAPES: Final = ("700M", "1.3B", "3B", "3.9B", "7B", "13B")
FP16_PEERS: Final = ("llama-cpp-python:F16", "transformers")
FP16: Final = "FP16 Llama"
ENERGY_CONTEXT: Final = 512
FP16_BYTES: Final = 2


def fp16_bytes(shape: str) -> int:
    """The bytes of a shape's weights in FP16, embedding and output head with them."""
    config = decoder_config(shape)
    return FP16_BYTES * (ternary_parameters(config) + head_parameters(config))


def fp16_token_bytes(shape: str) -> int:
    """Those that one decoded token reads: of the embedding it reads one row."""
    config = decoder_config(shape)
    head = config["vocab_size"] * config["hidden_size"]
    return FP16_BYTES * (ternary_parameters(config) + int(head))


def measured_rows(measured: Report, shape: str, phase: str) -> dict[str, Row]:
    """The rows of a shape's phase, one for each engine with its format."""
    rows: dict[str, Row] = {}
    for row in measured.rows:
        if (row.shape, row.phase) == (shape, phase):
            rows.setdefault(f"{row.engine} {row.format}", row)
    return rows


def add_shape(report: Report, measured: Report, shape: str, threads: int, gb_per_s: float) -> float:
    """The rows of one shape.

    Args:
        report: where they go.
        measured: what `peers` measured.
        shape: of the paper.
        threads: that ran.
        gb_per_s: the best rate of reading FP16 weights so far.

    Returns:
        That rate, with this shape.
    """
    decode = measured_rows(measured, shape, "decode")
    memory = measured_rows(measured, shape, MEMORY)
    own = own_contestant().label
    others = {label: row for label, row in decode.items() if label != own}
    fitting = [label for label in others if label in memory]
    if fitting:
        best = max(fitting, key=lambda label: others[label].value)
        name = f"{FP16}, {best}"
        milliseconds, megabytes = 1e3 / others[best].value, memory[best].value
        fp16: Row | None = others[best]
        gb_per_s = max(gb_per_s, fp16_token_bytes(shape) / milliseconds / 1e6)
    elif gb_per_s:
        name, fp16 = f"{FP16}, computed", None
        milliseconds = fp16_token_bytes(shape) / gb_per_s / 1e6
        megabytes = fp16_bytes(shape) / 1e6
    else:
        report.skip(f"{shape} {FP16}", "not measured, and no shape before it was")
        return gb_per_s
    ours_ms = 1e3 / decode[own].value
    common: dict[str, Any] = {"shape": shape, "threads": threads, "device": "cpu"}

    def noise(decoded: Row | None, phase: str) -> dict[str, Any]:
        if decoded is None or phase != "latency":
            return {}
        return {"n": decoded.n, "spread": decoded.spread}

    for phase, unit, ours, theirs in (
        ("latency", "ms", ours_ms, milliseconds),
        ("memory", "MB", memory[own].value, megabytes),
    ):
        report.add(
            Row(
                name=f"{shape} {phase} {own}", engine=OURS, format=own_contestant().format,
                phase=phase, unit=unit, value=ours, reference=name, ratio=ours / theirs,
                **noise(decode[own], phase), **common,
            )
        )  # fmt: skip
        report.add(
            Row(
                name=f"{shape} {phase} {name}", engine=name,
                format="F16" if fp16 is None else fp16.format, phase=phase, unit=unit,
                value=theirs, **noise(fp16, phase), **common,
            )
        )  # fmt: skip
    return gb_per_s


def add_energy(report: Report, shape: str) -> None:
    """The arithmetic energy of a token of both forms."""
    config = decoder_config(shape)
    for process in ENERGY:
        dense = energy_mj(dense_operations(config, ENERGY_CONTEXT), process)
        ternary = energy_mj(ternary_operations(config, ENERGY_CONTEXT), process)
        phase = f"energy, {process}"
        common: dict[str, Any] = {
            "shape": shape, "threads": 1, "device": "model", "phase": phase, "unit": "mJ",
        }  # fmt: skip
        report.add(
            Row(
                name=f"{shape} {phase} {own_contestant().label}", engine=OURS,
                format=own_contestant().format, value=ternary, reference=FP16,
                ratio=ternary / dense, **common,
            )
        )  # fmt: skip
        report.add(
            Row(name=f"{shape} {phase} {FP16}", engine=FP16, format="F16", value=dense, **common)
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description="The paper's table on this machine.")
    parser.add_argument("--shape", dest="shapes", action="append", choices=list(SHAPES))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--peers", default=",".join(FP16_PEERS), help="what counts as FP16 Llama")
    parser.add_argument("--keep", action="store_true", help="keep peers' models of this run")
    add_peer_arguments(parser)
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    report, measured = Report("paper", args.json, argv), Report("peers", None, argv)
    peers = parse_contestants([name for name in args.peers.split(",") if name])
    gb_per_s = 0.0
    for shape in args.shapes or PAPER_SHAPES:
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            where = read_where(args, scratch)
            before = _files(where.cache)
            measure_shape(
                measured,
                shape,
                peers,
                where,
                phases=("decode", MEMORY),
                threads=[args.threads],
                rounds=args.rounds,
            )
            if not args.keep:
                for file in _files(where.cache) - before:
                    file.unlink()
        report.header["peers"] = measured.header.get("peers", {})
        report.skipped += [skip for skip in measured.skipped if skip not in report.skipped]
        gb_per_s = add_shape(report, measured, shape, args.threads, gb_per_s)
        add_energy(report, shape)
    return report.exit_code()


def _files(folder: Path) -> set[Path]:
    return set(folder.glob("*.gguf"))


if __name__ == "__main__":
    sys.exit(main())
