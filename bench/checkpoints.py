"""The real checkpoints and texts that benchmarks use, where the environment says they are.

Owns: the variable's name, where things lie in that folder. Benchmarks skip what needs it when it is
not set.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["VARIABLE", "MissingData", "checkpoint_folder", "text_file", "tokenizer_folder"]

VARIABLE: Final = "BITNET_TEST_DATA"


class MissingData(RuntimeError):
    """The reason why something real can not be used."""


def checkpoint_folder(name: str) -> Path:
    """The folder of a checkpoint, e.g. "bitllama1M". Raises MissingData."""
    return _existing(f"models/{name}")


def tokenizer_folder(name: str) -> Path:
    """The folder of a tokenizer without a model, e.g. "llama2-32000". Raises MissingData."""
    return _existing(f"tokenizers/{name}")


def text_file(name: str) -> Path:
    """A text, e.g. "tinystories_valid.txt". Raises MissingData."""
    return _existing(f"text/{name}")


def _existing(relative: str) -> Path:
    root = os.environ.get(VARIABLE)
    if not root:
        message = f"{VARIABLE} is not set"
        raise MissingData(message)
    path = Path(root) / relative
    if not path.exists():
        message = f"{VARIABLE} has no {relative}"
        raise MissingData(message)
    return path
