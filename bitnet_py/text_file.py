"""Text from files that may be anything."""

from pathlib import Path

from bitnet_py.errors import FormatError

__all__ = ["read_text"]


def read_text(path: Path, max_bytes: int | None = None) -> str:
    """Reads a UTF-8 text.

    Args:
        path: the file.
        max_bytes: a larger file is refused unread.

    Raises:
        OSError: no such file, or one that cannot be read.
        FormatError: too large, or not UTF-8.
    """
    if max_bytes is not None and (size_bytes := path.stat().st_size) > max_bytes:
        message = f"{path}: {size_bytes} bytes, more than {max_bytes}"
        raise FormatError(message)
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{path}: not UTF-8: {error.reason} at byte {error.start}"
        raise FormatError(message) from None
