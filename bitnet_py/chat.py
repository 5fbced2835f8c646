"""A conversation: the messages, and a KV cache that stays between turns.

Owns: what of the cache is still right when the next turn is rendered. Does not own: how messages
become text (chat_template.py), the loop (generation.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bitnet_py import _core
from bitnet_py.generation import Chunk, generate_chunks

if TYPE_CHECKING:
    from bitnet_py.model import Model

__all__ = ["ChatSession", "common_prefix_length"]


class ChatSession:
    """One conversation with a model.

    A turn is rendered whole, as `transformers` does, and then only the tokens behind the longest
    beginning that the cache already holds are read.

    Attributes:
        messages: so far, each with role and content; edit them freely between turns.
    """

    def __init__(self, model: Model, system_prompt: str | None = None) -> None:
        """Begins a conversation.

        Args:
            model: with a tokenizer and a chat template.
            system_prompt: content of a first message of role "system".

        Raises:
            ValueError: the model has no tokenizer or no chat template.
            FormatError: the template is not one.
        """
        tokenizer, template = model.tokenizer, model.chat_template
        if tokenizer is None or template is None:
            missing = "tokenizer" if tokenizer is None else "chat template"
            message = f"[chat] this model has no {missing}; use generate, which needs none"
            raise ValueError(message)
        self.messages: list[dict[str, Any]] = []
        if system_prompt is not None:
            self.messages.append({"role": "system", "content": system_prompt})
        self._model, self._tokenizer, self._template = model, tokenizer, template
        self._session = model.session()
        self._cached_ids: list[int] = []  # of the tokens in the session

    def stream(self, text: str, **options: Any) -> Iterator[Chunk]:
        """Says something; gives the answer as it comes.

        The answer joins `messages` when the chunks end, or as far as it came when the caller stops
        asking for them. A call whose chunks are never asked for changes nothing.

        Args:
            text: the user's message.
            **options: fields of `GenerationConfig`, on top of the model's defaults;
                num_return_sequences is 1 here.

        Raises:
            ValueError: an option out of range, a conversation that the template refuses, or one
                that the context has no room for.
            FormatError: the template fails.
        """
        config = self._model.generation_config.with_options(options)
        if config.num_return_sequences != 1:
            message = f"[chat] expected one answer, got {config.num_return_sequences}"
            raise ValueError(message)
        user = {"role": "user", "content": text}
        prompt_ids = self._tokenizer.encode(
            self._template.render([*self.messages, user]), add_special_tokens=False
        )
        chunks = generate_chunks(
            [prompt_ids],
            config,
            self._tokenizer,
            self._rewound_session,
            self._model.context_length,
        )
        return self._answer(user, prompt_ids, chunks)

    def send(self, text: str, **options: Any) -> str:
        """Says something; returns the answer. Arguments and errors are those of `stream`."""
        return "".join(chunk.text for chunk in self.stream(text, **options))

    def clear(self) -> None:
        """Forgets the conversation; a system prompt stays."""
        self.messages = [message for message in self.messages[:1] if message["role"] == "system"]

    def _rewound_session(self, prompt_ids: list[int], _: int) -> _core.Session:
        """The session, less what the prompt does not begin with."""
        n_common = common_prefix_length(self._cached_ids, prompt_ids)
        self._session.truncate(min(n_common, self._session.length))
        return self._session

    def _answer(
        self, user: dict[str, Any], prompt_ids: list[int], chunks: Iterator[Chunk]
    ) -> Iterator[Chunk]:
        """Passes the chunks on; the turn is remembered however it ends."""
        text, ids = "", list(prompt_ids)
        self.messages.append(user)
        try:
            for chunk in chunks:
                text += chunk.text
                ids.append(chunk.token_id)
                yield chunk
        finally:
            self.messages.append({"role": "assistant", "content": text.strip()})
            self._cached_ids = ids[: self._session.length]


def common_prefix_length(a: list[int], b: list[int]) -> int:
    """How many first elements are equal."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(np.not_equal(a[:n], b[:n]))
    return int(differ[0]) if differ.size else n
