"""The small files of a model's folder: tokenizer, chat templates, defaults of generation.

Owns: their names, for the hub's patterns, the converter's copy and the readers. Does not own: the
tensors' files (safetensors_file.py), what is in any of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = [
    "ADDED_TOKENS",
    "CHAT_TEMPLATE",
    "CHAT_TEMPLATES",
    "GENERATION_CONFIG",
    "HUB_PATTERNS",
    "SENTENCEPIECE",
    "SPECIAL_TOKENS_MAP",
    "TOKENIZER",
    "TOKENIZER_CONFIG",
    "companion_files",
    "named_template_files",
]

TOKENIZER: Final = "tokenizer.json"
SENTENCEPIECE: Final = "tokenizer.model"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
SPECIAL_TOKENS_MAP: Final = "special_tokens_map.json"
ADDED_TOKENS: Final = "added_tokens.json"
CHAT_TEMPLATE: Final = "chat_template.jinja"
CHAT_TEMPLATES: Final = "chat_templates"  # a folder of more templates, NAME.jinja
GENERATION_CONFIG: Final = "generation_config.json"

COMPANIONS: Final = (
    TOKENIZER,
    SENTENCEPIECE,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS_MAP,
    ADDED_TOKENS,
    "vocab.json",
    "merges.txt",
    CHAT_TEMPLATE,
    GENERATION_CONFIG,
)

# What is fetched of a model on the hub: never pickles, never code.
HUB_PATTERNS: Final = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    *COMPANIONS,
    f"{CHAT_TEMPLATES}/*.jinja",
)


def named_template_files(folder: Path) -> list[Path]:
    """The files of chat_templates/, in the order of their names."""
    return sorted(path for path in (folder / CHAT_TEMPLATES).glob("*.jinja") if path.is_file())


def companion_files(folder: Path) -> Iterator[Path]:
    """Those of a folder that are there, relative to it."""
    for name in COMPANIONS:
        if (folder / name).is_file():
            yield Path(name)
    for path in named_template_files(folder):
        yield path.relative_to(folder)
