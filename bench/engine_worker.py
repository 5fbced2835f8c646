"""A process that runs one engine with one model and takes its orders line by line.

Owns: the protocol's far end, and the clock around the engine's work. Does not own: an engine
(`engine_*.py`, each with a `make` function), nor rounds and ratios (`contest.py`). Imports nothing
but the standard library, so any Python that has an engine can run it from the checkout's root:

    python -m bench.engine_worker llama_cpp --model FILE.gguf --shape 700M --format TQ2_0

It prints one line, {"version": ..., "system": ..., "variants": [...]}. Then every line on stdin is
an order, and answers with one line on stdout; what can not be obeyed is {"error": ...}:

    {"do": "load", "threads": 2}                          -> {"seconds": ...}
    {"do": "run", "tokens": 32, "at_once": 1}             -> {"seconds": ...}
    {"do": "run", ..., "threads": 1, "variant": "..."}    from here on

A run starts from an empty KV cache and ends with the logits of the last token. The end of stdin
ends the process.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import signal
import sys
import time
from typing import Any, Final, Protocol, TextIO

__all__ = ["CONTEXT_LENGTH", "Engine"]

CONTEXT_LENGTH: Final = 512  # of every engine's KV cache: it counts in the memory


class Engine(Protocol):
    """What `make(model, shape, format)` of an engine's module gives.

    Attributes:
        version: of the program that does the work.
        system: how it was built, and for which instructions.
        variants: ways to run it that one tries; empty when there is one way.
    """

    version: str
    system: str
    variants: tuple[str, ...]

    def load(self, threads: int) -> None:
        """Makes the model ready; what was imported before is not counted."""

    def configure(self, threads: int, variant: str) -> None:
        """Changes threads and variant of later runs."""

    def run(self, tokens: int, at_once: int) -> None:
        """Evaluates tokens, so many per call, from an empty KV cache."""


def obey(engine: Engine, order: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Does what an order says.

    Args:
        engine: that works.
        order: see the head of this file.
        state: threads and variant of the last order; changed.

    Raises:
        ValueError: an order that is none.
    """
    threads = int(order.get("threads", state["threads"]))
    variant = str(order.get("variant", state["variant"]))
    if order["do"] == "load":
        start = time.perf_counter()
        engine.load(threads)
    elif order["do"] == "run":
        tokens, at_once = int(order["tokens"]), int(order["at_once"])
        if not 0 < at_once <= tokens <= CONTEXT_LENGTH:
            message = f"[run] expected 1 to {CONTEXT_LENGTH} tokens, got {tokens}, {at_once} a call"
            raise ValueError(message)
        if (threads, variant) != (state["threads"], state["variant"]):
            engine.configure(threads, variant)
        start = time.perf_counter()
        engine.run(tokens, at_once)
    else:
        message = f"[do] expected load or run, got {order['do']!r}"
        raise ValueError(message)
    seconds = time.perf_counter() - start
    state.update(threads=threads, variant=variant)
    return {"seconds": seconds}


def end_with_parent() -> None:
    """Lets Linux end this process with its parent, which may have stopped it for another's turn."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)


def own_stdout() -> TextIO:
    """Keeps stdout for answers alone: whatever a library prints goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def main() -> None:
    """Imports the engine, reports, answers until stdin ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("engine", help="NAME of engine_NAME.py")
    parser.add_argument("--model", required=True, metavar="PATH")
    parser.add_argument("--shape", required=True)
    parser.add_argument("--format", required=True)
    arguments = parser.parse_args()
    end_with_parent()
    answers = own_stdout()
    make = importlib.import_module(f"bench.engine_{arguments.engine}").make
    engine: Engine = make(arguments.model, arguments.shape, arguments.format)
    variant = engine.variants[0] if engine.variants else ""
    ready = {"version": engine.version, "system": engine.system, "variants": engine.variants}
    answers.write(json.dumps(ready) + "\n")
    state = {"threads": 1, "variant": variant}
    for line in sys.stdin:
        try:
            reply = obey(engine, json.loads(line), state)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
