"""A worker that times llama.cpp on one GGUF and takes its orders line by line.

Owns: llama.cpp's side of a comparison, through llama-cpp-python's low-level calls. Does not own:
the model files (`peer_models.py`), nor the order of rounds and the ratios: `decode.py` starts this
program beside its own engine and asks the two in turn, so that a busy moment hits both.

    python bench/peer_llama_cpp.py --model FILE.gguf --shape 700M --format TQ2_0 --threads 2

It needs llama-cpp-python and numpy alone, so it also runs from an environment of its own.

After loading it prints one line, {"ready": true, "engine": ..., "version": ..., "system": ...}.
Then every line on stdin is a command, and answers with one line on stdout:

    {"phase": "decode", "tokens": 32}     single tokens, one after the other, from an empty cache
    {"phase": "pp128"}                    128 tokens in one batch, logits of the last
    {"phase": "pp512", "repeats": 3}      any ppN; value is the median of the repeats
    {"phase": "decode", "threads": 1}     other threads from here on
    {"phase": "peak_rss"}                 peak resident memory of this process, MiB

The first command of a phase and number of threads runs once unmeasured. A command that cannot be
obeyed is answered {"error": ...}. The end of stdin ends the worker.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import llama_cpp
import numpy as np

CONTEXT_LENGTH = 512  # its KV cache counts in peak_rss


class LlamaCpp:
    """One loaded model and its context; flash attention is off, as in the reference tables."""

    def __init__(self, path: Path, threads: int) -> None:
        """Loads a model.

        Args:
            path: GGUF file, memory-mapped.
            threads: for decode and prefill alike.

        Raises:
            RuntimeError: llama.cpp refuses the file.
        """
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            os.fsencode(path), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            message = f"llama.cpp cannot load {path}"
            raise RuntimeError(message)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = CONTEXT_LENGTH
        params.n_batch = CONTEXT_LENGTH
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            message = f"llama.cpp cannot make a context for {path}"
            raise RuntimeError(message)
        self.threads = threads
        vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        tokens = np.random.default_rng(1).integers(3, vocab_size, CONTEXT_LENGTH)
        self._tokens = (llama_cpp.llama_token * CONTEXT_LENGTH)(*tokens.tolist())

    def set_threads(self, threads: int) -> None:
        """Changes the number of threads of all later work."""
        llama_cpp.llama_set_n_threads(self._context, threads, threads)
        self.threads = threads

    def evaluate_s(self, tokens: int, batch_size: int) -> float:
        """Evaluates tokens from an empty KV cache and returns the seconds it took.

        Args:
            tokens: how many, at most `CONTEXT_LENGTH`.
            batch_size: tokens per call: 1 for decode, `tokens` for prefill.

        Raises:
            RuntimeError: llama.cpp could not evaluate a batch.
        """
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        start = time.perf_counter()
        for first in range(0, tokens, batch_size):
            at = ctypes.byref(self._tokens, first * ctypes.sizeof(llama_cpp.llama_token))
            batch = llama_cpp.llama_batch_get_one(
                ctypes.cast(at, ctypes.POINTER(llama_cpp.llama_token)), batch_size
            )
            if llama_cpp.llama_decode(self._context, batch):
                message = f"llama_decode failed at token {first}"
                raise RuntimeError(message)
        llama_cpp.llama_synchronize(self._context)
        return time.perf_counter() - start


class Worker:
    """Answers commands about one model with result rows."""

    def __init__(self, engine: LlamaCpp, shape: str, weight_format: str) -> None:
        """Names what is measured.

        Args:
            engine: the loaded model.
            shape: for the rows, e.g. "700M".
            weight_format: for the rows, e.g. "TQ2_0".
        """
        self._engine = engine
        self._shape = shape
        self._weight_format = weight_format
        self._warm: set[tuple[str, int]] = set()

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Obeys one command.

        Args:
            command: see the head of this file.

        Returns:
            A result row; `reference` and `ratio` are left to whoever compares.

        Raises:
            ValueError: the phase is unknown or too long for the context.
        """
        phase = str(command["phase"])
        if phase == "peak_rss":
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            return self._row(phase, [peak_mib], "MiB")
        if phase == "decode":
            tokens, batch_size = int(command.get("tokens", 32)), 1
        elif phase.startswith("pp") and phase[2:].isdigit():
            tokens = batch_size = int(phase[2:])
        else:
            message = f"[phase] expected decode, ppN or peak_rss, got {phase}"
            raise ValueError(message)
        if not 0 < tokens <= CONTEXT_LENGTH:
            message = f"[tokens] expected 1..{CONTEXT_LENGTH}, got {tokens}"
            raise ValueError(message)
        threads = int(command.get("threads", self._engine.threads))
        if threads != self._engine.threads:
            self._engine.set_threads(threads)
        if (phase, threads) not in self._warm:
            self._engine.evaluate_s(min(tokens, 128), min(batch_size, 128))
            self._warm.add((phase, threads))
        repeats = int(command.get("repeats", 1))
        speeds = [tokens / self._engine.evaluate_s(tokens, batch_size) for _ in range(repeats)]
        return self._row(phase, speeds, "tokens/s")

    def _row(self, phase: str, values: list[float], unit: str) -> dict[str, Any]:
        median = statistics.median(values)
        return {
            "name": f"{self._shape} {phase}",
            "engine": "llama.cpp",
            "format": self._weight_format,
            "shape": self._shape,
            "threads": self._engine.threads,
            "device": "cpu",
            "phase": phase,
            "value": round(median, 3),
            "unit": unit,
            "reference": None,
            "ratio": None,
            "n": len(values),
            "spread": round((max(values) - min(values)) / median, 4),
        }


def own_stdout() -> TextIO:
    """Keeps stdout for answers alone: whatever the library prints goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def log_nothing(_level: int, _text: bytes, _user_data: ctypes.c_void_p) -> None:
    """Swallows llama.cpp's log; a failure to load is an exception of ours."""


def main() -> None:
    """Loads, reports ready, answers until stdin ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, metavar="FILE.gguf")
    parser.add_argument("--shape", default="", help="name of the model's shape, for the rows")
    parser.add_argument("--format", default="TQ2_0", help="of the model's weights, for the rows")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    answers = own_stdout()
    silence = llama_cpp.llama_log_callback(log_nothing)  # lives as long as the worker
    llama_cpp.llama_log_set(silence, ctypes.c_void_p(0))
    worker = Worker(LlamaCpp(arguments.model, arguments.threads), arguments.shape, arguments.format)
    ready = {
        "ready": True,
        "engine": "llama.cpp",
        "version": f"llama-cpp-python {llama_cpp.__version__}",
        "system": llama_cpp.llama_print_system_info().decode().strip(" |"),
        "model_bytes": arguments.model.stat().st_size,
    }
    answers.write(json.dumps(ready) + "\n")
    for line in sys.stdin:
        try:
            reply = worker.answer(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
