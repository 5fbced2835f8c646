"""What a benchmark writes: rows, what was skipped and why, and a header that says where it ran.

Owns: the schema of a row, the JSON file. Does not own: timing (harness.py), tables (tables.py).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from bitnet_py import _core

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured number.

    Attributes:
        name: what a reader finds it by, unique in its file.
        engine: "bitnet_py", or how a peer names itself, e.g. "llama.cpp".
        format: the weights' format, e.g. "ternary2", "TQ2_0"; "" where none matters.
        shape: a name of shapes.py or of a checkpoint; "" where none matters.
        threads: threads used.
        device: "cpu" or the accelerator's name.
        phase: what was measured, e.g. "decode", "pp128", "perplexity".
        value: the number, a median where n > 1.
        unit: its unit, e.g. "tokens/s", "MB", "s".
        reference: what it is compared with, e.g. "llama.cpp TQ2_0"; None: nothing.
        ratio: value / the reference's value; timings of one run: the median of the rounds' ratios.
        n: number of measurements behind the value.
        spread: their interquartile range / their median; 0 where n is 1.
    """

    name: str
    engine: str
    format: str
    shape: str
    threads: int
    device: str
    phase: str
    value: float
    unit: str
    reference: str | None = None
    ratio: float | None = None
    n: int = 1
    spread: float = 0.0


class Report:
    """The rows of one benchmark's run.

    Attributes:
        bench: the benchmark's name, e.g. "peers".
        rows: what was measured.
        skipped: what was not, as {"name", "reason"}.
        failures: claims that did not hold; they make the exit code 1.
    """

    def __init__(self, bench: str, path: Path | None, argv: Sequence[str]) -> None:
        """Starts a report.

        Args:
            bench: the benchmark's name.
            path: where `write` puts the JSON file; None: nowhere.
            argv: the command's arguments, for the header.
        """
        self.bench = bench
        self.rows: list[Row] = []
        self.skipped: list[dict[str, str]] = []
        self.failures: list[str] = []
        self.path = path
        self.header = run_header(bench, argv)

    def add(self, row: Row) -> None:
        """Keeps a row, prints it and writes the file: a long run that breaks keeps what it has."""
        if not math.isfinite(row.value):
            self.fail(row.name, f"{row.value} {row.unit}")
            return
        self.rows.append(row)
        compared = "" if row.ratio is None else f"   {row.ratio:.5g} of {row.reference}"
        spread = "" if row.n == 1 else f"   +-{row.spread:.1%} n={row.n}"
        print(f"{row.name:<52} {row.value:>12.4f} {row.unit}{spread}{compared}", flush=True)
        self.write()

    def skip(self, name: str, reason: str) -> None:
        """Says that something was not measured, and why."""
        self.skipped.append({"name": name, "reason": reason})
        print(f"{name:<52} skipped: {reason}", flush=True)
        self.write()

    def check(self, row: Row, holds: bool, rule: str) -> None:
        """Keeps a row that a claim rests on; the run fails when the claim does not hold."""
        self.add(row)
        if not holds:
            self.fail(row.name, f"{row.value:.6g} {row.unit}, expected {rule}")

    def fail(self, name: str, reason: str) -> None:
        """Makes the run fail."""
        self.failures.append(f"{name}: {reason}")
        print(f"{name:<52} FAILED: {reason}", file=sys.stderr, flush=True)
        self.write()

    def write(self) -> None:
        """Replaces the JSON file, so that it is complete at every moment."""
        if self.path is None:
            return
        content = {
            "header": self.header,
            "rows": [asdict(row) for row in self.rows],
            "skipped": self.skipped,
            "failures": self.failures,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(self.path)

    def exit_code(self) -> int:
        """0, or 1 when a claim did not hold."""
        return 1 if self.failures else 0


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what every benchmark takes."""
    parser.add_argument("--json", type=Path, metavar="OUT", help="write header and rows to OUT")


def run_header(bench: str, argv: Sequence[str]) -> dict[str, Any]:
    """Where and of what a run was made; no path of this machine is in it."""
    return {
        "bench": bench,
        "command": " ".join(["python", "-m", f"bench.{bench}", *map(_without_folder, argv)]),
        "commit": commit(),
        "cpu": _core.cpu_brand(),
        "cores": len(os.sched_getaffinity(0)),
        "isa": os.environ.get("BITNET_ISA") or _core.available_isas()[0],
        "compiler": getattr(_core, "__compiler__", None),
        "bitnet_py": _core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def commit() -> str | None:
    """The checkout's commit, "+" behind it when tracked files outside results/ differ from it."""
    try:
        described = _git("rev-parse", "--short=12", "HEAD")
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", ":!bench/results", ":!*.md"
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described + ("+" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _without_folder(argument: str) -> str:
    """An argument with the folders of absolute paths left out: they say nothing elsewhere."""
    option, equals, value = argument.rpartition("=")
    return option + equals + (Path(value).name if Path(value).is_absolute() else value)
