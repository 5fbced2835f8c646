"""A model's chat template: messages in, the text that the model was trained on out.

Owns: where templates stand in a folder, what they are given. The same text as `transformers`
renders. Does not own: the limits of what a template may do (template_sandbox.py).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.parser import Parser

from bitnet_py.errors import FormatError
from bitnet_py.json_file import read_json_object
from bitnet_py.model_files import (
    CHAT_TEMPLATE,
    CHAT_TEMPLATES,
    TOKENIZER_CONFIG,
    named_template_files,
)
from bitnet_py.template_sandbox import MeteredEnvironment, TemplateLimitError
from bitnet_py.text_file import read_text

__all__ = ["ChatTemplate", "load_chat_template"]

MAX_TEMPLATE_BYTES: Final = 1 << 16  # all of a model; the largest in use are some 20 KB
MAX_JSON_SPACE: Final = 64  # characters that tojson may put between two elements


class ConversationError(ValueError):
    """What a template itself refuses, by `raise_exception`."""


class ChatTemplate:
    """A compiled chat template, or several with names.

    Attributes:
        names: of the templates; "default" is taken when none is asked for, "tool_use" with tools.
    """

    def __init__(
        self,
        templates: str | Mapping[str, str],
        special_tokens: Mapping[str, str] | None = None,
        where: str = "chat template",
    ) -> None:
        """Compiles.

        Args:
            templates: Jinja text, or texts by name.
            special_tokens: bos_token, eos_token, ..., which templates write themselves.
            where: names the template in errors.

        Raises:
            FormatError: not a template.
        """
        self._where = where
        self._special_tokens = dict(special_tokens or {})
        self._environment = _make_environment()
        self._turn = threading.Lock()
        texts = {"default": templates} if isinstance(templates, str) else templates
        n_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts.values())
        if n_bytes > MAX_TEMPLATE_BYTES:
            message = f"{where}: {n_bytes} bytes, more than {MAX_TEMPLATE_BYTES}"
            raise FormatError(message)
        self._templates = {name: self._compile(text) for name, text in texts.items()}
        self.names = tuple(self._templates)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_name: str | None = None,
        **variables: Any,
    ) -> str:
        """The conversation as text. It has its BOS already: encode it without special tokens.

        Args:
            messages: each with a role and mostly a content.
            add_generation_prompt: end with what begins an answer.
            tools: JSON schemas of functions that the model may call.
            template_name: one of `names`.
            **variables: more that the template knows.

        Raises:
            ValueError: messages that are none, a name that is none, or a conversation that the
                template refuses.
            FormatError: a template that fails, runs too long, or makes too much.
        """
        for message in messages:
            if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
                reason = f"[chat] expected messages with a role, got {message!r}"
                raise ValueError(reason)
        if template_name is None:
            template_name = "tool_use" if tools and "tool_use" in self.names else "default"
        if template_name not in self._templates:
            reason = f"[chat] expected a template of {', '.join(self.names)}, got {template_name!r}"
            raise ValueError(reason)
        known = {
            "messages": [dict(message) for message in messages],
            "tools": None if tools is None else [dict(tool) for tool in tools],
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        with self._turn:
            self._environment.start_clock()
            try:
                self._environment.measure(known)
            except TemplateLimitError:
                reason = "[chat] expected a conversation of at most 16 million characters"
                raise ValueError(reason) from None
            try:
                template = self._templates[template_name]
                return template.render(known | self._special_tokens | variables)
            except ConversationError as error:
                reason = f"[chat] the template refuses this conversation: {error}"
                raise ValueError(reason) from None
            except Exception as error:  # the template's own: whatever it does wrong
                self._refuse(error)

    def _compile(self, text: str) -> jinja2.Template:
        self._environment.start_clock()
        try:
            return self._environment.from_string(text)
        except Exception as error:  # jinja2's own, or Python's compiler on what jinja2 made
            self._refuse(error)

    def _refuse(self, error: Exception) -> NoReturn:
        line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        message = f"{self._where}{line}: {type(error).__name__}: {error}"
        raise FormatError(message) from None


def load_chat_template(
    folder: Path, special_tokens: Mapping[str, str] | None = None
) -> ChatTemplate | None:
    """The chat template of a folder; None when it has none.

    chat_template.jinja, with chat_templates/*.jinja beside it under their names; else the field
    chat_template of tokenizer_config.json, one text or a list of named ones.

    Raises:
        FormatError: a template that is none.
    """
    default, others = folder / CHAT_TEMPLATE, folder / CHAT_TEMPLATES
    paths = {"default": default} if default.is_file() else {}
    paths |= {path.stem: path for path in named_template_files(folder)}
    if paths:
        read = {name: read_text(path, MAX_TEMPLATE_BYTES) for name, path in paths.items()}
        return ChatTemplate(read, special_tokens, str(default if default.is_file() else others))

    path = folder / TOKENIZER_CONFIG
    value = read_json_object(path).get("chat_template") if path.is_file() else None
    if value is None:
        return None
    texts: dict[Any, Any] = {"default": value}
    if isinstance(value, list):
        entries = [entry if isinstance(entry, dict) else {} for entry in value]
        texts = {entry.get("name"): entry.get("template") for entry in entries}
    if not texts or not all(isinstance(part, str) for pair in texts.items() for part in pair):
        message = f"{path}: chat_template must be a text, or a list of objects with name, template"
        raise FormatError(message)
    return ChatTemplate(texts, special_tokens, f"{path}: chat_template")


class GenerationBlock(Extension):
    """`{% generation %}`: marks what the assistant says, for training; here just its content."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it without ClassVar)

    def parse(self, parser: Parser) -> list[jinja2.nodes.Node]:
        """Gives the block's body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _make_environment() -> MeteredEnvironment:
    environment = MeteredEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[GenerationBlock, "jinja2.ext.loopcontrols"],
    )
    environment.add_filter(
        "tojson", lambda *args, **kwargs: environment.concat(_json_parts(*args, **kwargs))
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _json_parts(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> Iterator[str]:
    """Not jinja2's filter, which escapes HTML; the same as in `transformers`, piece by piece."""
    space = indent if isinstance(indent, int) else len(indent or "")
    if max(space, *map(len, separators or ("", ""))) > MAX_JSON_SPACE:
        message = f"tojson with more than {MAX_JSON_SPACE} characters between elements"
        raise TemplateLimitError(message)
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    return encoder.iterencode(value)


def _raise_exception(message: Any) -> NoReturn:
    raise ConversationError(str(message))


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
