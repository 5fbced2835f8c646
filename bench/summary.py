"""The main README's table of speed: each figure beside what it is held against.

Owns: which results are shown there, and their limits. Does not own: the results, the README's
blocks (tables.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.markdown import line, number
from bench.roofline import place_of

__all__ = ["render", "summary_lines"]

OURS: Final = "bitnet_py"
PEER: Final = "llama.cpp TQ2_0"
HEAD: Final = "| case | bitnet_py | beside | ratio |\n| --- | ---: | --- | ---: |\n"

Row = Mapping[str, Any]


class Line(NamedTuple):
    """A line of the table; all are text."""

    case: str
    value: str
    beside: str
    ratio: str


def read(results: Path, bench: str) -> tuple[list[Row], Mapping[str, Any]]:
    """Rows and header of a benchmark; nothing where it was not run."""
    path = results / f"{bench}.json"
    if not path.is_file():
        return [], {}
    content = json.loads(path.read_text())
    return content["rows"], content["header"]


def summary_lines(results: Path) -> Iterator[Line]:
    """Every line that the results allow."""
    peers, _ = read(results, "peers")
    kernels, header = read(results, "kernels")
    yield from speed_lines(peers, kernels)
    yield from kernel_lines(kernels, header.get("isa", ""))
    yield from length_lines(read(results, "length")[0])
    yield from paper_lines(read(results, "paper")[0])
    yield from limit_lines(read(results, "memory")[0], "memory")
    yield from limit_lines(read(results, "startup")[0], "start")


def speed_lines(peers: Sequence[Row], kernels: Sequence[Row]) -> Iterator[Line]:
    """Decoding and prefill beside the peer, and beside bandwidth and int8 rate."""
    threads = most_threads(peers)
    for row in peers:
        if row["engine"] != OURS or row["reference"] != PEER or row["threads"] != threads:
            continue
        if row["unit"] != "tokens/s" or row["phase"] == "pp512":  # that stands beside pp128
            continue
        case = f"{row['phase']}, {row['shape']}, {threads} threads"
        theirs = next(
            each["value"]
            for each in peers
            if f"{each['engine']} {each['format']}".startswith(PEER)
            and all(each[key] == row[key] for key in ("phase", "shape", "threads", "unit"))
        )
        yield Line(
            case,
            quantity(row["value"], "tokens/s"),
            f"{PEER}: {quantity(theirs, 'tokens/s')}",
            f"{row['ratio']:.2f}x",
        )
        place = place_of(row)
        if row["phase"] == "decode":
            limit = best(kernels, engine="limit", phase="GEMV from DRAM", threads=threads)
            ours, unit, name = place.weight_gb_per_s, "GB/s", "plain read"
        else:
            limit = best(kernels, phase="limit", unit="GMAC/s", threads=threads)
            ours, unit, name = (
                place.gmac_per_s,
                "GMAC/s",
                f"{limit['format']} loop" if limit else "",
            )
        if limit is not None:
            share = f"{100 * ours / limit['value']:.0f} %"
            yield Line("", quantity(ours, unit), f"{name}: {quantity(limit['value'], unit)}", share)


def kernel_lines(kernels: Sequence[Row], isa: str) -> Iterator[Line]:
    """The ternary kernels alone beside their limits: the table that runs here, and AVX2's."""
    threads = most_threads(kernels)
    for table in dict.fromkeys((isa, "avx2")):
        for row in kernels:
            if row["engine"] != f"{OURS} {table}" or row["format"] != "ternary2":
                continue
            if row["threads"] != threads or row["ratio"] is None:
                continue
            limit = f"{row['reference']}: {quantity(row['value'] / row['ratio'], row['unit'])}"
            case = f"{row['phase']}, {row['shape']}, {table}"
            share = f"{100 * row['ratio']:.0f} %"
            yield Line(case, quantity(row["value"], row["unit"]), limit, share)


def length_lines(rows: Sequence[Row]) -> Iterator[Line]:
    """What a longer prompt and a second thread give, and what a long context costs."""
    threads = most_threads(rows)
    for row in rows:
        if row["threads"] != threads:
            continue
        if row["ratio"] is not None:
            case = f"{row['phase']}, {row['shape']}, {threads} threads"
            theirs = f"{row['reference']}: {quantity(row['value'] / row['ratio'], 'tokens/s')}"
            yield Line(case, quantity(row["value"], "tokens/s"), theirs, f"{row['ratio']:.2f}x")
    first = next((row for row in rows if row["phase"].startswith("attention")), None)
    for row in rows:
        if first is None or any(row[key] != first[key] for key in ("shape", "format")):
            continue
        if row["threads"] == threads and row["phase"].startswith("attention"):
            time = next(
                each["value"]
                for each in rows
                if each["name"] == row["name"].replace("attention", "decode")
            )
            depth = row["phase"].removeprefix("attention d")
            case = f"decode behind {depth} tokens, {row['shape']}, {row['format']}"
            yield Line(case, quantity(time, "ms"), "of it attention", f"{row['value']:.0f} %")


def paper_lines(rows: Sequence[Row]) -> Iterator[Line]:
    """Latency at the paper's shapes."""
    for row in rows:
        if row["engine"] == OURS and row["phase"] == "latency":
            theirs = f"{row['reference']}: {quantity(row['value'] / row['ratio'], row['unit'])}"
            ratio = f"{1 / row['ratio']:.1f}x less"
            case = f"{row['phase']}, {row['shape']}"
            yield Line(case, quantity(row["value"], row["unit"]), theirs, ratio)


def limit_lines(rows: Sequence[Row], what: str) -> Iterator[Line]:
    """What is held against a fixed limit."""
    for row in rows:
        if row["ratio"] is not None:
            limit = f"{row['reference']}: {quantity(row['value'] / row['ratio'], row['unit'])}"
            value = quantity(row["value"], row["unit"])
            yield Line(f"{what}, {row['name']}", value, limit, f"{100 * row['ratio']:.0f} %")


def render(results: Path) -> str:
    """The table with a line on where it was measured; "" without results."""
    lines = list(summary_lines(results))
    if not lines:
        return ""
    body = "".join(f"{line(each)}\n" for each in lines)
    machines = []
    for bench in ("peers", "kernels", "length", "paper", "memory", "startup"):
        header = read(results, bench)[1]
        named = [str(header[key]) for key in ("cpu", "isa", "commit") if header.get(key)]
        if named and (machine := ", ".join(named)) not in machines:
            machines.append(machine)
    return f"{HEAD}{body}\n{'; '.join(machines)}.\n"


def best(rows: Sequence[Row], **fields: object) -> Row | None:
    """The row of highest value among those with these fields."""
    found = [row for row in rows if all(row[key] == value for key, value in fields.items())]
    return max(found, key=lambda row: float(row["value"]), default=None)


def most_threads(rows: Sequence[Row]) -> int:
    """The largest number of threads measured."""
    return max((int(row["threads"]) for row in rows), default=0)


def quantity(value: float, unit: str) -> str:
    """Three digits with the unit."""
    return f"{number(value, 3)} {unit}"
