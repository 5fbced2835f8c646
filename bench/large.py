"""A model that only a ternary form brings into memory: 70B, 17 GB, is loaded and generates.

The folder is written, used in a fresh process and deleted. Weights are random, so the text is none;
the work is that of a real model.

Usage: python -m bench.large [--shape 70B] [--scratch DIR] [--json OUT]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import bitnet_py
from bench.fresh_process import call_fresh
from bench.random_folder import write_random_folder
from bench.report import Report, Row, add_report_arguments
from bench.shapes import SHAPES, decoder_config, head_parameters, ternary_parameters
from bitnet_py.peak_memory import PeakMemory

PROMPT_IDS: Final = (1, 5, 7, 11, 13, 17, 19, 23)
SPARE_BYTES: Final = 2_000_000_000  # that the disk keeps free


def load_and_generate(folder: str, threads: int, new_tokens: int) -> dict[str, float]:
    """Loads a folder, with a look at every code, and generates; for a fresh process.

    Returns:
        Seconds of the load, of the prompt with the first token, of each further token; the growth
        of peak memory in bytes.
    """
    bitnet_py.load  # noqa: B018 the imports behind it are not what is measured
    memory = PeakMemory()
    start = time.perf_counter()
    model = bitnet_py.load(folder, threads=threads)
    loaded = time.perf_counter()
    chunks = model.stream(
        list(PROMPT_IDS), max_new_tokens=new_tokens, eos_token_id=[], do_sample=False
    )
    times = [time.perf_counter() for _ in chunks]
    if len(times) < new_tokens:
        message = f"{len(times)} tokens came, {new_tokens} were asked for"
        raise RuntimeError(message)
    return {
        "load, validated": loaded - start,
        "prompt of 8 and first token": times[0] - loaded,
        "token": (times[new_tokens - 1] - times[0]) / max(new_tokens - 1, 1),
        "memory": float(memory.growth_bytes()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description="Load a large model and generate.")
    parser.add_argument("--shape", default="70B", choices=list(SHAPES))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tokens", type=int, default=4, metavar="N")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="on a disk with room for it")
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    report = Report("large", args.json, argv)

    def add(phase: str, value: float, unit: str) -> None:
        report.add(
            Row(
                name=f"{args.shape} {phase}", engine="bitnet_py", format="ternary2",
                shape=args.shape, threads=args.threads, device="cpu", phase=phase, value=value,
                unit=unit,
            )
        )  # fmt: skip

    config = decoder_config(args.shape)
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch)
        needed = ternary_parameters(config) / 4 + head_parameters(config)
        if shutil.disk_usage(folder).free < needed + SPARE_BYTES:
            report.skip(args.shape, f"needs {needed / 1e9:.0f} GB of disk")
            return report.exit_code()
        start = time.perf_counter()
        write_random_folder(folder, config)
        add("write", time.perf_counter() - start, "s")
        stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        add("packed bytes", stored / 1e9, "GB")
        found = call_fresh(load_and_generate, str(folder), args.threads, args.tokens)
    add("growth of peak memory", found.pop("memory") / 1e9, "GB")
    for phase, seconds in found.items():
        add(phase, seconds, "s")
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
