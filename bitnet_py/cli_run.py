"""How a command ends: its exit code, and what is said in one line on stderr.

0 done; 1 failed: a file, the system; 2 wrong use; 130 interrupted. A traceback is a bug of ours.

Owns: the codes, for every command of this package. Does not own: the commands.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from typing import Any, Final, NoReturn

import typer

from bitnet_py.errors import FormatError

__all__ = ["FAILED", "INTERRUPTED", "WRONG_USE", "plain", "print_json", "print_version", "run"]

FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130
# What Python and the C++ library say when the system starts no more threads.
NO_THREAD: Final = ("can't start new thread", os.strerror(errno.EAGAIN))


def run(
    app: typer.Typer, program: str, arguments: list[str] | None, *, interrupted: str | None = None
) -> NoReturn:
    """Runs a command and ends the process.

    Args:
        app: the command.
        program: its name, before every line.
        arguments: of the command line, without the program's name; None takes the process's.
        interrupted: what to say after Ctrl-C; None: nothing.
    """
    try:
        app(arguments)
    except SystemExit as end:  # typer ends so, and makes code 130 of Ctrl-C
        if end.code == INTERRUPTED and interrupted is not None:
            typer.echo(f"{program}: {interrupted}", err=True)
        raise
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has left
        sys.stderr.close()
        sys.exit(FAILED)
    except (FormatError, OSError) as error:
        _fail(program, str(error), FAILED)
    except ValueError as error:
        _fail(program, str(error), WRONG_USE)
    except MemoryError:
        _fail(program, "not enough memory", FAILED)
    except RuntimeError as error:
        if not any(reason in str(error) for reason in NO_THREAD):
            raise
        _fail(program, f"the system starts no more threads ({error})", FAILED)
    sys.exit(0)


def plain(text: str) -> str:
    """A text for rich, to be shown as it is: no markup, and what no encoding knows as escapes."""
    from rich.markup import escape

    shown = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return escape(shown)


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Prints strict JSON: a number that is not finite becomes null."""
    typer.echo(json.dumps(_finite(value), indent=indent, allow_nan=False))


def print_version(is_asked: bool) -> None:
    """The callback of an option --version."""
    if is_asked:
        from bitnet_py._core import __version__

        typer.echo(__version__)
        raise typer.Exit


def _fail(program: str, reason: str, code: int) -> NoReturn:
    typer.echo(f"{program}: {reason}", err=True)
    sys.exit(code)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
