"""How far long work is: a bar on a terminal, a line now and then elsewhere.

Owns: the drawing. Whoever works says how many steps are done.
"""

import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final

__all__ = ["Progress", "SilentProgress", "progress_for"]

LINE_SECONDS: Final = 5.0


class Progress(ABC):
    """Shows tasks, one after the other. Use it as a context."""

    @abstractmethod
    def begin(self, task: str, total: int) -> None:
        """Starts a task of `total` steps."""

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Some more steps are done."""

    def close(self) -> None:  # noqa: B027 - lines have nothing to end
        """Ends the drawing."""

    def __enter__(self) -> "Progress":
        """Gives the progress itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the drawing."""
        self.close()


class SilentProgress(Progress):
    """Shows nothing: what the Python API does unless it is given another."""

    def begin(self, task: str, total: int) -> None:
        """Nothing."""

    def advance(self, steps: int) -> None:
        """Nothing."""


class _LineProgress(Progress):
    """A line per task, and one every few seconds."""

    def begin(self, task: str, total: int) -> None:
        self._task, self._total, self._done = task, total, 0
        self._last = time.monotonic()
        _print(task)

    def advance(self, steps: int) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            percent = 100 * self._done // max(self._total, 1)
            _print(f"{self._task}: {percent} %")


class _BarProgress(Progress):
    """rich's bar."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._bar.start()

    def begin(self, task: str, total: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(task, total=total)

    def advance(self, steps: int) -> None:
        assert self._task is not None
        self._bar.advance(self._task, steps)

    def close(self) -> None:
        self._bar.stop()


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def progress_for(*, is_terminal: bool) -> Progress:
    """A bar for a terminal, lines elsewhere; both go to stderr."""
    return _BarProgress() if is_terminal else _LineProgress()
