"""The command `bitnet`; cli_run.py has its exit codes."""

from typing import Annotated

import typer

from bitnet_py.cli_bench import bench
from bitnet_py.cli_chat import chat
from bitnet_py.cli_eval import evaluate
from bitnet_py.cli_generate import generate
from bitnet_py.cli_info import info
from bitnet_py.cli_run import print_version, run

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("generate")(generate)
app.command("chat")(chat)
app.command("eval")(evaluate)
app.command("info")(info)
app.command("bench")(bench)


@app.callback()
def bitnet(
    _: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=print_version, help="Show the version."),
    ] = False,
) -> None:
    """Run ternary language models."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process.

    Args:
        arguments: of the command line, without the program's name; None takes the process's.
    """
    run(app, "bitnet", arguments)
