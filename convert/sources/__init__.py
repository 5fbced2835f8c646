"""Where checkpoints come from. One file per kind of source; each has `open_source(folder)`."""

from pathlib import Path

from .huggingface import HuggingFaceSource
from .source import Source

__all__ = ["Source", "open_source"]


def open_source(folder: Path) -> Source:
    """Opens a checkpoint; reads its config and the headers of its files, no tensor.

    Raises:
        FileNotFoundError: the folder, or a file that it must have, is not there.
        FormatError: the checkpoint is of no known kind, or breaks a rule of its kind.
    """
    return HuggingFaceSource(folder)
