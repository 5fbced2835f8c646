"""The command `bitnet`.

Exit codes: 0 done, 1 failed; typer's are 2 wrong use and 130 interrupted. What a user can mend is
told in one line on stderr; a traceback is a bug of ours.
"""

import sys
from typing import Annotated

import typer

from bitnet_py.cli_chat import chat
from bitnet_py.cli_eval import evaluate
from bitnet_py.cli_generate import generate
from bitnet_py.cli_info import info

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


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from bitnet_py._core import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def bitnet(
    _: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Run ternary language models."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process.

    Args:
        arguments: of the command line, without the program's name; None takes the process's.
    """
    try:
        app(arguments)
    except BrokenPipeError:  # the reader of our output has left
        sys.stderr.close()
        sys.exit(1)
    except (ValueError, OSError) as error:
        typer.echo(f"bitnet: {error}", err=True)
        sys.exit(1)
