"""Text from files that may be anything."""

from pathlib import Path

from bitnet_py.errors import FormatError

__all__ = ["read_text"]


def read_text(path: Path) -> str:
    """Reads a UTF-8 text.

    Raises:
        OSError: no such file, or one that cannot be read.
        FormatError: not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{path}: not UTF-8: {error.reason} at byte {error.start}"
        raise FormatError(message) from None
