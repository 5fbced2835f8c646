"""Runs every benchmark in turn, each in its own process, then rewrites the READMEs' tables.

Usage: python -m bench [--peer-python PYTHON] [--only NAME] [--quick --results DIR]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import tables
from bench.report import RESULTS, ROOT

# Name of the module and of its results -> arguments of the full run, and of a quick one.
BENCHES: Final[Mapping[str, tuple[str, str]]] = {
    "peers": (
        "--shape 700M --shape 1.3B --shape 3B --shape 2B4T",
        "--shape tiny --phase decode --phase pp8 --rounds 1",
    ),
    "ternary_stores": ("--shape 2B4T", "--isa generic --rounds 1"),
    "length": ("", "--shape tiny --context 16,64 --rounds 1"),
    "kernels": ("", "--shape 64x256 --tokens 5 --dram-mb 1 --rounds 1"),
    "paper": ("", "--shape tiny --rounds 1"),
    "large": ("", "--shape tiny"),
    "memory": ("", "--shape tiny --rounds 1"),
    "startup": ("", "--shape tiny --rounds 1"),
    "accuracy": ("", "--segments 1 --checkpoint stories260K"),
}
WITH_PEERS: Final = frozenset({"peers", "paper"})


def command_line(
    name: str, results: Path, *, quick: bool, peer_pythons: Sequence[str]
) -> list[str]:
    """The command of one benchmark."""
    command = [sys.executable, "-m", f"bench.{name}", *BENCHES[name][quick].split()]
    if name in WITH_PEERS:
        for python in peer_pythons:
            command += ["--peer-python", python]
    return [*command, "--json", str(results / f"{name}.json")]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs them; 1 when one of them failed."""
    parser = argparse.ArgumentParser(description="Run every benchmark, then rewrite the tables.")
    parser.add_argument("--only", action="append", choices=list(BENCHES), metavar="NAME")
    parser.add_argument(
        "--peer-python", action="append", default=[], metavar="[ENGINE=]PYTHON", help="see peers.py"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only to see it run")
    args = parser.parse_args(argv)
    if args.quick and args.results.resolve() == RESULTS:
        parser.error("--quick needs --results DIR: its numbers are not results")
    failed = []
    for name in args.only or BENCHES:
        results = args.results.resolve()
        command = command_line(name, results, quick=args.quick, peer_pythons=args.peer_python)
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            failed.append(name)
    if args.results.resolve() == RESULTS:
        plots = [sys.executable, "-m", "bench.plots"]  # matplotlib is an extra
        if subprocess.run(plots, cwd=ROOT, check=False).returncode != 0:
            failed.append("plots")
        tables.main([])
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
