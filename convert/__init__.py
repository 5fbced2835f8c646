"""Conversion of checkpoints into folders that `bitnet_py.load` opens.

SRC --sources/--> weights --architectures/--> plan --methods/--> formats/ --exporters/--> OUT
"""

from bitnet_py.progress import Progress

from .pipeline import convert
from .report import ConversionReport, StoredMatrix, Verification

__all__ = ["ConversionReport", "Progress", "StoredMatrix", "Verification", "convert"]
