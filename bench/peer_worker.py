"""Another engine in a process of its own, asked line by line for one measurement at a time.

Owns: starting a worker, the two ends of its pipe. Does not own: what a worker does; the protocol
stands at the head of peer_llama_cpp.py.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from bench.fresh_process import run_fresh

__all__ = ["WORKERS", "PeerError", "PeerWorker", "worker_command"]

MAKE_MODEL: Final = """\
import pathlib, sys
from bench.peer_models import model_path
print(model_path(sys.argv[1], *map(pathlib.Path, sys.argv[2:])))
"""
WORKERS: Final[Mapping[str, str]] = {"llama-cpp-python": "peer_llama_cpp.py"}


class PeerError(RuntimeError):
    """A peer that can not be started, or that refused or broke off."""


class PeerWorker:
    """One peer with one model loaded. Use it as a context; leaving it ends the process.

    Attributes:
        ready: what the worker said of itself: engine, version, system.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Starts a worker and waits until its model is loaded.

        Raises:
            PeerError: it did not come that far.
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
            )
        except OSError as error:
            self._errors.close()
            raise PeerError(str(error)) from error
        try:
            self.ready = self._read()
        except PeerError:
            self.close()
            raise

    def ask(self, **command: Any) -> dict[str, Any]:
        """Sends one command and waits for its answer, a row.

        Raises:
            PeerError: the worker refused it, or ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except OSError as error:  # it ended before; _read says why
            raise PeerError(self._last_words()) from error
        answer = self._read()
        if "error" in answer:
            raise PeerError(str(answer["error"]))
        return answer

    def close(self) -> None:
        """Ends the worker and waits for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # its signal to end
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> PeerWorker:
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
            raise PeerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        """How the process ended, with the last line it wrote to stderr."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["no message"]
        return f"the worker ended with code {code}: {lines[-1]}"


def worker_command(
    peer: str, python: str, shape: str, threads: int, cache: Path | None
) -> list[str]:
    """The command that starts a peer's worker with a random model of a shape; makes the model.

    Args:
        peer: a name of `WORKERS`.
        python: the Python that has the peer installed.
        shape: a name of shapes.py.
        threads: the worker's threads before a command says otherwise.
        cache: where models are kept; None takes the usual place.

    Raises:
        PeerError: the model could not be made.
    """
    folder = [] if cache is None else [str(cache.resolve())]
    try:
        model = run_fresh([python, "-c", MAKE_MODEL, shape, *folder]).output.strip()
    except (RuntimeError, OSError) as error:
        raise PeerError(str(error).splitlines()[-1]) from error
    script = Path(__file__).with_name(WORKERS[peer])
    options = ["--model", model, "--shape", shape, "--threads", str(threads)]
    return [python, str(script), *options]
