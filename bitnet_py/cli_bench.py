"""`bitnet bench`: how fast a model runs on this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitnet_py import cli_options as opt
from bitnet_py.cli_run import plain, print_json

if TYPE_CHECKING:
    from bitnet_py.peak_memory import PeakMemory
    from bitnet_py.speed import Workload

__all__ = ["bench"]

Counts = str  # typer has no comma-separated numbers


def bench(
    model: opt.ModelId,
    prompt: Annotated[
        Counts, typer.Option("-p", "--prompt", metavar="N,N", help="prompt lengths; 0: none")
    ] = "128,512",
    generated: Annotated[
        Counts, typer.Option("-n", "--generated", metavar="N,N", help="decoded tokens; 0: none")
    ] = "32",
    depth: Annotated[
        Counts, typer.Option("-d", "--depth", metavar="N,N", help="tokens in the cache before")
    ] = "0",
    threads: Annotated[
        Counts | None,
        typer.Option(
            "-t", "--threads", metavar="N,N", help="default: as many as the process may use"
        ),
    ] = None,
    repetitions: Annotated[
        int, typer.Option("-r", "--repetitions", min=1, help="of each test; the median counts")
    ] = 5,
    kv_dtype: opt.KvDtype = "auto",
    revision: opt.Revision = None,
    as_json: opt.AsJson = False,
) -> None:
    """Measure tokens per second of prompts (pp) and of decoding (tg).

    Lengths are llama-bench's: pp128 is a prompt of 128 tokens in one call, tg32 is 32 single
    tokens; with `--depth 1024` both run behind 1024 tokens.
    """
    from bitnet_py import _core
    from bitnet_py.model import load
    from bitnet_py.progress import progress_for
    from bitnet_py.speed import measure_tests, weight_bytes_per_token

    tests = _tests(prompt, generated, depth)
    counts = [None] if threads is None else _counts("threads", threads, low=1)
    memory = _peak_memory()
    loaded = load(model, threads=counts[0], kv_dtype=kv_dtype, revision=revision)
    models = {loaded.core.threads: loaded.core}
    for count in counts[1:]:
        assert count is not None
        models[count] = _core.Model(loaded.config, loaded.tensors, threads=count, validate=False)

    with progress_for(is_terminal=sys.stderr.isatty()) as progress:
        progress.begin("measuring", (repetitions + 1) * len(models) * len(tests))
        measured = measure_tests(
            models,
            tests,
            kv_dtype=loaded.kv_dtype,
            repetitions=repetitions,
            on_progress=lambda _done, _total: progress.advance(1),
        )
    token_bytes = weight_bytes_per_token(loaded.core, loaded.tensors)
    facts: dict[str, Any] = {
        "model": model,
        "isa": loaded.core.isa,
        "cpu": _core.cpu_brand(),
        "kv_dtype": loaded.kv_dtype,
        "weight_bytes_per_token": token_bytes,
        "peak_memory_growth_bytes": None if memory is None else memory.growth_bytes(),
        "tests": [
            {
                "name": test.name,
                "tokens": test.tokens,
                "depth": test.depth,
                "threads": count,
                "tokens_per_s": speed.median,
                "spread": speed.spread,
                "n": speed.n,
                "weight_gb_per_s": token_bytes * speed.median / 1e9 if test.is_decode else None,
            }
            for test, count, speed in measured
        ],
    }
    if as_json:
        print_json(facts, indent=2)
    else:
        _show(facts)


def _tests(prompt: Counts, generated: Counts, depth: Counts) -> list[Workload]:
    """Every length at every depth; a zero among the lengths asks for nothing."""
    from bitnet_py.speed import Workload

    prompts, singles = _counts("prompt", prompt), _counts("generated", generated)
    return [
        test
        for before in _counts("depth", depth)
        for test in (
            *(Workload(tokens, tokens, before) for tokens in prompts if tokens),
            *(Workload(tokens, 1, before) for tokens in singles if tokens),
        )
    ]


def _counts(option: str, text: Counts, low: int = 0) -> list[int]:
    """The numbers of "128,512", each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= low for part in parts):
        message = f"[bench] expected --{option} N or N,N,... of at least {low}, got {text!r}"
        raise ValueError(message)
    return list(dict.fromkeys(map(int, parts)))


def _peak_memory() -> PeakMemory | None:
    """None where the system does not tell."""
    from bitnet_py.peak_memory import PeakMemory

    try:
        return PeakMemory()
    except OSError:
        return None


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("test")
    for heading in ("threads", "tokens/s", "spread", "weights, GB/s"):
        table.add_column(heading, justify="right")
    for test in facts["tests"]:
        rate = test["weight_gb_per_s"]
        table.add_row(
            test["name"],
            str(test["threads"]),
            f"{test['tokens_per_s']:,.1f}",
            f"{test['spread']:.1%}",
            "" if rate is None else f"{rate:.1f}",
        )
    console = Console()
    console.print(
        plain(
            f"{facts['model']}: {facts['weight_bytes_per_token'] / 1e6:,.1f} MB of weights per "
            f"token, KV cache {facts['kv_dtype']}, {facts['isa']} on {facts['cpu']}"
        )
    )
    console.print(table)
    if facts["peak_memory_growth_bytes"] is not None:
        console.print(f"peak memory grew by {facts['peak_memory_growth_bytes'] / 1e6:,.1f} MB")
