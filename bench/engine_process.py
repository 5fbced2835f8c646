"""An engine in a process of its own, asked line by line for one measurement at a time.

Owns: starting a worker, our end of its pipe, holding it still while others are measured. Does not
own: what a worker does; the protocol stands at the head of engine_worker.py.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from bench.report import ROOT
from bitnet_py.peak_memory import PeakMemory

__all__ = ["EngineError", "EngineProcess"]


class EngineError(RuntimeError):
    """An engine that can not be started, or that refused or broke off."""


class EngineProcess:
    """One engine with one model. Use it as a context; leaving it ends the process.

    Attributes:
        ready: what the worker said of itself: version, system, variants.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Starts a worker and waits until it has imported its engine.

        Raises:
            EngineError: it did not come that far.
        """
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 closed by close()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                bufsize=1,
                cwd=ROOT,
            )
        except OSError as error:
            self._errors.close()
            raise EngineError(str(error)) from error
        try:
            self.ready = self._read()
        except EngineError:
            self.close()
            raise
        self._memory: PeakMemory | None = None
        with contextlib.suppress(OSError):
            self._memory = PeakMemory(self._process.pid)

    def ask(self, **order: Any) -> dict[str, Any]:
        """Sends one order and waits for its answer; the worker moves from here to there only.

        Raises:
            EngineError: the worker refused it, or ended.
        """
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError as error:  # it ended before; _read says why
            raise EngineError(self._last_words()) from error
        answer = self._read()
        self._process.send_signal(signal.SIGSTOP)  # its threads may spin on: not in others' turns
        if "error" in answer:
            raise EngineError(str(answer["error"]))
        return answer

    def growth_bytes(self) -> int:
        """How far the peak of its memory went above what its imports took.

        Raises:
            EngineError: this system does not tell.
        """
        if self._memory is None:
            message = "this system does not tell a process's peak memory"
            raise EngineError(message)
        return self._memory.growth_bytes()

    def close(self) -> None:
        """Ends the worker and waits for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # its signal to end
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> EngineProcess:
        """Gives the worker itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the worker."""
        self.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        """How the process ended, with the last line it wrote to stderr."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["no message"]
        return f"the worker ended with code {code}: {lines[-1]}"
