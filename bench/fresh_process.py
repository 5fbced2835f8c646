"""Measurements that need a process of their own: peak memory, start-up time.

Owns: starting a fresh Python in the checkout and bringing its answer back.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench.report import ROOT

__all__ = ["Finished", "call_fresh", "run_fresh"]

CALL = """\
import importlib, json, sys
module, function, arguments = json.loads(sys.argv[1])
print(json.dumps(getattr(importlib.import_module(module), function)(*arguments)))
"""


class Finished(NamedTuple):
    """A process that came to its end: wall time from start to exit, what it printed."""

    seconds: float
    output: str


def run_fresh(command: Sequence[str]) -> Finished:
    """Runs a command in the checkout's root.

    Raises:
        RuntimeError: it failed; the message ends as its errors do.
    """
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        errors = done.stderr.strip()[-2000:]
        message = f"{command[0]} ended with code {done.returncode}: {errors}"
        raise RuntimeError(message)
    return Finished(seconds, done.stdout)


def call_fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a module's function in a fresh process; arguments and result travel as JSON.

    Raises:
        RuntimeError: it failed.
    """
    module = function.__module__
    if module == "__main__":  # its name under `python -m`
        module = sys.modules[module].__spec__.name  # type: ignore[union-attr]
    call = json.dumps([module, function.__name__, arguments])
    return json.loads(run_fresh([sys.executable, "-c", CALL, call]).output)
