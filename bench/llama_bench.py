"""Another llama.cpp, named by the path of its `llama-bench`: ik_llama.cpp, bitnet.cpp, a build.

Owns: calling that program, one process for each turn (it warms up by itself), and quantizing with
the `llama-quantize` beside it where a type is its own. Does not own: our GGUF files.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.engine_process import EngineError
from bench.engines import KINDS, LLAMA_CPP, Where, gguf_path

__all__ = ["LlamaBench", "LlamaBenchProcess"]

VARIANTS: Final = {"flash attention off": "0", "flash attention on": "1"}
HEAD: Final = ("--output-tensor-type", "q6_k", "--token-embedding-type", "q6_k")


@dataclass(frozen=True)
class LlamaBench:
    """A program with a format, in the place of an `engines.Contestant`.

    Attributes:
        program: path of llama-bench.
        engine: its name in rows.
        format: of the linears, as llama-quantize has it.
    """

    program: Path
    engine: str
    format: str

    is_load_timed = False  # a part of every turn

    @property
    def name(self) -> str:
        """Its name in rows."""
        return self.engine

    @property
    def label(self) -> str:
        """Its name with the format, unique among contestants."""
        return f"{self.engine} {self.format}"

    def needed_bytes(self, shape: str) -> float:
        """Nothing stays in memory between its turns."""
        del shape
        return 0.0

    def model(self, shape: str, where: Where) -> str:
        """Our own random file of a type that we can draw, else F16 of it quantized.

        Raises:
            EngineError: it could not be made.
        """
        if self.format in KINDS[LLAMA_CPP].formats:
            return str(gguf_path(shape, self.format, where))
        path = where.cache / f"random-{shape}-{self.engine}-{self.format}.gguf"
        if not path.exists():
            source = gguf_path(shape, "F16", where)
            part = path.with_suffix(".part")
            quantize = self.program.with_name("llama-quantize")
            _finished([str(quantize), *HEAD, str(source), str(part), self.format, "2"])
            part.replace(path)
        return str(path)

    def start(self, shape: str, where: Where) -> LlamaBenchProcess:
        """Asks the program once, to know that it runs.

        Raises:
            EngineError: it does not.
        """
        return LlamaBenchProcess(self.program, self.model(shape, where))


class LlamaBenchProcess:
    """Answers as an `engine_process.EngineProcess` does."""

    def __init__(self, program: Path, model: str) -> None:
        """Runs two tokens.

        Raises:
            EngineError: the program failed.
        """
        self._command = [str(program), "-m", model, "-r", "1", "-o", "json"]
        self._peak_bytes = 0
        found = self._measure("-p", "2", "-n", "0", "-t", "1")
        build = f"{found.get('build_commit', '?')} ({found.get('build_number', '?')})"
        self.ready = {
            "version": f"llama-bench {build}",
            "system": str(found.get("cpu_info", "")),
            "variants": list(VARIANTS),
        }

    def ask(self, **order: Any) -> dict[str, Any]:
        """Obeys an order of engine_worker.py; "load" is a part of every run.

        Raises:
            EngineError: the program failed.
        """
        if order["do"] == "load":
            return {"seconds": 0.0}
        tokens, at_once = order["tokens"], order["at_once"]
        sizes = ["-p", "0", "-n", str(tokens)] if at_once == 1 else ["-p", str(tokens), "-n", "0"]
        threads = str(order.get("threads", 1))
        variant = VARIANTS[order.get("variant") or next(iter(VARIANTS))]
        found = self._measure(*sizes, "-t", threads, "-fa", variant)
        return {"seconds": float(tokens) / float(found["avg_ts"])}

    def growth_bytes(self) -> int:
        """The peak of its memory so far: a process has nothing before it loads."""
        return self._peak_bytes

    def close(self) -> None:
        """Nothing runs between the turns."""

    def __enter__(self) -> LlamaBenchProcess:
        """Gives itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def _measure(self, *options: str) -> dict[str, Any]:
        output, peak_bytes = _finished([*self._command, *options])
        self._peak_bytes = max(self._peak_bytes, peak_bytes)
        try:
            found: dict[str, Any] = json.loads(output)[0]
        except (ValueError, LookupError) as error:
            message = f"no result in what it printed: {output[:80]!r}"
            raise EngineError(message) from error
        return found


def _finished(command: list[str]) -> tuple[str, int]:
    """What a program printed, and the peak of its memory in bytes."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdout=output, stderr=errors)
        except OSError as error:
            raise EngineError(str(error)) from error
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode != 0:
            lines = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            message = f"{Path(command[0]).name} ended with code {process.returncode}: {lines[-1]}"
            raise EngineError(message)
        output.seek(0)
        return output.read().decode(errors="replace"), usage.ru_maxrss * 1024
