"""What length costs: decoding behind long contexts, long prompts, and what a second thread gives.

`decode dN` is the time of a token behind N tokens (the cache is filled as `bitnet bench` fills it).
`attention dN` is the part of it that an empty context does not have: its time less the time at d0,
within a round. `pp512 / pp128` and `2T / 1T` are ratios of tokens per second within a round.

Usage: python -m bench.length [--shape 700M] [--context 128,1024,4096,16384] [--json OUT]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from bench.harness import Contender, interleave, median_ratio
from bench.random_folder import write_random_folder
from bench.report import Report, Row, add_report_arguments
from bench.shapes import SHAPES, decoder_config
from bitnet_py import _core
from bitnet_py.checkpoint import read_checkpoint
from bitnet_py.speed import Samples, Workload, fill_cache, random_ids, run_seconds

PROMPTS: Final = (128, 512)
CONTEXTS: Final = (128, 1024, 4096, 16384)
KV_DTYPES: Final = tuple(kind for kind in ("f16", "int8") if kind in _core.KV_DTYPES)

Tensors = Mapping[str, _core.PackedTensor]


def measure_decode(
    report: Report,
    row: Row,
    model: _core.Model,
    contexts: Sequence[int],
    *,
    kv_dtype: str,
    tokens: int,
    rounds: int,
) -> None:
    """Decodes behind each context in turn; rows of time and of what attention is.

    Args:
        report: where rows go.
        row: shape and threads of the rows.
        model: that decodes.
        contexts: lengths; 0 is measured beside them.
        kv_dtype: how keys and values are stored.
        tokens: decoded in a turn.
        rounds: turns of each.
    """
    ids = random_ids(int(model.config["vocab_size"]), max(tokens, 256))
    contenders = []
    for context in (0, *contexts):
        session = _core.Session(model, context + tokens, kv_dtype)
        fill_cache(session, ids, context)
        test = Workload(tokens, 1, context)
        contenders.append(Contender(str(context), partial(run_seconds, session, ids, test)))
    seconds = interleave(contenders, rounds=rounds)
    for context in (0, *contexts):
        taken = seconds[str(context)]
        milliseconds = Samples(tuple(1e3 * value / tokens for value in taken.values))
        settings = f"{row.shape} {row.threads}T {kv_dtype} KV"
        report.add(
            _filled(row, f"{settings} decode d{context}", f"decode d{context}", milliseconds, "ms")
        )
        if context:
            pairs = zip(taken.values, seconds["0"].values, strict=True)
            part = Samples(tuple(100 * (deep - empty) / deep for deep, empty in pairs))
            phase = f"attention d{context}"
            report.add(_filled(row, f"{settings} {phase}", phase, part, "%"))


def measure_prompts(
    report: Report, row: Row, models: Mapping[int, _core.Model], rounds: int
) -> None:
    """Prompts of both lengths with each number of threads, and the ratios between them."""
    samples: dict[tuple[int, int], Samples] = {}
    contenders = []
    for threads, model in models.items():
        session = _core.Session(model, max(PROMPTS))
        ids = random_ids(int(model.config["vocab_size"]), max(PROMPTS))
        for tokens in PROMPTS:
            test = Workload(tokens, tokens)
            measure = partial(run_seconds, session, ids, test)
            contenders.append(Contender(f"{tokens} {threads}", measure))
    seconds = interleave(contenders, rounds=rounds)
    for name, taken in seconds.items():
        tokens, threads = map(int, name.split())
        samples[tokens, threads] = taken.rates(tokens)

    short, long = PROMPTS
    for threads in models:
        for tokens in PROMPTS:
            of, against = samples[tokens, threads], None
            if tokens == long:
                against = (f"pp{short}", samples[short, threads])
            name = f"{row.shape} {threads}T pp{tokens}"
            _add_speed(report, row, name, f"pp{tokens}", threads, of, against)
    first, *more = models
    for threads in more:
        for tokens in PROMPTS:
            reference = (f"{first}T", samples[tokens, first])
            name = f"{row.shape} pp{tokens} {threads}T / {first}T"
            phase = f"pp{tokens} scaling"
            _add_speed(report, row, name, phase, threads, samples[tokens, threads], reference)


def measure_shape(report: Report, shape: str, args: argparse.Namespace) -> None:
    """Everything of one shape."""
    config = decoder_config(shape)
    config["max_position_embeddings"] = max(max(args.contexts) + args.tokens, max(PROMPTS))
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        write_random_folder(Path(scratch), config)
        tensors: Tensors = read_checkpoint(Path(scratch)).tensors
        models = {
            threads: _core.Model(config, tensors, threads=threads, validate=False)
            for threads in args.threads
        }
        row = Row(
            name="", engine="bitnet_py", format="ternary2", shape=shape, threads=1, device="cpu",
            phase="", value=0.0, unit="",
        )  # fmt: skip
        measure_prompts(report, row, models, args.rounds)
        for kv_dtype in args.kv_dtypes:
            for threads, model in models.items():
                measure_decode(
                    report,
                    replace(row, threads=threads, format=f"ternary2, {kv_dtype} KV"),
                    model,
                    args.contexts,
                    kv_dtype=kv_dtype,
                    tokens=args.tokens,
                    rounds=args.rounds,
                )


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description="Measure what length costs.")
    parser.add_argument("--shape", dest="shapes", action="append", choices=list(SHAPES))
    parser.add_argument("--context", dest="contexts", type=_numbers, default=list(CONTEXTS))
    parser.add_argument("--threads", type=_numbers, default=[1, 2], metavar="N,N")
    parser.add_argument("--kv-dtype", dest="kv_dtypes", action="append", choices=_core.KV_DTYPES)
    parser.add_argument("--tokens", type=int, default=8, metavar="N", help="decoded in a turn")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where the folder is made")
    add_report_arguments(parser)
    args = parser.parse_args(argv)
    args.kv_dtypes = args.kv_dtypes or list(KV_DTYPES)
    report = Report("length", args.json, argv)
    for shape in args.shapes or ["700M", "2B4T"]:
        measure_shape(report, shape, args)
    return report.exit_code()


def _add_speed(
    report: Report,
    row: Row,
    name: str,
    phase: str,
    threads: int,
    of: Samples,
    against: tuple[str, Samples] | None,
) -> None:
    filled = _filled(replace(row, threads=threads), name, phase, of, "tokens/s")
    if against is not None:
        reference, other = against
        filled = replace(filled, reference=reference, ratio=median_ratio(of, other))
    report.add(filled)


def _filled(row: Row, name: str, phase: str, samples: Samples, unit: str) -> Row:
    return replace(
        row,
        name=name,
        phase=phase,
        value=samples.median,
        unit=unit,
        n=samples.n,
        spread=samples.spread,
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
