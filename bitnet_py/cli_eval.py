"""`bitnet eval`: how well a model predicts a text."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bitnet_py import cli_options as opt
from bitnet_py.cli_run import print_json
from bitnet_py.text_file import read_text

__all__ = ["evaluate"]


def evaluate(
    model: opt.ModelId,
    text: Annotated[
        Path, typer.Option(metavar="FILE", help="UTF-8; <|endoftext|> separates segments")
    ],
    context: Annotated[
        int | None, typer.Option(min=2, help="window in tokens; default: the model's context")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="from window to window; default: context - 1")
    ] = None,
    threads: opt.Threads = None,
    kv_dtype: opt.KvDtype = "auto",
    device: opt.Device = "auto",
    revision: opt.Revision = None,
    as_json: opt.AsJson = False,
) -> None:
    """Measure perplexity and bits per byte on a text.

    Models with different tokenizers compare by bits per byte.
    """
    from bitnet_py.evaluate import evaluate_text
    from bitnet_py.model import load
    from bitnet_py.progress import progress_for

    content = read_text(text)
    loaded = load(model, device=device, threads=threads, kv_dtype=kv_dtype, revision=revision)
    with progress_for(is_terminal=sys.stderr.isatty()) as progress:
        n_shown = 0

        def show(n_done: int, n_total: int) -> None:
            nonlocal n_shown
            if n_shown == 0:
                progress.begin("evaluating", n_total)
            progress.advance(n_done - n_shown)
            n_shown = n_done

        result = evaluate_text(loaded, content, context=context, stride=stride, on_progress=show)
    if as_json:
        numbers = {
            "perplexity": result.perplexity,
            "bits_per_byte": result.bits_per_byte,
            "tokens": result.tokens,
        }
        print_json(numbers)
    else:
        typer.echo(f"perplexity     {result.perplexity:.4f}")
        typer.echo(f"bits per byte  {result.bits_per_byte:.4f}")
        typer.echo(f"tokens         {result.tokens}")
