"""Tokens per second of whole models with random weights, beside other engines.

Phases: `decode` is 32 single tokens from an empty KV cache, `ppN` is a prompt of N tokens in one
call; both give logits of the last token, nothing is sampled. Every engine does the same work, and
all of them take turns within one run; a ratio is ours / the peer's.

Usage: python -m bench.decode --shape 700M --threads 1 --threads 2 \
           --peers llama-cpp-python --peer-python PYTHON --json OUT
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.harness import Contender, Samples, interleave, median_ratio
from bench.peer_worker import WORKERS, PeerError, PeerWorker, worker_command
from bench.random_folder import write_random_folder
from bench.random_model import random_tensors
from bench.report import Report, Row, add_report_arguments
from bench.shapes import SHAPES, decoder_config
from bitnet_py import _core
from bitnet_py.checkpoint import read_checkpoint

OURS: Final = "bitnet_py"
DECODE_TOKENS: Final = 32
CONTEXT_LENGTH: Final = 512
PHASES: Final = ("decode", "pp128", "pp512")
SETTLE_S: Final = 0.1  # spinning threads of the engine before go to sleep

Tensors = Mapping[str, _core.PackedTensor]


class OwnEngine:
    """This engine with one model and one session."""

    def __init__(self, config: Mapping[str, Any], tensors: Tensors, threads: int) -> None:
        """Builds the model over the tensors, which are not copied or checked."""
        model = _core.Model(config, tensors, threads=threads, validate=False)
        self._session = _core.Session(model, CONTEXT_LENGTH)
        vocab_size = int(config["vocab_size"])
        ids = np.random.default_rng(1).integers(3, vocab_size, CONTEXT_LENGTH)
        self._ids = ids.astype(np.int32)

    def tokens_per_s(self, phase: str) -> float:
        """Runs a phase once, from an empty KV cache."""
        tokens, at_once = phase_work(phase)
        self._session.truncate(0)
        start = time.perf_counter()
        for first in range(0, tokens, at_once):
            self._session.forward(self._ids[first : first + at_once])
        return tokens / (time.perf_counter() - start)


def phase_work(phase: str) -> tuple[int, int]:
    """The tokens of a phase, and how many of them go in one call.

    Raises:
        ValueError: not a phase, or too long for the context.
    """
    if phase == "decode":
        return DECODE_TOKENS, 1
    tokens = int(phase[2:]) if phase.startswith("pp") and phase[2:].isdigit() else 0
    if not 0 < tokens <= CONTEXT_LENGTH:
        message = f"[phase] expected decode or pp1 to pp{CONTEXT_LENGTH}, got {phase!r}"
        raise ValueError(message)
    return tokens, tokens


def measure_phase(
    report: Report,
    shape: str,
    phase: str,
    threads: int,
    engine: OwnEngine,
    peers: Sequence[PeerWorker],
    rounds: int,
) -> None:
    """Lets this engine and its peers take turns at one phase; one row for each of them."""
    answers: dict[str, dict[str, Any]] = {}

    def ask(peer: PeerWorker, name: str) -> float:
        answers[name] = peer.ask(phase=phase, threads=threads, tokens=DECODE_TOKENS)
        return float(answers[name]["value"])

    contenders = [Contender(OURS, lambda: engine.tokens_per_s(phase))]
    for peer in peers:
        name = str(peer.ready["engine"])
        contenders.append(Contender(name, partial(ask, peer, name)))
    samples = interleave(contenders, rounds=rounds, settle_s=SETTLE_S)

    def add(name: str, weights: str, taken: Samples, other: str | None) -> None:
        reference = f"{other} {answers[other]['format']}" if other else None
        report.add(
            Row(
                name=f"{shape} {phase} {threads}T {name}" + (f" / {other}" if other else ""),
                engine=name,
                format=weights,
                shape=shape,
                threads=threads,
                device="cpu",
                phase=phase,
                value=taken.median,
                unit="tokens/s",
                reference=reference,
                ratio=median_ratio(taken, samples[other]) if other else None,
                n=taken.n,
                spread=taken.spread,
            )
        )

    if not answers:
        add(OURS, "ternary2", samples[OURS], None)
    for other in answers:
        add(OURS, "ternary2", samples[OURS], other)
    for name, answer in answers.items():
        add(name, str(answer["format"]), samples[name], None)


def measure_shape(report: Report, shape: str, args: argparse.Namespace) -> None:
    """All phases and numbers of threads of one shape."""
    config = decoder_config(shape)
    with ExitStack() as stack:
        tensors: Tensors
        if args.mapped:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=args.scratch)))
            write_random_folder(folder, config)
            tensors = read_checkpoint(folder).tensors
        else:
            tensors = random_tensors(config)
        peers = []
        for name in args.peers:
            try:
                command = worker_command(name, args.peer_python, shape, args.threads[0], args.cache)
                peers.append(stack.enter_context(PeerWorker(command)))
            except PeerError as error:
                report.skip(f"{shape} {name}", str(error))
                continue
            report.header.setdefault("peers", {})[name] = {
                key: peers[-1].ready[key] for key in ("version", "system")
            }
        for threads in args.threads:
            engine = OwnEngine(config, tensors, threads)
            for phase in args.phases:
                try:
                    measure_phase(report, shape, phase, threads, engine, peers, args.rounds)
                except PeerError as error:
                    report.skip(f"{shape} {phase} {threads}T", str(error))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; lists that were not given get their defaults."""
    parser = argparse.ArgumentParser(description="Measure tokens per second of random models.")
    parser.add_argument("--shape", dest="shapes", action="append", choices=list(SHAPES))
    parser.add_argument("--threads", action="append", type=int, metavar="N")
    parser.add_argument("--phase", dest="phases", action="append", metavar="decode|ppN")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--peers", action="append", choices=list(WORKERS), default=[])
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where peers keep their models")
    parser.add_argument("--mapped", action="store_true", help="map our weights from a file")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where that file is made")
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    args.shapes = args.shapes or ["700M", "2B4T"]
    args.threads = args.threads or sorted({1, len(os.sched_getaffinity(0))})
    args.phases = args.phases or list(PHASES)
    for phase in args.phases:
        phase_work(phase)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    report = Report("decode", args.json, argv)
    report.header["weights"] = "mapped file" if args.mapped else "arrays in memory"
    for shape in args.shapes:
        measure_shape(report, shape, args)
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
