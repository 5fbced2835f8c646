"""Draws figures from `bench/results/*.json`, and from nothing else: equal results, equal files.

`paper.svg`: latency and memory of a token over model size, ternary beside FP16 Llama, as in figure
2 of arXiv 2402.17764. `roofline.svg`: what decoding and prefill reach of this machine's read
bandwidth and int8 rate. A figure whose results are not there is skipped.

Usage: python -m bench.plots [--results DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.engines import OURS
from bench.report import RESULTS
from bench.roofline import place_of

__all__ = ["FIGURES", "main"]

# Text stays text and ids do not change from run to run: files are small, their changes readable.
STYLE: Final[Mapping[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bitnet_py",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
OURS_COLOR: Final = "#0b6e4f"
THEIRS_COLOR: Final = "#8a8d91"

SHOWN: Final = ((OURS, "ternary2"), ("llama.cpp", "TQ2_0"))
Rows = Sequence[Mapping[str, Any]]


def rows_of(results: Path, bench: str) -> Rows:
    """The rows of a benchmark's first file; none where it was not run."""
    path = results / f"{bench}.json"
    rows: Rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    return rows


def draw_paper(results: Path) -> Figure | None:
    """Latency and memory, one panel each; a bar for each form of each shape."""
    rows = rows_of(results, "paper")
    if not rows:
        return None
    figure, panels = plt.subplots(1, 2, figsize=(8, 3))
    for axes, phase, unit, scale in (
        (panels[0], "latency", "ms / token", 1.0),
        (panels[1], "memory", "GB", 1e-3),
    ):
        of_phase = [row for row in rows if row["phase"] == phase]
        shapes = list(dict.fromkeys(row["shape"] for row in of_phase))
        for at, shape in enumerate(shapes):
            for row in of_phase:
                if row["shape"] == shape:
                    _draw_bar(axes, at, row, scale)
        axes.set_yscale("log")
        axes.set_xticks(range(len(shapes)), shapes)
        axes.set_ylabel(f"{phase}, {unit}")
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=OURS_COLOR),
        plt.Rectangle((0, 0), 1, 1, color=THEIRS_COLOR),
        plt.Rectangle((0, 0), 1, 1, edgecolor=THEIRS_COLOR, facecolor="white", hatch="///"),
    ]
    labels = ["bitnet_py, ternary", "FP16 Llama", "FP16 Llama, computed"]
    figure.legend(handles, labels, loc="upper center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    return figure


def _draw_bar(axes: Axes, at: int, row: Mapping[str, Any], scale: float) -> None:
    is_ours = row["engine"] == OURS
    value = row["value"] * scale
    place = at - 0.2 if is_ours else at + 0.2
    look: dict[str, Any] = {"color": OURS_COLOR if is_ours else THEIRS_COLOR}
    if row["engine"].endswith("computed"):
        look = {"edgecolor": THEIRS_COLOR, "facecolor": "white", "hatch": "///"}
    axes.bar(place, value, 0.38, **look)
    if is_ours:
        text = f"{1 / row['ratio']:.1f}x"
        axes.annotate(text, (place, value), ha="center", va="bottom", fontsize=7)


def draw_roofline(results: Path) -> Figure | None:
    """Rate of multiplications over multiplications per byte of weights, both logarithmic.

    Decoding does one multiplication for each weight it reads, a prompt of N tokens N.
    """
    limits, peers = rows_of(results, "kernels"), rows_of(results, "peers")
    threads = max((row["threads"] for row in limits), default=0)
    reads = [r["value"] for r in limits if r["name"] == f"read ternary2 {threads}T"]
    loops = [r for r in limits if r["phase"] == "limit" and r["threads"] == threads]
    loops = [row for row in loops if row["unit"] == "GMAC/s"]
    points = [r for r in peers if r["threads"] == threads and r["unit"] == "tokens/s"]
    if not reads or not loops or not points:
        return None
    bandwidth = max(reads)
    peak = max(row["value"] for row in loops)
    figure, axes = plt.subplots(figsize=(7, 4))
    intensities = [1.0, peak / bandwidth, 4096.0]
    roof = [min(bandwidth * each, peak) for each in intensities]
    axes.plot(intensities, roof, color="black", linewidth=1)
    axes.annotate(f"read {bandwidth:.0f} GB/s", (1.1, bandwidth * 1.3), fontsize=7)
    for row in loops:
        axes.axhline(row["value"], color="black", linewidth=0.4, linestyle=":")
        axes.annotate(f"{row['format']} {row['value']:.0f} GMAC/s", (900, row["value"]), fontsize=7)
    seen: set[str] = set()
    labelled: set[str] = set()
    for row in points:
        is_ours = row["engine"] == OURS
        if (row["engine"], row["format"]) not in SHOWN:
            continue
        stands = place_of(row)
        intensity, rate = stands.gmac_per_gb, stands.gmac_per_s
        label = f"{row['engine']} {row['format']}"
        axes.scatter(
            intensity,
            rate,
            s=18,
            color=OURS_COLOR if is_ours else THEIRS_COLOR,
            label=None if label in seen else label,
        )
        seen.add(label)
        if is_ours:
            place = (4, 3 if len(labelled) % 2 else -7)  # neighbours above and below
            text = f"{row['shape']} {row['phase']}"
            if text not in labelled:
                axes.annotate(
                    text, (intensity, rate), place, textcoords="offset points", fontsize=6
                )
            labelled.add(text)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("multiplications per byte of weights")
    axes.set_ylabel(f"GMAC/s, {threads} threads")
    axes.legend(frameon=False, loc="lower right")
    figure.tight_layout()
    return figure


FIGURES: Final = {"paper": draw_paper, "roofline": draw_roofline}


def main(argv: Sequence[str] | None = None) -> int:
    """Draws what the results allow."""
    parser = argparse.ArgumentParser(description="Draw figures from the results.")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    args = parser.parse_args(argv)
    for name, draw in FIGURES.items():
        with mpl.rc_context(dict(STYLE)):
            figure = draw(args.results)
            if figure is None:
                print(f"{name}.svg skipped: its results are not there")
                continue
            path = args.results / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None, "Creator": None})
            plt.close(figure)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
