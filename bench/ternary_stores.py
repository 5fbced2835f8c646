"""What trits5 costs and gains against ternary2: products, and expansion at load, per kernel table.

    python -m bench.ternary_stores [--threads 1 --threads 2] [--shape 2B4T] [--json OUT]

Products of one layer of the 2B4T shape. Phases: `GEMV DRAM` walks copies that no cache holds,
`GEMV L3` repeats one, `GEMM T` multiplies T tokens. Values are of ternary2's bytes (2 bits per
weight) per second, so equal values are equal times. `expand` is of trits5's bytes, from memory into
memory. With --shape also folders of random weights: seconds and peak memory of `load` in a fresh
process, the file being in the page cache, and single tokens per second.

Owns: these measurements. Does not own: whole models (peers.py), the table's choice (csrc/kernels).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

import bitnet_py
from bench.fresh_process import call_fresh
from bench.harness import Contender, Samples, interleave, median_ratio, seconds_of
from bench.random_folder import write_random_folder
from bench.report import Report, Row, add_report_arguments
from bench.shapes import SHAPES, decoder_config
from bitnet_py import _core
from bitnet_py.peak_memory import PeakMemory

N, K = 6912, 2560
DRAM_COPIES = 48  # 212 MB as ternary2
GEMM_TOKENS = (16, 128)
DECODED = 32  # tokens; the first half warms up
MODEL_ROUNDS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 0 unless a claim failed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isa", action="append", help="a kernel table; all of this CPU by default")
    parser.add_argument("--threads", action="append", type=int)
    parser.add_argument("--rounds", type=int, default=15)
    add_report_arguments(parser)
    parser.add_argument("--shape", choices=list(SHAPES), help="of whole models; none by default")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where folders are made")
    options = parser.parse_args(arguments)
    report = Report("ternary_stores", options.json, arguments)
    stores = _Stores(np.random.default_rng(0))
    isas = options.isa or [name for name in _core.available_isas() if name != "generic"]
    for isa in isas:
        for threads in options.threads or [1, 2]:
            kernels = _core.Kernels(isa, threads)
            for phase, tokens, copies in _phases():
                _compare(report, stores, kernels, threads, phase, tokens, copies, options.rounds)
            _measure_expansion(report, stores, kernels, threads, options.rounds)
    if options.shape:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            folders = {store: Path(scratch) / store for store in stores.copies}
            del stores
            for store, folder in folders.items():
                folder.mkdir()
                write_random_folder(folder, decoder_config(options.shape), linear=store)
            for isa in isas:
                _compare_models(report, folders, isa, max(options.threads or [2]), options.shape)
    return report.exit_code()


class _Stores:
    """Copies of one weight in both formats."""

    def __init__(self, rng: np.random.Generator) -> None:
        t = rng.integers(-1, 2, (N, K)).astype(np.int8)
        self.scale = np.ones(1, np.float32)
        self.x = rng.standard_normal((max(GEMM_TOKENS), K)).astype(np.float32)
        self.copies = {
            "ternary2": np.repeat(_core.pack_ternary2(t)[None], DRAM_COPIES, 0),
            "trits5": np.repeat(_core.pack_trits5(t)[None], DRAM_COPIES, 0),
        }


def _phases() -> list[tuple[str, int, int]]:
    """(phase, tokens, copies to walk over)."""
    gemm = [(f"GEMM {tokens}", tokens, 1) for tokens in GEMM_TOKENS]
    return [("GEMV DRAM", 1, DRAM_COPIES), ("GEMV L3", 1, 1), *gemm]


def _product(
    stores: _Stores, kernels: _core.Kernels, store: str, tokens: int, copies: int
) -> Callable[[], object]:
    arrays, x = list(stores.copies[store][:copies]), stores.x[:tokens]
    repeats = max(1, 4 // copies)

    def multiply() -> None:
        for _ in range(repeats):
            for array in arrays:
                kernels.linear(store, array, stores.scale, "tensor", N, K, x)

    return multiply


def _compare(
    report: Report,
    stores: _Stores,
    kernels: _core.Kernels,
    threads: int,
    phase: str,
    tokens: int,
    copies: int,
    rounds: int,
) -> None:
    multiplied = [store for store in stores.copies if store in kernels.products]
    samples = interleave(
        [
            Contender(store, seconds_of(_product(stores, kernels, store, tokens, copies)))
            for store in multiplied
        ],
        rounds=rounds,
    )
    amount = N * K / 4 * copies * max(1, 4 // copies) / 1e9
    reference = samples["ternary2"].rates(amount)
    for store in multiplied:
        rates = samples[store].rates(amount)
        is_reference = store == "ternary2"
        report.add(
            Row(
                name=f"{kernels.isa} {phase} {threads} threads {store}",
                engine=f"bitnet_py {kernels.isa}",
                format=store,
                shape=f"{N}x{K}",
                threads=threads,
                device="cpu",
                phase=phase,
                value=rates.median,
                unit="GB/s",
                reference=None if is_reference else "ternary2",
                ratio=None if is_reference else median_ratio(rates, reference),
                n=rates.n,
                spread=rates.spread,
            )
        )


def _measure_expansion(
    report: Report, stores: _Stores, kernels: _core.Kernels, threads: int, rounds: int
) -> None:
    arrays = list(stores.copies["trits5"])

    def expand() -> None:
        for array in arrays:
            kernels.expand_trits5(array, N, K)

    samples = interleave([Contender("expand", seconds_of(expand))], rounds=max(rounds // 3, 3))
    rates = samples["expand"].rates(stores.copies["trits5"].nbytes / 1e9)
    report.check(
        Row(
            name=f"{kernels.isa} expand {threads} threads",
            engine=f"bitnet_py {kernels.isa}",
            format="trits5",
            shape=f"{N}x{K}",
            threads=threads,
            device="cpu",
            phase="expand",
            value=rates.median,
            unit="GB/s",
            n=rates.n,
            spread=rates.spread,
        ),
        rates.median > 2 * threads or kernels.isa == "generic",
        "more than 2 GB/s per thread",
    )


def measure_model(folder: str, isa: str, threads: int) -> dict[str, float]:
    """Loads a folder and generates; for a fresh process."""
    bitnet_py.load  # noqa: B018 the imports behind it are not what is measured
    memory = PeakMemory()
    begin = time.perf_counter()
    model = bitnet_py.load(folder, isa=isa, threads=threads)
    loaded = time.perf_counter()
    grown = memory.growth_bytes()
    session = model.session(2 * DECODED)
    for token in range(DECODED):
        if token == DECODED // 2:
            decoding = time.perf_counter()
        session.forward([token])
    rate = (DECODED - DECODED // 2) / (time.perf_counter() - decoding)
    return {"load": loaded - begin, "peak memory of load": grown / 1e6, "decode": rate}


def _compare_models(
    report: Report, folders: Mapping[str, Path], isa: str, threads: int, shape: str
) -> None:
    taken: dict[str, list[dict[str, float]]] = {store: [] for store in folders}
    for turn in range(-1, MODEL_ROUNDS):
        for store, folder in folders.items():
            values = call_fresh(measure_model, str(folder), isa, threads)
            if turn >= 0:
                taken[store].append(values)
    for phase, unit in (("load", "s"), ("peak memory of load", "MB"), ("decode", "tokens/s")):
        samples = {s: Samples(tuple(v[phase] for v in taken[s])) for s in folders}
        for store in folders:
            is_reference = store == "ternary2"
            report.add(
                Row(
                    name=f"{isa} {shape} {phase} {threads} threads {store}",
                    engine=f"bitnet_py {isa}",
                    format=store,
                    shape=shape,
                    threads=threads,
                    device="cpu",
                    phase=phase,
                    value=samples[store].median,
                    unit=unit,
                    reference=None if is_reference else "ternary2",
                    ratio=None
                    if is_reference
                    else median_ratio(samples[store], samples["ternary2"]),
                    n=samples[store].n,
                    spread=samples[store].spread,
                )
            )


if __name__ == "__main__":
    sys.exit(main())
