"""The command `bitnet`.

Exit codes: 0 done, 1 failed; typer's are 2 wrong use and 130 interrupted. What a user can mend is
told in one line on stderr; a traceback is a bug of ours.
"""

import sys

import typer

from bitnet_py.cli_chat import chat
from bitnet_py.cli_eval import evaluate
from bitnet_py.cli_generate import generate
from bitnet_py.cli_info import info

__all__ = ["app", "main"]

app = typer.Typer(
    help="Run ternary language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("generate")(generate)
app.command("chat")(chat)
app.command("eval")(evaluate)
app.command("info")(info)


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
