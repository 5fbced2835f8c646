"""Arguments and options that several commands of `bitnet` share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

__all__ = [
    "AsJson",
    "Device",
    "KvDtype",
    "MaxNewTokens",
    "MinP",
    "ModelId",
    "NoRepeatNgramSize",
    "PromptLookupNumTokens",
    "RepetitionPenalty",
    "Revision",
    "Seed",
    "Stop",
    "Temperature",
    "Threads",
    "TopK",
    "TopP",
]

ModelId: TypeAlias = Annotated[
    str, typer.Argument(metavar="MODEL", help="a packed folder, or owner/name on the hub")
]
Threads: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=1024, help="default: as many as the process may use")
]
Device: TypeAlias = Annotated[str, typer.Option(help="auto or cpu")]
KvDtype: TypeAlias = Annotated[
    str,
    typer.Option(help="of the KV cache: f16, int8, f32; auto: f32 for a dense f32 model, else f16"),
]
Revision: TypeAlias = Annotated[
    str | None, typer.Option(help="branch, tag or commit of a hub model")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="print one JSON object")]

MaxNewTokens: TypeAlias = Annotated[
    int | None, typer.Option("--max-new-tokens", "--max-tokens", min=1, help="stop after so many")
]
Temperature: TypeAlias = Annotated[
    float | None, typer.Option(min=0, help="divides the logits; 0 takes the best token")
]
TopK: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="keep the K most probable tokens; 0 keeps all")
]
TopP: TypeAlias = Annotated[
    float | None, typer.Option(min=0, max=1, help="keep the most probable tokens of mass P")
]
MinP: TypeAlias = Annotated[
    float | None, typer.Option(min=0, max=1, help="keep tokens of at least P times the best")
]
RepetitionPenalty: TypeAlias = Annotated[
    float | None, typer.Option(help="above 1: tokens that occurred become less likely")
]
NoRepeatNgramSize: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="no sequence of N tokens occurs twice")
]
PromptLookupNumTokens: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=256,
        help="guess N tokens from earlier text; same output, faster where text repeats itself",
    ),
]
Seed: TypeAlias = Annotated[int | None, typer.Option(min=0, help="of sampling; default: a new one")]
Stop: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="end before this text; can be repeated")
]
