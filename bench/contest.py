"""One shape's models beside each other: who runs when, and the rows that come of it.

Owns: phases, groups that fit in memory, turns, variants, what a failure leaves. Does not own: the
engines (engines.py, llama_bench.py), the command line (peers.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from bench.engine_process import EngineError, EngineProcess
from bench.engine_worker import CONTEXT_LENGTH
from bench.engines import KINDS, OURS, Contestant, Where
from bench.harness import Contender, interleave, median_ratio
from bench.llama_bench import LlamaBench, LlamaBenchProcess
from bench.report import Report, Row
from bitnet_py.speed import Samples

__all__ = [
    "FIRST_TOKEN",
    "MEMORY",
    "OWN_FORMATS",
    "PHASES",
    "Entrant",
    "measure_shape",
    "own_contestant",
    "phase_work",
]

DECODE_TOKENS: Final = 32
PROMPT_TOKENS: Final = 128
FIRST_PROMPT_TOKENS: Final = 8
FIRST_TOKEN_ROUNDS: Final = 3
SETTLE_S: Final = 0.1  # a stopped process's threads leave the cores
USED_SHARE: Final = 0.85  # of the memory that is there
MEMORY, FIRST_TOKEN = "memory", "first token"
PHASES: Final = ("decode", "pp128", "pp512", MEMORY, FIRST_TOKEN)
UNITS: Final = {MEMORY: "MB", FIRST_TOKEN: "s"}

Entrant: TypeAlias = Contestant | LlamaBench
Process: TypeAlias = EngineProcess | LlamaBenchProcess


OWN_FORMATS: Final = tuple(KINDS[OURS].formats)


def own_contestant(weight_format: str = OWN_FORMATS[0]) -> Contestant:
    """This engine, by default in its default format."""
    return Contestant(OURS, weight_format)


def phase_work(phase: str) -> tuple[int, int]:
    """The tokens of a timed phase, and how many of them go in one call.

    Raises:
        ValueError: not a phase, or too long for the context.
    """
    if phase == "decode":
        return DECODE_TOKENS, 1
    tokens = int(phase[2:]) if phase.startswith("pp") and phase[2:].isdigit() else 0
    if not 0 < tokens <= CONTEXT_LENGTH:
        message = (
            f"[phase] expected decode, pp1 to pp{CONTEXT_LENGTH}, {MEMORY} or {FIRST_TOKEN}, "
            f"got {phase!r}"
        )
        raise ValueError(message)
    return tokens, tokens


def add_rows(
    report: Report,
    shape: str,
    phase: str,
    threads: int,
    samples: Sequence[tuple[Entrant, Samples, str]],
    ratio_of: Callable[[Samples, Samples], float] = median_ratio,
) -> None:
    """One row for each entrant; ours once for each peer, with the ratio to it.

    Args:
        report: where rows go.
        shape: of the models.
        phase: that was measured.
        threads: of each.
        samples: by entrant, with the variant that it ran; ours first.
        ratio_of: ours and a peer's samples give the ratio.
    """

    def add(entrant: Entrant, taken: Samples, note: str, other: Entrant | None) -> None:
        theirs = next((each[1] for each in samples if each[0] == other), None)
        name = f"{shape} {phase} {threads}T {entrant.label}" + (f", {note}" if note else "")
        report.add(
            Row(
                name=name + (f" / {other.label}" if other else ""),
                engine=entrant.name,
                format=entrant.format,
                shape=shape,
                threads=threads,
                device="cpu",
                phase=phase,
                value=taken.median,
                unit=UNITS.get(phase, "tokens/s"),
                reference=other.label if other else None,
                ratio=ratio_of(taken, theirs) if theirs else None,
                n=taken.n,
                spread=taken.spread,
            )
        )

    ours, *peers = samples
    if not peers:
        add(*ours, None)
    for peer in peers:
        add(*ours, peer[0])
    for peer in peers:
        add(*peer, None)


def faster_variant(process: Process, order: dict[str, Any]) -> str:
    """Warms up, and tries each variant of an engine twice in turns; "" where it has none."""
    variants: list[str] = process.ready["variants"]
    if len(variants) < 2:
        process.ask(**order)
        return ""
    seconds = dict.fromkeys(variants, math.inf)
    for _ in range(2):
        for variant in variants:
            process.ask(**order, variant=variant)  # a new context warms up
            taken = process.ask(**order, variant=variant)["seconds"]
            seconds[variant] = min(seconds[variant], taken)
    return min(variants, key=lambda variant: seconds[variant])


def measure_phase(
    report: Report,
    shape: str,
    phase: str,
    threads: int,
    processes: Sequence[tuple[Entrant, Process]],
    rounds: int,
) -> None:
    """Lets this engine and its peers take turns at one phase.

    A peer that fails at once is skipped, one that fails in a later round leaves the phase without
    rows; when this engine fails, the error is raised.
    """
    tokens, at_once = phase_work(phase)
    order: dict[str, Any] = {"do": "run", "tokens": tokens, "at_once": at_once, "threads": threads}
    ready: list[tuple[Entrant, str]] = []
    contenders: list[Contender] = []
    failed: list[Entrant] = []

    def turn(entrant: Entrant, process: Process, variant: str) -> float:
        settings = {"variant": variant} if variant else {}
        try:
            return float(process.ask(**order, **settings)["seconds"])
        except EngineError:
            failed.append(entrant)
            raise

    for entrant, process in processes:
        try:
            variant = faster_variant(process, order)
        except EngineError as error:
            _refuse(report, entrant, f"{shape} {phase} {threads}T {entrant.label}", error)
            continue
        ready.append((entrant, variant))
        contenders.append(Contender(entrant.label, partial(turn, entrant, process, variant)))
    try:
        seconds = interleave(contenders, rounds=rounds, warmup=0, settle_s=SETTLE_S)
    except EngineError as error:
        _refuse(report, failed[0], f"{shape} {phase} {threads}T, {failed[0].label}", error)
        return
    samples = [
        (entrant, seconds[entrant.label].rates(tokens), variant) for entrant, variant in ready
    ]
    add_rows(report, shape, phase, threads, samples)


def measure_fresh(
    report: Report,
    shape: str,
    phases: Sequence[str],
    entrants: Sequence[Entrant],
    where: Where,
    threads: int,
    rounds: int,
) -> None:
    """Memory and first token, from processes that do nothing else; one at a time is there."""
    grown: list[tuple[Entrant, Samples, str]] = []
    first: list[tuple[Entrant, Samples, str]] = []
    for entrant in entrants:
        megabytes, seconds = [], []
        rounds_of_it = 1 + (rounds if FIRST_TOKEN in phases and entrant.is_load_timed else 0)
        try:
            for _ in range(rounds_of_it):
                with entrant.start(shape, where) as process:
                    taken = process.ask(do="load", threads=threads)["seconds"]
                    short = {"tokens": FIRST_PROMPT_TOKENS, "at_once": FIRST_PROMPT_TOKENS}
                    taken += process.ask(do="run", threads=threads, **short)["seconds"]
                    seconds.append(taken)
                    for tokens, at_once in ((PROMPT_TOKENS, PROMPT_TOKENS), (DECODE_TOKENS, 1)):
                        process.ask(do="run", threads=threads, tokens=tokens, at_once=at_once)
                    megabytes.append(process.growth_bytes() / 1e6)
        except EngineError as error:
            _refuse(report, entrant, f"{shape} {MEMORY} {entrant.label}", error)
            continue
        grown.append((entrant, Samples(tuple(megabytes[:1])), ""))
        if len(seconds) > 1:
            first.append((entrant, Samples(tuple(seconds[1:])), ""))
        elif FIRST_TOKEN in phases:
            name = f"{shape} {FIRST_TOKEN} {entrant.label}"
            report.skip(name, "no load of a file that could be timed")
    if MEMORY in phases and grown:
        add_rows(report, shape, MEMORY, threads, grown)
    if FIRST_TOKEN in phases and first:
        # From processes one after the other: the ratio is that of the medians.
        add_rows(report, shape, FIRST_TOKEN, threads, first, ratio_of_medians)


def ratio_of_medians(ours: Samples, theirs: Samples) -> float:
    """Of samples that were not taken in rounds."""
    return ours.median / theirs.median


def groups_that_fit(
    ours: Entrant, peers: Sequence[Entrant], shape: str, available_bytes: float
) -> Iterator[list[Entrant]]:
    """Parts the peers so that those of a part are in memory at once, ours with each part."""
    group: list[Entrant] = []
    for peer in peers:
        together = sum(each.needed_bytes(shape) for each in (ours, *group, peer))
        if group and together > available_bytes:
            yield [ours, *group]
            group = []
        group.append(peer)
    yield [ours, *group]


def available_bytes() -> float:
    """The memory that may be used; without limit where the system does not tell."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return math.inf
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return USED_SHARE * int(lines["MemAvailable"].split()[0]) * 1024


def measure_shape(
    report: Report,
    shape: str,
    peers: Sequence[Entrant],
    where: Where,
    *,
    phases: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    ours: Contestant | None = None,
    usable_bytes: Callable[[], float] = available_bytes,
) -> None:
    """All phases and numbers of threads of one shape, this engine beside its peers."""
    fitting: list[Entrant] = []
    for peer in peers:
        name = f"{shape} {peer.label}"
        needed, usable = peer.needed_bytes(shape), usable_bytes()
        if needed > usable:
            report.skip(name, f"needs {needed / 1e9:.0f} GB, {usable / 1e9:.0f} may be used")
            continue
        try:
            with peer.start(shape, where) as process:  # also makes its model
                described = {key: process.ready[key] for key in ("version", "system")}
            report.header.setdefault("peers", {})[peer.name] = described
            fitting.append(peer)
        except EngineError as error:
            report.skip(name, str(error))
    ours = ours or own_contestant()
    if {MEMORY, FIRST_TOKEN} & set(phases):
        fresh_rounds = min(rounds, FIRST_TOKEN_ROUNDS)
        entrants = [ours, *fitting]
        measure_fresh(report, shape, phases, entrants, where, max(threads), fresh_rounds)
    timed = [phase for phase in phases if phase not in (MEMORY, FIRST_TOKEN)]
    if not timed:
        return
    for group in groups_that_fit(ours, fitting, shape, usable_bytes()):
        with ExitStack() as stack:
            processes: list[tuple[Entrant, Process]] = []
            for entrant in group:
                try:
                    process: Process = stack.enter_context(entrant.start(shape, where))
                    process.ask(do="load", threads=threads[0])
                    processes.append((entrant, process))
                except EngineError as error:
                    _refuse(report, entrant, f"{shape} {entrant.label}", error)
            for count in threads:
                for phase in timed:
                    measure_phase(report, shape, phase, count, processes, rounds)


def _refuse(report: Report, entrant: Entrant, name: str, error: EngineError) -> None:
    """A peer that fails is skipped; ours may not fail."""
    if isinstance(entrant, Contestant) and entrant.engine == OURS:
        raise error
    report.skip(name, str(error))
