"""Conversion of checkpoints into folders that `bitnet_py.load` opens.

SRC --sources/--> weights --architectures/--> plan --methods/--> formats/ --exporters/--> OUT
"""

from .pipeline import convert
from .progress import Progress
from .report import ConversionReport, StoredMatrix, Verification

__all__ = ["ConversionReport", "Progress", "StoredMatrix", "Verification", "convert"]
