"""The loop: prompts in, chunks of text out, many sequences in one pass over the weights.

Owns: prefill in slices, the batch that sequences join and leave, when a sequence ends. Does not
own: the options (sampling.py), the pick of a token (`_core.Sampler`), text (text_stream.py).

A sequence's tokens do not depend on its batch: `_core.forward_batch` gives a token the same bits
whatever is evaluated beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core
from bitnet_py.sampling import GenerationConfig
from bitnet_py.text_stream import TextStream
from bitnet_py.tokenizer import Tokenizer

__all__ = ["Chunk", "GenerationResult", "collect_results", "generate_chunks"]

PREFILL_TOKENS: Final = 512  # in one pass; between passes a caller can show progress
MAX_BATCH: Final = 32  # sequences that decode together; others wait for a place


@dataclass(frozen=True)
class Chunk:
    """One step of one sequence.

    Attributes:
        text: what can be shown now; "" while a character or a stop string may be incomplete.
        token_id: the token that was picked.
        logprob: its natural logarithm of probability under the unprocessed logits.
        index: which sequence; prompt i gives the sequences i*n to i*n + n - 1, n being
            num_return_sequences.
        finish_reason: None but in a sequence's last chunk: "stop" (end of text, or a stop string)
            or "length" (max_new_tokens, or the context is full).
    """

    text: str
    token_id: int
    logprob: float
    index: int
    finish_reason: str | None


@dataclass
class GenerationResult:
    """One finished sequence.

    Attributes:
        text: the output without the prompt, special tokens and stop string.
        token_ids: every token that was picked, the one that ended the text included.
        logprobs: one per token, see `Chunk`.
        finish_reason: "stop" or "length".
    """

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = ""


class SequenceState:
    """One sequence while it grows."""

    def __init__(
        self,
        index: int,
        prompt_ids: list[int],
        session: _core.Session,
        sampler: _core.Sampler,
        text_stream: TextStream | None,
        config: GenerationConfig,
    ) -> None:
        """Takes a session whose tokens are a beginning of the prompt."""
        self.index = index
        self.session = session
        self.finish_reason: str | None = None
        self._sampler = sampler
        self._text_stream = text_stream
        self._eos_token_ids = config.eos_token_ids
        self._length = len(prompt_ids)
        self._end = min(self._length + config.max_new_tokens, session.max_seq_len)
        self._token_ids = np.empty(self._end, np.int32)
        self._token_ids[: self._length] = prompt_ids
        # The last token is always fed again: its logits give the first new one.
        session.truncate(min(session.length, self._length - 1))

    def unread_ids(self) -> NDArray[np.int32]:
        """The tokens that the session has not seen yet."""
        return self._token_ids[self.session.length : self._length]

    def pick(self, logits: NDArray[np.float32]) -> Chunk:
        """Picks the next token from the logits [vocab] behind the last one."""
        token_id, logprob = self._sampler.sample(logits, self._token_ids[: self._length])
        self._token_ids[self._length] = token_id
        self._length += 1
        text = ""
        if token_id in self._eos_token_ids:
            self.finish_reason = "stop"
        elif self._text_stream is not None:
            text = self._text_stream.push(token_id)
            if self._text_stream.stopped:
                self.finish_reason = "stop"
        if self.finish_reason is None and self._length == self._end:
            self.finish_reason = "length"
        if self.finish_reason is not None and self._text_stream is not None:
            text += self._text_stream.finish()
        return Chunk(text, token_id, logprob, self.index, self.finish_reason)


def generate_chunks(
    prompts: Sequence[list[int]],
    config: GenerationConfig,
    tokenizer: Tokenizer | None,
    new_session: Callable[[list[int], int], _core.Session],
    context_length: int,
    on_prefill: Callable[[int, int], None] | None = None,
) -> Iterator[Chunk]:
    """Generates for every prompt; chunks of different sequences come interleaved.

    Args:
        prompts: token ids of each, BOS included.
        config: the options.
        tokenizer: makes text; without one every chunk's text is "".
        new_session: makes a session for a prompt with room for so many tokens; it may hold the
            beginning of the prompt already.
        context_length: the most tokens that prompt and output have together.
        on_prefill: called with (tokens read, tokens to read) of the prompts being read.

    Raises:
        ValueError: a prompt that is empty or fills the context, or stop strings without a
            tokenizer. Raised here, before the first chunk is asked for.
    """
    if not prompts:
        message = "[generate] expected a prompt or several, got none"
        raise ValueError(message)
    if config.stop_strings and tokenizer is None:
        message = "[generate] stop strings need a tokenizer, and this model has none"
        raise ValueError(message)
    for prompt in prompts:
        if not 0 < len(prompt) < context_length:
            message = (
                f"[generate] expected a prompt of 1 to {context_length - 1} tokens (the context "
                f"holds {context_length}, one is for the output), got {len(prompt)}"
            )
            raise ValueError(message)

    n_each, seed = config.num_return_sequences, config.call_seed()

    def states_of(prompt_index: int) -> list[SequenceState]:
        prompt_ids = prompts[prompt_index]
        capacity = min(context_length, len(prompt_ids) + config.max_new_tokens)
        return [
            SequenceState(
                index,
                prompt_ids,
                new_session(prompt_ids, capacity),
                config.sampler(index, seed),
                TextStream(tokenizer, prompt_ids, config.stop_strings) if tokenizer else None,
                config,
            )
            for index in range(prompt_index * n_each, (prompt_index + 1) * n_each)
        ]

    return _run(deque(range(len(prompts))), states_of, on_prefill)


def collect_results(chunks: Iterable[Chunk], n_sequences: int) -> list[GenerationResult]:
    """Puts the chunks of each sequence together."""
    results = [GenerationResult() for _ in range(n_sequences)]
    for chunk in chunks:
        result = results[chunk.index]
        result.text += chunk.text
        result.token_ids.append(chunk.token_id)
        result.logprobs.append(chunk.logprob)
        result.finish_reason = chunk.finish_reason or ""
    return results


def _run(
    waiting: deque[int],
    states_of: Callable[[int], list[SequenceState]],
    on_prefill: Callable[[int, int], None] | None,
) -> Iterator[Chunk]:
    """Decodes up to MAX_BATCH sequences at once; who is done makes room for who waits."""
    active: list[SequenceState] = []
    while waiting or active:
        newcomers: list[list[SequenceState]] = []
        while waiting and len(active) + len(newcomers) < MAX_BATCH:
            newcomers.append(states_of(waiting.popleft()))
        first_rows = _prefill(newcomers, on_prefill)
        last_ids = [state.unread_ids() for state in active]
        rows = _core.forward_batch([s.session for s in active], last_ids) if active else ()
        active += [state for siblings in newcomers for state in siblings]
        for state, row in zip(active, (*rows, *first_rows), strict=True):
            yield state.pick(row)
        active = [state for state in active if state.finish_reason is None]


def _prefill(
    newcomers: list[list[SequenceState]], on_prefill: Callable[[int, int], None] | None
) -> list[NDArray[np.float32]]:
    """Reads the prompts; siblings share one reading. Returns each sequence's last logits."""
    leaders = [siblings[0] for siblings in newcomers]
    n_total = sum(len(state.unread_ids()) for state in leaders)
    last_row: dict[int, NDArray[np.float32]] = {}
    unread = leaders
    while unread:
        batch, slices, room = [], [], PREFILL_TOKENS
        for state in unread:
            slices.append(state.unread_ids()[:room])
            batch.append(state)
            room -= len(slices[-1])
            if room == 0:
                break
        rows = _core.forward_batch([state.session for state in batch], slices)
        for state, row in zip(batch, rows, strict=True):
            last_row[state.index] = row  # the row behind a prompt's last slice stays
        unread = [state for state in unread if len(state.unread_ids()) > 0]
        if on_prefill is not None:
            on_prefill(n_total - sum(len(state.unread_ids()) for state in unread), n_total)
    for leader, *others in newcomers:
        for state in others:
            state.session.import_kv(*leader.session.export_kv())
    return [last_row[siblings[0].index] for siblings in newcomers for _ in siblings]
