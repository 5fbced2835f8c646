"""The engines that are compared: how each is called, in which formats, and how it is started.

Owns: their names, bits per weight, the model that each one gets. Does not own: how an engine works
(`engine_NAME.py`), nor what is measured (contest.py).
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from bench.engine_process import EngineError, EngineProcess
from bench.random_folder import write_random_folder
from bench.random_model import LINEARS, stored_bytes, undrawn_tensor
from bench.report import ROOT
from bench.shapes import decoder_config, head_parameters, ternary_parameters
from bitnet_py import _core

__all__ = ["DEFAULT_CACHE", "KINDS", "OURS", "Contestant", "Kind", "Where", "parse_contestants"]

DEFAULT_CACHE: Final = Path("~/.cache/bitnet_py/bench")  # of peers' models
OVERHEAD_BYTES: Final = 400_000_000  # the interpreter, activations, a KV cache


class Format(NamedTuple):
    """Bits per weight of the linears, and of embedding and output head."""

    linear_bits: float
    head_bits: float
    copies: int = 1  # of the linears in memory


def own_format(linear: str) -> Format:
    """What random models of ours take, scales with it."""
    bits = {}
    config = decoder_config("700M")
    for spec in _core.tensor_specs(config):
        if spec.role in ("linear", "head"):
            drawn = undrawn_tensor(spec, config, linear)  # memory that is not touched
            bits[spec.role] = 8 * stored_bytes({spec.name: drawn}) / math.prod(spec.shape)
    return Format(bits["linear"], bits["head"])


@dataclass(frozen=True)
class Kind:
    """An engine.

    Attributes:
        label: its name in rows.
        module: runs it, `engine_MODULE.py`.
        formats: what it runs, by the name in rows.
        reads_file: whether its weights come from a file, so that loading them means something.
    """

    label: str
    module: str
    formats: Mapping[str, Format]
    reads_file: bool = True


OURS: Final = "bitnet_py"
LLAMA_CPP: Final = "llama-cpp-python"
KINDS: Final[Mapping[str, Kind]] = {
    OURS: Kind("bitnet_py", "bitnet_py", {name: own_format(name) for name in LINEARS}),
    LLAMA_CPP: Kind(
        "llama.cpp",
        "llama_cpp",
        {
            "TQ2_0": Format(2.0625, 6.5625),
            "TQ1_0": Format(1.6875, 6.5625),
            "Q4_0": Format(4.5, 6.5625, copies=2),  # it repacks them at load
            "Q8_0": Format(8.5, 6.5625, copies=2),
            "F16": Format(16, 16),
        },
    ),
    "transformers": Kind(
        "transformers",
        "transformers",
        {"fp32": Format(32, 32), "bf16": Format(16, 16)},
        reads_file=False,
    ),
    "litespark": Kind(
        "litespark-inference", "litespark", {"2-bit": Format(2, 8)}, reads_file=False
    ),
}


@dataclass(frozen=True)
class Where:
    """Where things are on this machine.

    Attributes:
        pythons: by an engine's name, the Python that has it; "" is for all others.
        cache: peers' model files are kept here.
        scratch: our own folders are made here.
    """

    pythons: Mapping[str, str]
    cache: Path
    scratch: Path

    def python(self, engine: str) -> str:
        """The Python that runs an engine."""
        return self.pythons.get(engine, self.pythons[""])


@dataclass(frozen=True)
class Contestant:
    """An engine with a format.

    Attributes:
        engine: a name of `KINDS`.
        format: one of its formats.
    """

    engine: str
    format: str

    @property
    def kind(self) -> Kind:
        """What is known of the engine."""
        return KINDS[self.engine]

    @property
    def label(self) -> str:
        """Its name with the format, unique among contestants."""
        return f"{self.name} {self.format}"

    @property
    def name(self) -> str:
        """Its name in rows."""
        return self.kind.label

    @property
    def is_load_timed(self) -> bool:
        """Whether loading is more than drawing weights."""
        return self.kind.reads_file

    def needed_bytes(self, shape: str) -> float:
        """The memory that it takes with a model of a shape, about."""
        config, stored = decoder_config(shape), self.kind.formats[self.format]
        linear = ternary_parameters(config) * stored.linear_bits * stored.copies
        return (linear + head_parameters(config) * stored.head_bits) / 8 + OVERHEAD_BYTES

    def model(self, shape: str, where: Where) -> str:
        """Makes the model file, where there is none yet, and returns its path; "" for none.

        Raises:
            EngineError: it could not be made.
        """
        if self.engine == OURS:
            folder = where.scratch / f"{shape}-{self.format}"
            if not folder.exists():
                folder.mkdir()
                write_random_folder(folder, decoder_config(shape), linear=self.format)
            return str(folder)
        if not self.kind.reads_file:
            return ""
        return str(gguf_path(shape, self.format, where))

    def start(self, shape: str, where: Where) -> EngineProcess:
        """Starts a worker; nothing is loaded yet.

        Raises:
            EngineError: the engine is not installed, or its model could not be made.
        """
        command = [where.python(self.engine), "-m", "bench.engine_worker", self.kind.module]
        options = ["--model", self.model(shape, where), "--shape", shape, "--format", self.format]
        return EngineProcess([*command, *options])


def gguf_path(shape: str, weight_type: str, where: Where) -> Path:
    """A random GGUF of a shape; made by the Python that has llama.cpp, which has gguf too.

    Raises:
        EngineError: it could not be made.
    """
    command = [where.python(LLAMA_CPP), "-m", "bench.peer_models", shape, "--type", weight_type]
    command += ["--cache", str(where.cache)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EngineError(str(error)) from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(reason)
    return Path(done.stdout.strip())


def parse_contestants(names: Sequence[str]) -> list[Contestant]:
    """Reads names such as "llama-cpp-python" (all its formats) or "llama-cpp-python:TQ2_0".

    Raises:
        ValueError: a name or format that is none.
    """
    found: dict[Contestant, None] = {}
    for name in names:
        engine, _, weight_format = name.partition(":")
        if engine not in KINDS or engine == OURS:
            known = ", ".join(kind for kind in KINDS if kind != OURS)
            message = f"[peers] expected one of {known}, got {engine!r}"
            raise ValueError(message)
        formats = KINDS[engine].formats
        if weight_format and weight_format not in formats:
            message = f"[peers] expected {engine} with one of {', '.join(formats)}, got {name!r}"
            raise ValueError(message)
        for each in [weight_format] if weight_format else formats:
            found[Contestant(engine, each)] = None
    return list(found)
