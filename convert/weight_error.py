"""How much a quantization changes weights: a rough number that needs no text.

Owns: ||W - s*t|| / ||W|| over evenly spaced rows.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np

from .absmean_weight import AbsmeanWeight

__all__ = ["relative_weight_error"]

SAMPLED_ROWS: Final = 256  # of each weight: enough for two digits
BLOCK_ROWS: Final = 32


def relative_weight_error(weights: Iterable[AbsmeanWeight]) -> float:
    """Root of the summed squared differences over that of the weights themselves.

    Args:
        weights: prepared ones, so after their conversion.

    Returns:
        0 for no change; 0.5 is usual for absmean of a float model; 0 when all weights are zero.
    """
    squared_error = squared_norm = 0.0
    for weight in weights:
        n_rows = weight.shape[0]
        n_blocks = min(SAMPLED_ROWS // BLOCK_ROWS, -(-n_rows // BLOCK_ROWS))
        for begin in np.linspace(0, max(n_rows - BLOCK_ROWS, 0), n_blocks).astype(int).tolist():
            end = min(begin + BLOCK_ROWS, n_rows)
            original = weight.original.read(begin, end).astype(np.float64)
            difference = original - weight.read(begin, end)
            squared_error += float(np.sum(difference * difference))
            squared_norm += float(np.sum(original * original))
    return float(np.sqrt(squared_error / squared_norm)) if squared_norm else 0.0
