"""`bitnet-convert`: the command line over `convert`."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bitnet_py.cli_run import print_json, print_version, run
from bitnet_py.progress import progress_for

from .exporters import exporter_names
from .formats.ternary import TERNARY_FORMATS
from .methods import methods
from .options import head_names
from .pipeline import convert
from .report_table import print_report

__all__ = ["main"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _method_help() -> str:
    ordered = sorted(methods().values(), key=lambda method: method.name != "auto")
    return "; ".join(f"{method.name}: {method.summary}" for method in ordered)


@app.command()
def command(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="a folder, or owner/name on the hub")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="the folder to make")],
    method: Annotated[str, typer.Option(help=_method_help())] = "auto",
    scale: Annotated[
        str | None, typer.Option(help="of absmean: tensor (default), row or group (of 128)")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help=f"format of the output head, and of a tied embedding: {', '.join(head_names())} "
            f"(default: {methods()['auto'].head} for ternary methods)"
        ),
    ] = None,
    ternary_store: Annotated[
        str,
        typer.Option(
            metavar="|".join(TERNARY_FORMATS),
            help="2 bits per ternary weight, or 1.6: smaller files, the same results",
        ),
    ] = TERNARY_FORMATS[0],
    output_format: Annotated[
        str, typer.Option("--format", help=f"of the output: {', '.join(exporter_names())}")
    ] = "bitnet_py",
    verify: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="a text; compare perplexity before and after on it"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="branch, tag or commit of a hub model")
    ] = None,
    modules_to_not_convert: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="stays dense; repeat, or separate with commas"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="report, but write nothing")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace OUT, at the very end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
    _: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=print_version, help="Show the version."),
    ] = False,
) -> None:
    """Convert a checkpoint into a folder that bitnet_py runs.

    The folder appears complete or not at all. Memory stays small whatever the model's size.
    """
    modules = [m for item in modules_to_not_convert or () for m in item.split(",") if m]
    with progress_for(is_terminal=sys.stderr.isatty()) as progress:
        report = convert(
            source,
            out,
            method=method,
            scale=scale,
            head=head,
            ternary_store=ternary_store,
            format=output_format,
            verify=verify,
            revision=revision,
            modules_to_not_convert=modules,
            dry_run=dry_run,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json(report.to_json(), indent=2)
    else:
        print_report(report, Console())


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and ends the process; the codes are those of `bitnet_py.cli_run`."""
    logging.getLogger("bitnet_py.convert").addHandler(logging.NullHandler())  # the report says it
    run(app, "bitnet-convert", arguments, interrupted="interrupted; nothing was changed")
