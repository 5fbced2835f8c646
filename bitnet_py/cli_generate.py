"""`bitnet generate`: text behind a prompt."""

import json
import sys
import time
from typing import Annotated, Any

import typer

from bitnet_py import cli_options as opt

__all__ = ["generate"]


def generate(
    model: opt.ModelId,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", help="the text to continue; - or nothing reads stdin"),
    ] = None,
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
    verbose: Annotated[bool, typer.Option("--verbose", help="speeds, on stderr")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Continue a text.

    Defaults are those of the model's generation_config.json, else greedy.

    A sampling option (temperature, top-k, top-p, min-p) turns sampling on.
    """
    if prompt is None or prompt == "-":
        if prompt is None and sys.stdin.isatty():
            reason = "give a prompt with -p, or on stdin"
            raise typer.BadParameter(reason)
        prompt = sys.stdin.read().removesuffix("\n")

    from bitnet_py.model import load

    begin = time.perf_counter()
    loaded = load(model, device=device, threads=threads, kv_dtype=kv_dtype, revision=revision)
    load_s = time.perf_counter() - begin
    prompt_ids = loaded.encode_prompts(prompt)[0]

    begin = time.perf_counter()
    first_s = 0.0
    texts, token_ids, finish_reason = [], [], None
    for chunk in loaded.stream(
        prompt_ids,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        prompt_lookup_num_tokens=prompt_lookup_num_tokens,
        seed=seed,
        stop_strings=stop or None,
    ):
        first_s = first_s or time.perf_counter() - begin
        texts.append(chunk.text)
        token_ids.append(chunk.token_id)
        finish_reason = chunk.finish_reason
        if not as_json:
            typer.echo(chunk.text, nl=False)
            sys.stdout.flush()
    rest_s = time.perf_counter() - begin - first_s

    speeds = {
        "load_s": load_s,
        "prompt_tokens": len(prompt_ids),
        "prompt_tokens_per_s": len(prompt_ids) / first_s,
        "new_tokens": len(token_ids),
        "new_tokens_per_s": (len(token_ids) - 1) / rest_s if len(token_ids) > 1 else None,
    }
    if as_json:
        result: dict[str, Any] = {
            "text": "".join(texts),
            "token_ids": token_ids,
            "finish_reason": finish_reason,
            **speeds,
        }
        typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        typer.echo("")
    if verbose:
        typer.echo(_speed_line(speeds, loaded.core.isa, loaded.core.threads), err=True)


def _speed_line(speeds: dict[str, Any], isa: str, threads: int) -> str:
    decode = speeds["new_tokens_per_s"]
    return (
        f"load {speeds['load_s']:.2f} s; "
        f"prompt {speeds['prompt_tokens']} tokens, {speeds['prompt_tokens_per_s']:.1f} per s; "
        f"new {speeds['new_tokens']} tokens{f', {decode:.1f} per s' if decode else ''}; "
        f"{isa}, {threads} threads"
    )
