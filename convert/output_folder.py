"""An output folder that appears complete or not at all.

Everything is written to a sibling `OUT.partial-<pid>`, which takes the name OUT when it is complete
and on disk. A run that is interrupted, even by SIGKILL, leaves OUT as it was; the next run removes
what it left: a partial folder is locked while its run lives, so an unlocked one is stale.

Owns: the refusals that keep a user's folders safe, the renames, the cleaning up.
"""

import errno
import os
import shutil
import sys
from pathlib import Path
from types import TracebackType

from bitnet_py.errors import FormatError
from bitnet_py.json_file import read_json_object
from bitnet_py.model_files import CHAT_TEMPLATES
from bitnet_py.safetensors_file import INDEX_NAME, SINGLE_NAME

if sys.platform != "win32":
    import fcntl

__all__ = ["OutputFolder", "check_apart", "check_output"]


def check_output(out: Path, *, force: bool) -> None:
    """Checks that `out` may be made: it is absent or empty, or a model's folder and `force` is set.

    Raises:
        FileExistsError: it may not be replaced; says why.
    """
    if not out.exists():
        return
    if out.is_mount():
        message = f"{out} is where a disk is mounted and cannot be replaced; name a folder in it"
        raise FileExistsError(message)
    if out.is_dir() and not any(out.iterdir()):
        return
    if not force:
        message = f"{out} exists; name another folder, or replace it with --force (force=True)"
        raise FileExistsError(message)
    if (reason := _why_no_model(out)) is not None:
        message = f"{out} is not replaced, because it is no model's folder: {reason}"
        raise FileExistsError(message)


def _why_no_model(folder: Path) -> str | None:
    """What speaks against a folder being a model's and nothing else; None when nothing does."""
    if not folder.is_dir():
        return "it is a file"
    for path in sorted(folder.iterdir()):
        is_templates = path.name == CHAT_TEMPLATES and not path.is_symlink()
        if path.is_dir() and not (is_templates and _holds_templates(path)):
            return f"it has a folder {path.name}"
    try:
        config = read_json_object(folder / "config.json")
    except (FormatError, OSError):
        return "it has no config.json of a model"
    if not isinstance(config.get("model_type"), str):
        return "its config.json has no model_type"
    if not any((folder / name).is_file() for name in (SINGLE_NAME, INDEX_NAME)):
        return f"it has neither {SINGLE_NAME} nor {INDEX_NAME}"
    return None


def _holds_templates(folder: Path) -> bool:
    return all(path.suffix == ".jinja" and path.is_file() for path in folder.iterdir())


def check_apart(out: Path, source: Path) -> None:
    """Raises ValueError when one of the two folders is, or lies in, the other."""
    source = source.resolve()
    if out == source or out in source.parents or source in out.parents:
        message = f"[convert] expected an output apart from the source {source}, got {out}"
        raise ValueError(message)


class OutputFolder:
    """The partial folder of one run. Use it as a context; leaving it without `commit` removes it.

    Attributes:
        path: where to write, until `commit`.
    """

    def __init__(self, out: Path, *, force: bool = False, purpose: str = "partial") -> None:
        """Names the folder; nothing is written yet.

        Args:
            out: an absolute path.
            force: `commit` may replace an existing `out`.
            purpose: part of the name; runs that are never committed say what they are for.
        """
        self._out = out
        self._force = force
        self._purpose = purpose
        self.path = out.with_name(f"{out.name}.{purpose}-{os.getpid()}")
        self._lock: int | None = None

    def __enter__(self) -> "OutputFolder":
        """Removes what dead runs left, then creates and locks the partial folder."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._restore_replaced()
        for stale in self._siblings(self._purpose):
            _remove_unlocked(stale)
        self.path.mkdir()
        self._lock = _lock(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Removes the partial folder, if it is still there."""
        if self.path.exists():
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def require_space(self, n_bytes: int) -> None:
        """Raises OSError when the disk has not as much room, before anything is written."""
        free_bytes = shutil.disk_usage(self.path).free
        if free_bytes < n_bytes:
            message = (
                f"{self._out.parent}: {n_bytes / 1e9:.2f} GB are needed, but only "
                f"{free_bytes / 1e9:.2f} GB are free there"
            )
            raise OSError(errno.ENOSPC, message)

    def commit(self) -> None:
        """Flushes everything to disk and puts the folder in its place.

        Raises:
            FileExistsError: `out` is by now what may not be replaced.
            OSError: something could not be written.
        """
        for file in self.path.rglob("*"):
            _flush(file)
        _flush(self.path)
        replaced = self._out.with_name(f"{self._out.name}.replaced-{os.getpid()}")
        if self._out.exists():
            try:
                check_output(self._out, force=self._force)
            except FileExistsError as error:
                message = f"{self._out} changed while the output was being made: {error}"
                raise FileExistsError(message) from None
            self._out.rename(replaced)
        try:
            self.path.rename(self._out)
        except BaseException:
            if replaced.exists():
                replaced.rename(self._out)
            raise
        _flush(self._out.parent)
        if replaced.exists():
            shutil.rmtree(replaced)

    def _restore_replaced(self) -> None:
        """Mends a run that died between the two renames of `commit`, or just after them."""
        for replaced in self._siblings("replaced"):
            if any(replaced.iterdir()) and _why_no_model(replaced) is not None:
                continue  # not ours: `commit` renames only what is empty or a model
            if self._out.exists():
                shutil.rmtree(replaced)
            else:
                replaced.rename(self._out)

    def _siblings(self, purpose: str) -> list[Path]:
        prefix = f"{self._out.name}.{purpose}-"
        return sorted(
            path
            for path in self._out.parent.iterdir()
            if path.name.startswith(prefix)
            and path.name[len(prefix) :].isdecimal()
            and path.is_dir()
        )


def _lock(folder: Path) -> int | None:
    """Locks a folder until the process ends; None where another process holds it."""
    if sys.platform == "win32":  # no such locks: stale folders stay until the user removes them
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_unlocked(folder: Path) -> None:
    handle = _lock(folder)
    if handle is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _flush(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
