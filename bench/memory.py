"""Peak memory of loading and evaluating, measured in fresh processes.

The claim: from just before `load` (imports done, no tokenizer) through a prompt of 128 tokens and
32 decoded ones, with a KV cache of 512, peak resident memory grows by at most the packed bytes +
that cache + 50 MB. Mapped weights count in full: every page that was read is resident. A
tokenizer's memory is a row of its own.

Usage: python -m bench.memory [--shape 2B4T] [--json OUT]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import bitnet_py
from bench.checkpoints import MissingData, checkpoint_folder, tokenizer_folder
from bench.fresh_process import call_fresh
from bench.harness import Samples
from bench.random_folder import write_random_folder
from bench.report import Report, Row, add_report_arguments
from bench.shapes import SHAPES, decoder_config
from bitnet_py.convert import convert
from bitnet_py.peak_memory import PeakMemory
from bitnet_py.speed import Workload, random_ids, run_seconds
from bitnet_py.tokenizer import load_tokenizer

PROMPT: Final = Workload(128, 128)
DECODED: Final = Workload(32, 1, 128)
KV_TOKENS: Final = 512
ALLOWED_MB: Final = 50
SHAPES_MEASURED: Final = ("2B4T", "3.9B")
CHECKPOINT: Final = "bitllama1M"
TOKENIZERS: Final = ("llama2-32000",)


def growth_of(action: Callable[[], object]) -> int:
    """By how many bytes the peak of resident memory goes above what was resident before.

    Whatever the action returns is kept until the peak has been read.
    """
    memory = PeakMemory()
    kept = action()
    grown = memory.growth_bytes()
    del kept
    return grown


def measure_step(folder: str, threads: int) -> dict[str, int]:
    """Loads a packed folder, reads a prompt and decodes; for a fresh process.

    Returns:
        grown_bytes, and kv_bytes of the session that was used.
    """
    held: dict[str, Any] = {}

    def load_and_run() -> object:
        model = bitnet_py.load(folder, threads=threads)
        held["session"] = session = model.session(min(KV_TOKENS, model.context_length))
        ids = random_ids(int(model.config["vocab_size"]), PROMPT.tokens)
        for test in (PROMPT, DECODED):
            run_seconds(session, ids, test)
        return model

    bitnet_py.load  # noqa: B018 the imports behind it are not what is measured
    grown_bytes = growth_of(load_and_run)
    return {"grown_bytes": grown_bytes, "kv_bytes": held["session"].kv_bytes}


def measure_tokenizer(folder: str) -> int:
    """The growth of loading a folder's tokenizer, its library imported; for a fresh process."""
    import tokenizers  # noqa: F401

    return growth_of(lambda: load_tokenizer(Path(folder)))


def report_step(report: Report, shape: str, folder: Path, rounds: int, threads: int) -> None:
    """The rows of one folder, the first of them checked against the claim."""
    runs = [call_fresh(measure_step, str(folder), threads) for _ in range(rounds)]
    packed_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    needed_mb = (packed_bytes + runs[0]["kv_bytes"]) / 1e6
    limit_mb = needed_mb + ALLOWED_MB
    grown = Samples(tuple(run["grown_bytes"] / 1e6 for run in runs))
    row = replace(
        _row(shape, f"load + {PROMPT.name} + {DECODED.tokens} tokens", grown, threads),
        reference=f"packed bytes + KV cache + {ALLOWED_MB} MB",
        ratio=grown.median / limit_mb,
    )
    report.check(row, max(grown.values) <= limit_mb, f"at most {limit_mb:.1f} MB")
    beyond = Samples(tuple(value - needed_mb for value in grown.values))
    report.add(_row(shape, "beyond packed bytes + KV cache", beyond, threads))
    report.add(_row(shape, "packed bytes", Samples((packed_bytes / 1e6,)), threads))


def report_tokenizer(report: Report, name: str, folder: Path, rounds: int) -> None:
    """The row of one tokenizer."""
    grown = tuple(call_fresh(measure_tokenizer, str(folder)) / 1e6 for _ in range(rounds))
    report.add(_row(name, "tokenizer", Samples(grown), threads=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description="Measure peak memory.")
    parser.add_argument("--shape", dest="shapes", action="append", choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where the folder is made")
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    report = Report("memory", args.json, argv)

    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        try:
            folder = Path(scratch) / CHECKPOINT
            convert(checkpoint_folder(CHECKPOINT), folder)
            report_tokenizer(report, CHECKPOINT, folder, args.rounds)
            for file in folder.glob("*token*"):
                file.unlink()
            report_step(report, CHECKPOINT, folder, args.rounds, args.threads)
        except MissingData as reason:
            report.skip(CHECKPOINT, str(reason))
        for shape in args.shapes or SHAPES_MEASURED:
            folder = Path(scratch) / shape
            folder.mkdir()
            write_random_folder(folder, decoder_config(shape))
            report_step(report, shape, folder, args.rounds, args.threads)
    for name in TOKENIZERS:
        try:
            report_tokenizer(report, name, tokenizer_folder(name), args.rounds)
        except MissingData as reason:
            report.skip(name, str(reason))
    return report.exit_code()


def _row(shape: str, phase: str, samples: Samples, threads: int) -> Row:
    return Row(
        name=f"{shape} {phase}",
        engine="bitnet_py",
        format="" if phase == "tokenizer" else "ternary2",
        shape=shape,
        threads=threads,
        device="cpu",
        phase=phase,
        value=samples.median,
        unit="MB",
        n=samples.n,
        spread=samples.spread,
    )


if __name__ == "__main__":
    sys.exit(main())
