"""Text to token ids and back, by the tokenizer files of a model's folder.

Owns: which file is read (tokenizer.json, else tokenizer.model), which special tokens there are, BOS
and EOS around a text. Does not own: the algorithms (libraries `tokenizers`, `sentencepiece`), text
that arrives token by token (text_stream.py), chat templates (chat_template.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from bitnet_py.errors import FormatError
from bitnet_py.json_file import read_json_object
from bitnet_py.model_files import (
    ADDED_TOKENS,
    SENTENCEPIECE,
    SPECIAL_TOKENS_MAP,
    TOKENIZER,
    TOKENIZER_CONFIG,
)

__all__ = ["Tokenizer", "load_tokenizer"]

SPECIAL_NAMES: Final = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip


class Backend(Protocol):
    """A tokenizer library behind the four functions that are needed here."""

    vocab_size: int
    special_ids: frozenset[int]

    def encode(self, text: str, add_special_tokens: bool) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str: ...
    def token_to_id(self, token: str) -> int | None: ...
    def id_to_token(self, token_id: int) -> str | None: ...


class Tokenizer:
    """A model's tokenizer.

    Attributes:
        special_tokens: what the folder calls bos_token, eos_token, ..., those that it has.
        special_ids: ids that `decode` leaves out.
        vocab_size: number of ids, added tokens included.
    """

    def __init__(self, backend: Backend, special_tokens: Mapping[str, str]) -> None:
        """Wraps a library's tokenizer; `load_tokenizer` makes one from a folder."""
        self._backend = backend
        self.special_tokens = dict(special_tokens)
        self.special_ids = backend.special_ids
        self.vocab_size = backend.vocab_size

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text, with BOS and EOS where this tokenizer puts them.

        Special tokens that are spelled out in the text become their ids, as in `transformers`.

        Raises:
            ValueError: not a text, or one with half of a surrogate pair in it (which is what Python
                makes of bytes that are not UTF-8).
        """
        given: object = text
        if not isinstance(given, str):
            message = f"[tokenizer] expected a text, got {type(text).__name__}"
            raise ValueError(message)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            message = (
                f"[tokenizer] expected a text of Unicode characters, got {text[error.start]!a} at "
                f"character {error.start} (bytes that are not UTF-8?)"
            )
            raise ValueError(message) from None
        return self._backend.encode(text, add_special_tokens)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return self._backend.decode(ids, skip_special_tokens)

    def token_to_id(self, token: str) -> int | None:
        """The id of exactly this token, None when there is none."""
        return self._backend.token_to_id(token)

    def id_to_token(self, token_id: int) -> str | None:
        """The token of an id as the vocabulary spells it, None when there is none."""
        return self._backend.id_to_token(token_id)

    @property
    def bos_token_id(self) -> int | None:
        """The id that begins a text, None when this tokenizer has none."""
        return self._special_id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """The id that ends a text, None when this tokenizer has none."""
        return self._special_id("eos_token")

    def _special_id(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        return None if token is None else self._backend.token_to_id(token)


def load_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder: tokenizer.json, else tokenizer.model; None without either.

    Raises:
        FormatError: a tokenizer file that its library refuses, or a config that is not JSON.
    """
    config = _read_optional(folder / TOKENIZER_CONFIG)
    special_tokens = _named_tokens(_read_optional(folder / SPECIAL_TOKENS_MAP))
    special_tokens |= _named_tokens(config)
    backend: Backend
    if (folder / TOKENIZER).is_file():
        backend = FastBackend(folder / TOKENIZER)
    elif (folder / SENTENCEPIECE).is_file():
        added = _added_tokens(config) | _read_optional(folder / ADDED_TOKENS)
        sentencepiece = SentencePieceBackend(folder / SENTENCEPIECE, config, added)
        special_tokens = sentencepiece.model_tokens | special_tokens
        backend = sentencepiece
    else:
        return None
    model_config = _read_optional(folder / "config.json")
    for name in ("bos_token", "eos_token"):
        token_id = model_config.get(f"{name}_id")
        if name not in special_tokens and name not in config and isinstance(token_id, int):
            token = backend.id_to_token(token_id)
            if token is not None:
                special_tokens[name] = token
    return Tokenizer(backend, special_tokens)


class FastBackend:
    """A tokenizer.json, through the library `tokenizers`; its own template adds BOS and EOS."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            FormatError: the library refuses it.
        """
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            message = f"{path}: not a tokenizer that the library tokenizers reads: {error}"
            raise FormatError(message) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size: int = self._tokenizer.get_vocab_size()
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """See `Tokenizer.encode`."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """See `Tokenizer.decode`."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    def token_to_id(self, token: str) -> int | None:
        """See `Tokenizer.token_to_id`."""
        token_id: int | None = self._tokenizer.token_to_id(token)
        return token_id

    def id_to_token(self, token_id: int) -> str | None:
        """See `Tokenizer.id_to_token`."""
        token: str | None = self._tokenizer.id_to_token(token_id)
        return token


class SentencePieceBackend:
    """A tokenizer.model, through the library `sentencepiece`; BOS is added unless told otherwise.

    Attributes:
        model_tokens: bos_token, eos_token and unk_token as the model itself names them.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], added: Mapping[str, Any]) -> None:
        """Reads the file.

        Args:
            path: the file.
            config: tokenizer_config.json; add_bos_token (default true) and add_eos_token count.
            added: tokens beyond the model's own, by name.

        Raises:
            FormatError: the library refuses it.
        """
        import sentencepiece

        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(path.read_bytes())
        except RuntimeError as error:
            message = f"{path}: not a SentencePiece model: {error}"
            raise FormatError(message) from None
        ids = {
            "bos_token": self._model.bos_id(),
            "eos_token": self._model.eos_id(),
            "unk_token": self._model.unk_id(),
        }
        self.model_tokens = {n: self._model.id_to_piece(i) for n, i in ids.items() if i >= 0}
        self._added = {token: i for token, i in added.items() if isinstance(i, int)}
        self._added |= {self.model_tokens[name]: ids[name] for name in self.model_tokens}
        self._name_of = {token_id: token for token, token_id in self._added.items()}
        self._split = re.compile(
            "(" + "|".join(re.escape(t) for t in sorted(self._added, key=len, reverse=True)) + ")"
        )
        self._bos, self._eos = (
            [ids[name]] if ids[name] >= 0 and config.get(f"add_{name}", default) else []
            for name, default in (("bos_token", True), ("eos_token", False))
        )
        self.special_ids = frozenset(self._added.values())
        self.vocab_size = max(self._model.get_piece_size(), 1 + max(self._name_of))

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """See `Tokenizer.encode`."""
        ids: list[int] = []
        for i, part in enumerate(self._split.split(text)):  # odd parts are special tokens
            ids += [self._added[part]] if i % 2 else self._model.encode(part)
        return self._bos + ids + self._eos if add_special_tokens else ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """See `Tokenizer.decode`."""
        text, run = "", []
        for token_id in ids:
            if token_id not in self.special_ids:
                if token_id < self._model.get_piece_size():
                    run.append(int(token_id))
            elif not skip_special_tokens:
                text += self._model.decode(run) + self._name_of[token_id]
                run = []
        return text + str(self._model.decode(run))

    def token_to_id(self, token: str) -> int | None:
        """See `Tokenizer.token_to_id`."""
        if token in self._added:
            return self._added[token]
        token_id = int(self._model.piece_to_id(token))
        return token_id if self._model.id_to_piece(token_id) == token else None

    def id_to_token(self, token_id: int) -> str | None:
        """See `Tokenizer.id_to_token`."""
        if token_id in self._name_of:
            return self._name_of[token_id]
        known = 0 <= token_id < self._model.get_piece_size()
        return str(self._model.id_to_piece(token_id)) if known else None


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """bos_token, ... of a config; each is a string, or an object with `content`."""
    found = {}
    for name in SPECIAL_NAMES:
        token = config.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            found[name] = text
    return found


def _added_tokens(config: Mapping[str, Any]) -> dict[str, int]:
    """added_tokens_decoder of tokenizer_config.json: id as text -> {"content": ...}."""
    decoder = config.get("added_tokens_decoder")
    if not isinstance(decoder, dict):
        return {}
    return {
        token["content"]: int(token_id)
        for token_id, token in decoder.items()
        if token_id.isdigit() and isinstance(token, dict) and isinstance(token.get("content"), str)
    }
