"""The peak of a process's resident memory, as Linux counts it.

Owns: the kernel's files. Mapped weights count in full: every page that was read is resident.
Imports nothing but the standard library.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["PeakMemory"]

MISSING = "[peak_memory] expected a /proc as Linux has it"


class PeakMemory:
    """How far a process's memory has grown since this object was made.

    Attributes:
        before_bytes: what was resident then.
    """

    def __init__(self, pid: int | str = "self") -> None:
        """Forgets the peak that the process had so far.

        Args:
            pid: of the process, which must belong to the same user.

        Raises:
            OSError: there is no such process, or this system does not tell.
        """
        self._folder = Path("/proc") / str(pid)
        if not (self._folder / "status").is_file():
            raise OSError(MISSING)
        (self._folder / "clear_refs").write_text("5")
        self.before_bytes = self._status_bytes("VmRSS")

    def growth_bytes(self) -> int:
        """The peak since then, less what was resident then.

        Raises:
            OSError: the process has ended.
        """
        return self._status_bytes("VmHWM") - self.before_bytes

    def _status_bytes(self, field: str) -> int:
        """A field of the process's status, which the kernel gives in kB."""
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise OSError(MISSING)
