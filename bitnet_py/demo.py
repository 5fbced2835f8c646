"""The checkpoint that comes with the package, for a first try and for tests.

Owns: where it is. How it was trained: its own README and examples/train_demo.py.
"""

from pathlib import Path
from typing import Final

__all__ = ["DEMO_CHECKPOINT"]

DEMO_CHECKPOINT: Final = Path(__file__).resolve().parent / "demo_checkpoint"
"""A Hugging Face folder of a small BitNet b1.58, with held-out text in valid.txt."""
