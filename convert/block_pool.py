"""Work on blocks of rows: a few threads, results in order, few blocks in memory at once.

Owns: cutting rows into blocks, the threads. numpy and the compiled packing release the GIL, so
threads do pay.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, TypeVar

__all__ = ["BlockPool", "row_blocks"]

BLOCK_BYTES: Final = 1 << 20  # of float32; a block and its temporaries stay near the caches
MAX_THREADS: Final = 4  # more do not help: reading and writing are one stream

Result = TypeVar("Result")


def row_blocks(n_rows: int, n_cols: int, multiple: int) -> Iterator[tuple[int, int]]:
    """Cuts [0, n_rows) into blocks [begin, end) of about 1 MiB of float32.

    Every begin is a multiple of `multiple`; the last block may be short.
    """
    rows = max(BLOCK_BYTES // (4 * max(n_cols, 1)) // multiple, 1) * multiple
    for begin in range(0, n_rows, rows):
        yield begin, min(begin + rows, n_rows)


class BlockPool:
    """A few threads. Use it as a context: on leaving, work that has not begun is dropped."""

    def __init__(self, threads: int | None = None) -> None:
        """None: as many threads as the process has CPUs, at most four."""
        self._n_ahead = 2 * (threads or min(_available_cpus(), MAX_THREADS))
        self._executor = ThreadPoolExecutor(max_workers=self._n_ahead // 2)

    def map(
        self, function: Callable[[int, int], Result], blocks: Iterable[tuple[int, int]]
    ) -> Iterator[Result]:
        """Yields function(begin, end) of every block, in order; at most a few are in flight."""
        pending: deque[Future[Result]] = deque()
        for begin, end in blocks:
            pending.append(self._executor.submit(function, begin, end))
            if len(pending) >= self._n_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def __enter__(self) -> "BlockPool":
        """Gives the pool itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Waits for running blocks, drops the others."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
