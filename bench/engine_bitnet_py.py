"""This engine, as a worker runs it."""

from __future__ import annotations

from pathlib import Path

from bench.engine_worker import CONTEXT_LENGTH
from bitnet_py import _core
from bitnet_py.model import load
from bitnet_py.speed import Workload, random_ids, run_seconds

__all__ = ["OwnEngine", "make"]


class OwnEngine:
    """A packed folder with one session; what `bench.engine_worker.Engine` says."""

    variants = ()

    def __init__(self, folder: Path) -> None:
        """Names a folder; nothing is read yet."""
        self.version = f"bitnet_py {_core.__version__}"
        self.system = f"{_core.__compiler__}, {_core.Kernels().isa}"
        self._folder = folder

    def load(self, threads: int) -> None:
        """Maps the folder and validates it."""
        self._loaded = load(self._folder, threads=threads)
        self._begin(self._loaded.core)

    def configure(self, threads: int, variant: str) -> None:
        """Another thread pool over the same weights."""
        del variant
        del self._session
        config, tensors = self._loaded.config, self._loaded.tensors
        self._begin(_core.Model(config, tensors, threads=threads, validate=False))

    def run(self, tokens: int, at_once: int) -> None:
        """One workload from an empty cache."""
        run_seconds(self._session, self._ids, Workload(tokens, at_once))

    def _begin(self, core: _core.Model) -> None:
        self._session = _core.Session(core, CONTEXT_LENGTH, self._loaded.kv_dtype)
        self._ids = random_ids(int(core.config["vocab_size"]), CONTEXT_LENGTH)


def make(model: str, shape: str, weight_format: str) -> OwnEngine:
    """The engine of a packed folder; shape and format stand in the folder."""
    del shape, weight_format
    return OwnEngine(Path(model))
