"""Peak memory and speed of converting a checkpoint that is large beside the memory it may use.

The claim: peak resident memory stays below 3 times the largest tensor + 300 MB. In fact blocks of
rows are streamed, so it does not depend on the model's size; both are rows. Each conversion runs in
a fresh process on a made-up sharded bfloat16 checkpoint that is not in the page cache, and is
compared with reading the same files and nothing else.

Usage: python -m bench.convert_memory [--shape 2B4T] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.fresh_process import call_fresh
from bench.harness import Samples, median_ratio
from bench.memory import growth_of
from bench.report import Report, Row, add_report_arguments
from bench.shapes import SHAPES, decoder_config
from bitnet_py import _core
from bitnet_py.convert import convert
from bitnet_py.convert.formats import Entry
from bitnet_py.convert.writer import SafetensorsWriter

ALLOWED_MB: Final = 300
ALLOWED_TENSORS: Final = 3
SHARD_BYTES: Final = 1_500_000_000
PIECE_BYTES: Final = 8 << 20
CASES: Final = (  # name, method, scale
    ("absmean per tensor", "absmean", "tensor"),
    ("absmean per group", "absmean", "group"),
    ("dense bf16", "bf16", None),
)


def write_checkpoint(folder: Path, shape: str, seed: int = 0) -> int:
    """A sharded bfloat16 checkpoint of normal weights under Hugging Face's names.

    Returns:
        The bytes of its largest tensor.
    """
    decoder = decoder_config(shape)
    specs = _core.tensor_specs(decoder)
    entries = [Entry(spec.name, "BF16", spec.shape) for spec in specs]
    normal = np.random.default_rng(seed).standard_normal(PIECE_BYTES // 2, np.float32) * 0.02
    piece = (normal.view(np.uint32) >> 16).astype(np.uint16)
    with SafetensorsWriter(folder, [[entry] for entry in entries], SHARD_BYTES) as writer:
        for entry in entries:
            count = math.prod(entry.shape)
            for begin in range(0, count, len(piece)):
                writer.append(entry.name, piece[: count - begin])
        writer.finish()
    config = {name: value for name, value in decoder.items() if not name.endswith("sub_norm")}
    config["model_type"] = "bitnet" if decoder.get("attn_sub_norm") else "llama"
    (folder / "config.json").write_text(json.dumps(config))
    return max(entry.n_bytes for entry in entries)


def forget_pages(folder: str) -> None:
    """Takes a folder's files out of the page cache."""
    for path in Path(folder).iterdir():
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def measure_conversion(
    source: str, out: str, method: str, scale: str | None, threads: int
) -> dict[str, Any]:
    """Converts; for a fresh process.

    Returns:
        seconds, grown_bytes above what was resident before, peak_bytes of the process, out_bytes.
    """
    held: dict[str, Any] = {}

    def run() -> None:
        start = time.perf_counter()
        held["out_bytes"] = convert(
            source, out, method=method, scale=scale, threads=threads
        ).n_bytes
        held["seconds"] = time.perf_counter() - start

    return {"grown_bytes": growth_of(run), "peak_bytes": _peak_bytes()} | held


def measure_reading(source: str) -> float:
    """Seconds to read every file once, as fast as one thread can."""
    buffer = bytearray(PIECE_BYTES)
    start = time.perf_counter()
    for path in sorted(Path(source).glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - start


def run_case(
    case: tuple[str, str, str | None], source: Path, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Converts some times, each in a fresh process, and reads the source before each.

    Returns:
        What measure_conversion returned, with read_seconds.
    """
    _, method, scale = case
    runs = []
    for i in range(args.rounds):
        forget_pages(str(source))
        read_seconds = call_fresh(measure_reading, str(source))
        forget_pages(str(source))
        out = source.with_name(f"{source.name}-{method}-{scale}-{i}")
        run = call_fresh(measure_conversion, str(source), str(out), method, scale, args.threads)
        shutil.rmtree(out)
        runs.append(run | {"read_seconds": read_seconds})
    return runs


def report_case(
    report: Report,
    case: tuple[str, str, str | None],
    runs: list[dict[str, Any]],
    largest_bytes: int,
    source_bytes: int,
    args: argparse.Namespace,
) -> None:
    """The rows of one case; the peak is checked against the claim."""
    name = f"{args.shape} {case[0]}"
    limit_mb = ALLOWED_TENSORS * largest_bytes / 1e6 + ALLOWED_MB
    peak = Samples(tuple(run["peak_bytes"] / 1e6 for run in runs))
    grown = Samples(tuple(run["grown_bytes"] / 1e6 for run in runs))
    seconds = Samples(tuple(run["seconds"] for run in runs))
    reading = Samples(tuple(run["read_seconds"] for run in runs))
    rows = {
        "peak memory": (peak, "MB", "3 x largest tensor + 300 MB", peak.median / limit_mb),
        "growth while converting": (grown, "MB", None, None),
        "seconds": (seconds, "s", "reading the source", median_ratio(seconds, reading)),
        "source speed": (seconds.rates(source_bytes / 1e6), "MB/s", None, None),
        "output": (Samples((runs[0]["out_bytes"] / 1e6,)), "MB", "the source",
                   runs[0]["out_bytes"] / source_bytes),
    }  # fmt: skip
    for phase, (samples, unit, reference, ratio) in rows.items():
        row = Row(
            name=f"{name} {phase}",
            engine="bitnet_py",
            format=case[0],
            shape=args.shape,
            threads=args.threads,
            device="cpu",
            phase=phase,
            value=samples.median,
            unit=unit,
            reference=reference,
            ratio=ratio,
            n=samples.n,
            spread=samples.spread,
        )
        holds = phase != "peak memory" or max(samples.values) <= limit_mb
        report.check(row, holds, f"at most {limit_mb:.0f} MB")


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the checkpoint and converts it."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description="Measure peak memory and speed of convert.")
    parser.add_argument("--shape", default="2B4T", choices=list(SHAPES), help="4.8 GB in bfloat16")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where the folders are made")
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    report = Report("convert_memory", args.json, argv)
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        source = Path(scratch) / args.shape
        source.mkdir()
        largest_bytes = write_checkpoint(source, args.shape)
        source_bytes = sum(file.stat().st_size for file in source.glob("*.safetensors"))
        for case in CASES:
            runs = run_case(case, source, args)
            report_case(report, case, runs, largest_bytes, source_bytes, args)
    return report.exit_code()


def _peak_bytes() -> int:
    """The peak of resident memory since `growth_of` began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    sys.exit(main())
