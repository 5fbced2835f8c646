"""Whole models with random weights beside other engines: tokens/s, memory, first token.

Phases: `decode` is 32 single tokens from an empty KV cache, `ppN` a prompt of N tokens in one call;
both give the logits of the last token, nothing is sampled. `memory` is by how much the peak of
resident memory grows in load + pp128 + decode, `first token` the seconds from before the load to
the logits of a prompt of 8 (imports done, file in the page cache). Every engine does the same work
in a process of its own, which is stopped while it is another's turn; all of them take turns within
one run. What can not be measured is a line that says why.

Usage: python bench/peers.py --shape 700M --threads 2 --peers llama-cpp-python,transformers \
           [--peer-python PYTHON] [--llama-bench PATH --llama-bench-type IQ2_BN] --json OUT
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.contest import (
    FIRST_TOKEN,
    MEMORY,
    OWN_FORMATS,
    PHASES,
    Entrant,
    measure_shape,
    own_contestant,
    phase_work,
)
from bench.engines import DEFAULT_CACHE, KINDS, OURS, Where, parse_contestants
from bench.llama_bench import LlamaBench
from bench.report import Report, add_report_arguments
from bench.shapes import SHAPES

__all__ = ["add_peer_arguments", "read_where"]


def add_peer_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds where things are: peers' Pythons, models."""
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="[ENGINE=]PYTHON",
        help="one that has the peers, or one of them",
    )
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="of peers' models")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where ours are made")


def read_where(args: argparse.Namespace, scratch: str) -> Where:
    """What `add_peer_arguments` was given.

    Raises:
        ValueError: a Python for an engine that is none.
    """
    pythons = {"": sys.executable}
    for given in args.peer_python:
        engine, equals, python = given.rpartition("=")
        if equals and engine not in KINDS:
            message = f"[peer-python] expected one of {', '.join(KINDS)}, got {engine!r}"
            raise ValueError(message)
        pythons[engine] = python
    pythons[OURS] = sys.executable
    return Where(pythons, args.cache.expanduser().resolve(), Path(scratch).resolve())


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; lists that were not given get their defaults."""
    parser = argparse.ArgumentParser(description="Measure random models beside other engines.")
    parser.add_argument("--shape", dest="shapes", action="append", choices=list(SHAPES))
    parser.add_argument("--threads", type=_numbers, metavar="N,N")
    parser.add_argument(
        "--phase", dest="phases", action="append", metavar="decode|ppN|memory|first token"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument(
        "--peers",
        default=",".join(kind for kind in KINDS if kind != OURS),
        metavar="NAME[:FORMAT],...",
        help="default: all that are known; an empty text for none",
    )
    parser.add_argument("--format", default=OWN_FORMATS[0], choices=OWN_FORMATS, help="of ours")
    add_peer_arguments(parser)
    parser.add_argument("--llama-bench", type=Path, metavar="PATH", help="of another llama.cpp")
    parser.add_argument(
        "--llama-bench-type", action="append", default=[], metavar="TYPE", help="e.g. IQ2_BN_R4"
    )
    parser.add_argument("--llama-bench-name", default="ik_llama.cpp", metavar="NAME")
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    args.shapes = args.shapes or ["700M", "2B4T"]
    args.threads = args.threads or sorted({1, len(os.sched_getaffinity(0))})
    args.phases = args.phases or list(PHASES)
    try:
        args.peers = parse_contestants([name for name in args.peers.split(",") if name])
        for phase in args.phases:
            if phase not in (MEMORY, FIRST_TOKEN):
                phase_work(phase)
    except ValueError as error:
        parser.error(str(error))
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    peers: list[Entrant] = [*args.peers]
    if args.llama_bench is not None:
        name, program = args.llama_bench_name, args.llama_bench.resolve()
        peers += [LlamaBench(program, name, each) for each in args.llama_bench_type or ["TQ2_0"]]
    report = Report("peers", args.json, argv)
    for shape in args.shapes:
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            where = read_where(args, scratch)
            measure_shape(
                report,
                shape,
                peers,
                where,
                phases=args.phases,
                threads=args.threads,
                rounds=args.rounds,
                ours=own_contestant(args.format),
            )
    return report.exit_code()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
