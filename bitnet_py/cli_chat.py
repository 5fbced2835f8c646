"""`bitnet chat`: a conversation on a terminal, or over pipes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bitnet_py import cli_options as opt

if TYPE_CHECKING:
    from bitnet_py.chat import ChatSession

__all__ = ["chat"]

HELP: Final = "/clear forgets the conversation, /exit leaves; Ctrl-C stops an answer"


def chat(
    model: opt.ModelId,
    system: Annotated[str | None, typer.Option(help="the system prompt")] = None,
    max_new_tokens: opt.MaxNewTokens = None,
    temperature: opt.Temperature = None,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    min_p: opt.MinP = None,
    repetition_penalty: opt.RepetitionPenalty = None,
    no_repeat_ngram_size: opt.NoRepeatNgramSize = None,
    prompt_lookup_num_tokens: opt.PromptLookupNumTokens = None,
    seed: opt.Seed = None,
    stop: opt.Stop = None,
    threads: opt.Threads = None,
    kv_dtype: opt.KvDtype = "auto",
    device: opt.Device = "auto",
    revision: opt.Revision = None,
) -> None:
    """Talk with a model that has a chat template: one line, one answer."""
    from bitnet_py.model import load

    loaded = load(model, device=device, threads=threads, kv_dtype=kv_dtype, revision=revision)
    session = loaded.chat(system)
    options = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "no_repeat_ngram_size": no_repeat_ngram_size,
        "prompt_lookup_num_tokens": prompt_lookup_num_tokens,
        "seed": seed,
        "stop_strings": stop or None,
    }
    loaded.generation_config.with_options(options)  # what is wrong with them is said at once
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        typer.echo(HELP, err=True)
    while (line := _read_line(is_terminal)) is not None:
        if line == "/exit":
            return
        if line == "/clear":
            session.clear()
        elif line.startswith("/"):
            typer.echo(f"no command {line}. {HELP}", err=True)
        elif line:
            _answer(session, line, options)


def _read_line(is_terminal: bool) -> str | None:
    """The next line, None at the end of input."""
    try:
        return input("> " if is_terminal else "").strip()
    except EOFError:
        return None


def _answer(session: ChatSession, line: str, options: dict[str, Any]) -> None:
    """Writes an answer as it comes. One that can not be given leaves the conversation as it was."""
    try:
        for chunk in session.stream(line, **options):
            typer.echo(chunk.text, nl=False)
            sys.stdout.flush()
    except KeyboardInterrupt:
        typer.echo(" [stopped]", nl=False)
    except ValueError as error:
        typer.echo(f"{error}. /clear forgets the conversation.", err=True)
    typer.echo("")
