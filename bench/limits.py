"""The limits of this CPU, measured in the same rounds as what is held against them.

Owns: building limits.cpp, which loops a CPU has, what one round of a loop computes. Does not own:
the loops.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from bitnet_py import _core

__all__ = ["LOOPS", "Limits", "LimitsError", "Loop"]

SOURCE: Final = Path(__file__).with_name("limits.cpp")
FLAGS: Final = ("-std=c++17", "-O2", "-fPIC", "-shared", "-pthread")
SUMS: Final = 12  # of a round
READ_AHEAD: Final = (0, 2048)  # bytes
LOOP_ROUNDS: Final = 1_000_000  # 4 to 12 ms


class LimitsError(RuntimeError):
    """The reason why limits can not be measured here."""


class Loop(NamedTuple):
    """A register loop.

    Attributes:
        index: its place in limits.cpp.
        feature: of `_core.cpu_features()`, that it needs.
        per_instruction: multiplications with addition that one does.
        unit: of what it computes.
    """

    index: int
    feature: str
    per_instruction: int
    unit: str


LOOPS: Final[Mapping[str, Loop]] = {
    "maddubs+paddw": Loop(0, "avx2", 32, "GMAC/s"),
    "fma 256": Loop(1, "avx2", 8, "GFMA/s"),
    "fma 512": Loop(2, "avx512_vnni", 16, "GFMA/s"),
    "vpdpbusd 256 (VEX)": Loop(3, "avx_vnni", 32, "GMAC/s"),
    "vpdpbusd 256": Loop(4, "avx512_vnni", 32, "GMAC/s"),
    "vpdpbusd 512": Loop(5, "avx512_vnni", 64, "GMAC/s"),
}


class Limits:
    """The loops, compiled for this machine."""

    def __init__(self, folder: Path) -> None:
        """Compiles them.

        Args:
            folder: where the library is put.

        Raises:
            LimitsError: no compiler, or a CPU without these instructions.
        """
        if "avx2" not in _core.cpu_features():
            message = "the loops are AVX2's, which this CPU lacks"
            raise LimitsError(message)
        compiler = os.environ.get("CXX") or "c++"
        if shutil.which(compiler) is None:
            message = f"no compiler {compiler!r} to build {SOURCE.name}"
            raise LimitsError(message)
        library = folder / "limits.so"
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"{compiler} can not build {SOURCE.name}: {done.stderr.strip()[:200]}"
            raise LimitsError(message)
        loaded = ctypes.CDLL(str(library))
        self._loop = loaded.limit_loop_seconds
        self._loop.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64]
        self._read = loaded.limit_read_seconds
        self._read.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int]
        self._loop.restype = self._read.restype = ctypes.c_double
        features = _core.cpu_features()
        self.loops = {name: loop for name, loop in LOOPS.items() if loop.feature in features}

    def giga_per_s(self, name: str, threads: int) -> float:
        """10^9 multiplications with addition per second of a loop of `loops`."""
        loop = self.loops[name]
        seconds = self._loop(loop.index, threads, LOOP_ROUNDS)
        return threads * LOOP_ROUNDS * SUMS * loop.per_instruction / seconds / 1e9

    def read_gb_per_s(self, data: NDArray[Any], threads: int) -> float:
        """10^9 bytes per second of reading an array once; without or with prefetch, the faster."""
        where, size = data.ctypes.data, data.nbytes
        return max(size / float(self._read(where, size, threads, a)) / 1e9 for a in READ_AHEAD)
