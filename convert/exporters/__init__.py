"""Output formats. One file each, found by its place here.

A file has `EXPORTER`, an Exporter. To add an output format, add its file; nothing else registers
it.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitnet_py.progress import Progress

from ..block_pool import BlockPool
from ..options import ConvertOptions
from ..plan import Plan
from ..sources import Source

__all__ = ["Exporter", "exporter_by_name", "exporter_names"]


class Exporter(ABC):
    """Writes a planned model into an empty folder.

    Attributes:
        name: what users type after --format.
    """

    name: str

    @abstractmethod
    def export(
        self,
        plan: Plan,
        source: Source,
        options: ConvertOptions,
        folder: Path,
        *,
        pool: BlockPool,
        progress: Progress,
        conversion: Mapping[str, Any],
    ) -> None:
        """Writes everything; the caller makes it durable.

        Args:
            plan: the tensors.
            source: for the config and tokenizer files.
            options: what the user asked for.
            folder: an empty folder.
            pool: threads for the encoding.
            progress: advanced by weights, `plan.n_parameters` in all.
            conversion: what to record about the conversion, for people.
        """


def _exporters() -> dict[str, Exporter]:
    found: dict[str, Exporter] = {}
    for module in pkgutil.iter_modules(__path__):
        exporter: Exporter = importlib.import_module(f"{__name__}.{module.name}").EXPORTER
        found[exporter.name] = exporter
    return dict(sorted(found.items()))


def exporter_names() -> list[str]:
    """What --format takes, sorted."""
    return list(_exporters())


def exporter_by_name(name: str) -> Exporter:
    """Raises ValueError, with the names that there are, for any other."""
    known = _exporters()
    if name not in known:
        message = f"[convert] expected format to be one of {', '.join(known)}, got {name!r}"
        raise ValueError(message)
    return known[name]
