"""How long a user waits: for the import, for a first token, for a large folder to be mapped.

Every number is from fresh processes that take turns; files are in the page cache (the first turns
are not kept).

Usage: python -m bench.startup [--shape 3.9B] [--json OUT]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import bitnet_py
from bench.checkpoints import MissingData, checkpoint_folder, tokenizer_folder
from bench.fresh_process import call_fresh, run_fresh
from bench.harness import Contender, Samples, interleave
from bench.random_folder import write_random_folder
from bench.report import Report, Row, add_report_arguments
from bench.shapes import SHAPES, decoder_config
from bitnet_py.convert import convert

CHECKPOINT: Final = "bitllama1M"
TOKENIZER: Final = "llama2-32000"
FIRST_TOKEN: Final = "bitnet generate, one token"
FIRST_TOKEN_LIMIT_S: Final = 0.8  # of a folder of 1 GB
IMPORT_LIMIT_S: Final = 0.5
IMPORT: Final = "import bitnet_py"
EMPTY: Final = "python, nothing imported"
CLI: Final = "import sys; from bitnet_py.cli import main; sys.argv[0] = 'bitnet'; sys.exit(main())"
PROCESSES: Final = {  # name -> code of a whole process
    EMPTY: "pass",
    IMPORT: "import bitnet_py",
    "import all of inference": "import bitnet_py; bitnet_py.load",
}


def load_seconds(folder: str, validate: bool, threads: int) -> float:
    """How long `load` takes, imports not counted; for a fresh process."""
    load = bitnet_py.load
    start = time.perf_counter()
    model = load(folder, validate=validate, threads=threads)
    seconds = time.perf_counter() - start
    del model
    return seconds


def process_seconds(arguments: Sequence[str]) -> float:
    """How long a Python with these arguments lives."""
    return run_fresh([sys.executable, *arguments]).seconds


def measure_processes(report: Report, folders: Mapping[str, Path], rounds: int) -> None:
    """Whole processes from start to exit: the imports, and a first token of every folder.

    Args:
        report: where the rows go.
        folders: models with a tokenizer, by the name of their shape.
        rounds: turns that each process takes.
    """
    commands = {name: ["-c", code] for name, code in PROCESSES.items()}
    limits = {IMPORT: IMPORT_LIMIT_S}
    shapes = {}
    for shape, folder in folders.items():
        name = f"{FIRST_TOKEN}, {_size_gb(folder):.2f} GB ({shape})"
        arguments = ["generate", str(folder), "-p", "Once upon a time", "--max-new-tokens", "1"]
        commands[name] = ["-c", CLI, *arguments]
        limits[name] = FIRST_TOKEN_LIMIT_S
        shapes[name] = shape
    contenders = [
        Contender(name, partial(process_seconds, command)) for name, command in commands.items()
    ]
    for name, samples in interleave(contenders, rounds=rounds).items():
        row = _row(name, shapes.get(name, ""), samples)
        if name in limits:
            limit = f"the limit of {limits[name]} s"
            row = replace(row, reference=limit, ratio=samples.median / limits[name])
            report.check(row, samples.median < limits[name], limit)
        else:
            report.add(row)


def measure_load(report: Report, shape: str, folder: Path, rounds: int, threads: int) -> None:
    """Loading a folder, with and without a look at every code."""
    size_gb = _size_gb(folder)

    def contender(name: str, validate: bool) -> Contender:
        return Contender(name, lambda: call_fresh(load_seconds, str(folder), validate, threads))

    contenders = [
        contender(f"load {size_gb:.2f} GB ({shape}), validated", validate=True),
        contender(f"load {size_gb:.2f} GB ({shape}), not validated", validate=False),
    ]
    for name, samples in interleave(contenders, rounds=rounds).items():
        report.add(replace(_row(name, shape, samples), threads=threads))


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description="Measure start-up and loading.")
    parser.add_argument("--shape", default="3.9B", choices=list(SHAPES), help="1.1 GB packed")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of the validation")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where the folders are made")
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    report = Report("startup", args.json, argv)

    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch) / args.shape
        folder.mkdir()
        write_random_folder(folder, decoder_config(args.shape))
        folders: dict[str, Path] = {}
        try:
            source = checkpoint_folder(CHECKPOINT)
            folders[CHECKPOINT] = Path(scratch) / CHECKPOINT
            convert(source, folders[CHECKPOINT])
            for file in tokenizer_folder(TOKENIZER).iterdir():
                shutil.copy(file, folder)
            folders[args.shape] = folder
        except MissingData as reason:
            report.skip(FIRST_TOKEN, str(reason))
        measure_processes(report, folders, args.rounds)
        measure_load(report, args.shape, folder, args.rounds, args.threads)
    return report.exit_code()


def _size_gb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e9


def _row(name: str, shape: str, samples: Samples) -> Row:
    return Row(
        name=name,
        engine="bitnet_py",
        format="ternary2" if shape else "",
        shape=shape,
        threads=1,
        device="cpu",
        phase="startup",
        value=samples.median,
        unit="s",
        n=samples.n,
        spread=samples.spread,
    )


if __name__ == "__main__":
    sys.exit(main())
