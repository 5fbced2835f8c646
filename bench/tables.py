"""Rewrites the tables of the READMEs from `bench/results/*.json`.

A block between `<!-- table: NAME -->` and `<!-- end -->` is replaced by the table of that name,
one between `<!-- output: NAME -->` and `<!-- end -->` by what a command printed, `NAME.txt`, one of
`<!-- figure: NAME -->` in a README beside `results/` by the picture `NAME.svg` (plots.py).
`--check` changes nothing and fails when a block is not what the results give.

Usage: python -m bench.tables [--check]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import summary
from bench.markdown import line, number
from bench.report import RESULTS, ROOT

DOCUMENTS = (ROOT / "README.md", ROOT / "bench" / "README.md")
BLOCK = re.compile(
    r"(<!-- (?P<kind>table|output|figure): (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- end -->)",
    re.DOTALL,
)
NONE_YET = "No results yet.\n"
SUMMARY = "summary"  # its lines are of several benchmarks

ResultRow = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """How rows become a table.

    Attributes:
        bench: rows come from `results/BENCH.json` and `results/BENCH-*.json`, one table each.
        index: the fields that tell one line of the table from another.
        columns: the field whose values become columns; None: one column of values.
        digits: significant digits of values and ratios.
        only: fields and the values that a row must have to be in the table.
        beside: a row's ratio to a reference stands in the cell of that reference.
    """

    bench: str
    index: tuple[str, ...]
    columns: str | None = "phase"
    digits: int = 3
    only: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    beside: bool = False


MODEL = ("shape", "threads", "engine", "format")
TABLES: Mapping[str, Table] = {
    "layouts": Table(
        "layouts",
        ("phase", "shape", "source", "threads", "name"),
        columns="layout",
        only={"threads": (2,), "shape": ("6912x2560",)},
    ),
    "peers": Table("peers", MODEL, beside=True),
    "ternary-stores": Table(
        "ternary_stores", ("engine", "threads", "format"), only={"shape": ("6912x2560",)}
    ),
    "ternary-store-models": Table(
        "ternary_stores", ("engine", "threads", "format"), only={"shape": ("2B4T",)}
    ),
    "length": Table("length", MODEL),
    "kernels": Table("kernels", ("phase", "shape", "engine", "format"), columns="threads"),
    "paper": Table("paper", ("shape", "engine"), columns="phase"),
    "large": Table("large", ("shape", "threads")),
    "memory": Table("memory", ("shape",), digits=4),
    "startup": Table("startup", ("name",), columns=None),
    "accuracy": Table("accuracy", ("shape", "format"), digits=5),
}


def render(table: Table, results: Path = RESULTS) -> str:
    """The text of a table: for each machine's file a markdown table and a line on its run."""
    paths = [results / f"{table.bench}.json", *sorted(results.glob(f"{table.bench}-*.json"))]
    parts = []
    for path in paths:
        if not path.is_file():
            continue
        content = json.loads(path.read_text())
        rows = [row for row in content["rows"] if _is_wanted(row, table.only)]
        if rows and table.beside:
            rows = move_ratios(rows)
            legend = "bitnet_py's figure / this one"
            parts.append(markdown_table(table, rows) + caption(content["header"], legend))
        elif rows:
            parts.append(markdown_table(table, rows) + caption(content["header"], legend_of(rows)))
    return "\n".join(parts) or NONE_YET


def markdown_table(table: Table, rows: Sequence[ResultRow]) -> str:
    """A markdown table of rows; lines and columns in order of first appearance."""
    index = [key for key in table.index if any(row.get(key) not in ("", None) for row in rows)]
    cells: dict[tuple[str, ...], dict[str, ResultRow]] = {}
    units: dict[str, set[str]] = {}
    for row in rows:
        column = str(row[table.columns]) if table.columns else "value"
        label = tuple(str(row[key]) for key in index)
        cells.setdefault(label, {})[column] = row
        units.setdefault(column, set()).add(row["unit"])
    heads = [
        f"{column}, {min(found)}" if len(found) == 1 and min(found) else column
        for column, found in units.items()
    ]
    lines = [line([*index, *heads]), line(["---"] * len(index) + ["---:"] * len(heads))]
    for label, by_column in cells.items():
        values = [
            _cell(by_column.get(column), len(units[column]) > 1, table.digits) for column in units
        ]
        lines.append(line([*label, *values]))
    return "\n".join(lines) + "\n"


def move_ratios(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Moves every ratio from the row that has it to the row of its reference."""
    alike = ("shape", "threads", "phase")
    ratios = {
        (*(row[key] for key in alike), row["reference"]): row["ratio"]
        for row in rows
        if row["reference"] is not None
    }
    moved = []
    for row in rows:
        here = (*(row[key] for key in alike), f"{row['engine']} {row['format']}")
        moved.append({**row, "reference": None, "ratio": ratios.get(here)})
    return moved


def legend_of(rows: Iterable[ResultRow]) -> str:
    """What brackets compare with; "" where there are none."""
    references = sorted({row["reference"] for row in rows if row.get("reference")})
    return f"the ratio to {'; '.join(references)}" if references else ""


def caption(header: Mapping[str, Any], legend: str) -> str:
    """One line on where a table's rows were measured, and what brackets hold."""
    named = ("cpu", "isa", "compiler", "date")
    facts = [str(header[key]) for key in named if header.get(key)]
    if header.get("commit"):
        facts.append(f"commit {header['commit']}")
    brackets = f" In brackets: {legend}." if legend else ""
    return f"\n{', '.join(facts)}.{brackets}\n"


def rewrite(text: str, results: Path = RESULTS) -> str:
    """A document with every block brought up to date.

    Raises:
        ValueError: a block of a name that no table has.
    """

    def replace(block: re.Match[str]) -> str:
        name = block["name"]
        if block["kind"] == "output":
            output = results / f"{name}.txt"
            text = f"```text\n{output.read_text()}```\n" if output.is_file() else NONE_YET
            return f"{block[1]}\n{text}\n{block[5]}"
        if block["kind"] == "figure":
            image = results / f"{name}.svg"
            text = f"![{name}](results/{name}.svg)\n" if image.is_file() else NONE_YET
        elif name == SUMMARY:
            text = summary.render(results) or NONE_YET
        elif name in TABLES:
            text = render(TABLES[name], results)
        else:
            message = f"[tables] expected one of {', '.join([SUMMARY, *TABLES])}, got {name!r}"
            raise ValueError(message)
        return f"{block[1]}\n{text}\n{block[5]}"

    return BLOCK.sub(replace, text)


def update(documents: Sequence[Path], results: Path, *, check: bool) -> list[Path]:
    """Brings documents up to date, or with `check` only looks.

    Returns:
        The documents that were stale.
    """
    stale = []
    for document in documents:
        if not document.is_file():
            continue
        text = document.read_text()
        current = rewrite(text, results)
        if current != text:
            stale.append(document)
            if not check:
                document.write_text(current)
    return stale


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrites or checks the documents; 1 when `--check` finds a stale one."""
    parser = argparse.ArgumentParser(description="Rewrite the READMEs' tables from the results.")
    parser.add_argument("--check", action="store_true", help="only look; 1 when a table is stale")
    args = parser.parse_args(argv)
    stale = update(DOCUMENTS, RESULTS, check=args.check)
    for document in stale:
        state = "stale, run: python -m bench.tables" if args.check else "rewritten"
        print(f"{document.relative_to(ROOT)}: {state}")
    return 1 if stale and args.check else 0


def _is_wanted(row: ResultRow, only: Mapping[str, Sequence[Any]]) -> bool:
    return all(row.get(key) in values for key, values in only.items())


def _cell(row: ResultRow | None, with_unit: bool, digits: int) -> str:
    if row is None:
        return ""
    value = row["value"]
    text = f"{value:.0f}" if row["unit"] == "tokens" else number(value, digits)
    if with_unit and row["unit"]:
        text += f" {row['unit']}"
    if row.get("ratio") is not None:
        text += f" ({number(row['ratio'], digits)}x)"
    return text


if __name__ == "__main__":
    sys.exit(main())
