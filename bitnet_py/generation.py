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
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core
from bitnet_py.sampling import GenerationConfig
from bitnet_py.text_stream import TextStream
from bitnet_py.tokenizer import Tokenizer

__all__ = ["Chunk", "GenerationResult", "collect_results", "generate_chunks"]

PREFILL_TOKENS: Final = 512  # in one pass; between passes a caller can show progress
STEP_TOKENS: Final = 512  # of all sequences with their guesses: each has logits of its own
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
        self._lookup = config.prompt_lookup_num_tokens or 0
        self._ngram_size = config.max_matching_ngram_size
        self._n_guessed = 0
        self._length = len(prompt_ids)
        self._end = min(self._length + config.max_new_tokens, session.max_seq_len)
        self._token_ids = np.empty(self._end, np.int32)
        self._token_ids[: self._length] = prompt_ids
        # The last token is always fed again: its logits give the first new one.
        session.truncate(min(session.length, self._length - 1))

    def unread_ids(self) -> NDArray[np.int32]:
        """The tokens that the session has not seen yet, guesses at their end."""
        return self._token_ids[self.session.length : self._length + self._n_guessed]

    def guess(self, n_most: int) -> int:
        """Guesses what comes next, where that is asked for; returns how many tokens."""
        room = min(self._lookup, self._end - self._length - 1, n_most)
        known = self._token_ids[: self._length]
        guesses = look_up(known, self._ngram_size, room) if room > 0 else known[:0]
        self._n_guessed = len(guesses)
        self._token_ids[self._length : self._length + len(guesses)] = guesses
        return self._n_guessed

    def pick_all(self, rows: NDArray[np.float32]) -> list[Chunk]:
        """Picks from logits [1 + guesses, vocab] behind the last token and every guess.

        A row counts while the tokens before it are the picked ones; the session forgets the rest.
        """
        guesses = self._token_ids[self._length : self._length + self._n_guessed].tolist()
        self._n_guessed = 0
        chunks: list[Chunk] = []
        for row, guessed in zip(rows, (*guesses, None), strict=True):
            chunks.append(self.pick(row))
            if self.finish_reason is not None or chunks[-1].token_id != guessed:
                break
        self.session.truncate(self._length - 1)
        return chunks

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
            if prompt:
                message += "; shorten it, or take a model with a larger context"
            raise ValueError(message)

    n_each, seed = config.num_return_sequences, config.call_seed()

    def state_of(index: int) -> SequenceState:
        prompt_ids = prompts[index // n_each]
        return SequenceState(
            index,
            prompt_ids,
            new_session(prompt_ids, min(context_length, len(prompt_ids) + config.max_new_tokens)),
            config.sampler(index, seed),
            TextStream(tokenizer, prompt_ids, config.stop_strings) if tokenizer else None,
            config,
        )

    waiting = deque(range(len(prompts) * n_each))
    return _run(waiting, state_of, PromptReader(n_each, on_prefill))


def look_up(token_ids: NDArray[np.int32], ngram_size: int, n_most: int) -> NDArray[np.int32]:
    """What followed the last n-gram where it occurred before.

    Args:
        token_ids: int32 [tokens].
        ngram_size: the longest n-gram; where it is new, shorter ones are tried.
        n_most: how many tokens to return at most.

    Returns:
        int32 [0 to n_most]: behind the latest occurrence that enough tokens follow, else behind
        the first.
    """
    for size in range(min(ngram_size, len(token_ids) - 1), 0, -1):
        n_places = len(token_ids) - size
        is_match = np.ones(n_places, bool)
        for offset in range(size):
            is_match &= token_ids[offset : offset + n_places] == token_ids[n_places + offset]
        (ends,) = np.nonzero(is_match)
        if len(ends) > 0:
            ends += size
            followed = ends[ends + n_most <= len(token_ids)]
            begin = followed[-1] if len(followed) > 0 else ends[0]
            return token_ids[begin : begin + n_most].copy()
    return token_ids[:0]


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
    waiting: deque[int], state_of: Callable[[int], SequenceState], reader: PromptReader
) -> Iterator[Chunk]:
    """Decodes up to MAX_BATCH sequences at once; who is done makes room for who waits."""
    active: list[SequenceState] = []
    while waiting or active:
        n_free = min(len(waiting), MAX_BATCH - len(active))
        newcomers = [state_of(waiting.popleft()) for _ in range(n_free)]
        first_rows = reader.read(newcomers)
        chunks = _step(active)
        active += newcomers
        chunks += [state.pick(row) for state, row in zip(newcomers, first_rows, strict=True)]
        yield from chunks
        active = [state for state in active if state.finish_reason is None]


def _step(active: list[SequenceState]) -> list[Chunk]:
    """One pass over the weights: a token of every sequence, or several where guesses were right."""
    if not active:
        return []
    n_rows = [1 + state.guess(STEP_TOKENS // len(active) - 1) for state in active]
    rows = _core.forward_batch(
        [state.session for state in active], [state.unread_ids() for state in active], "all"
    )
    ends = np.cumsum(n_rows)
    return [
        chunk
        for state, n, end in zip(active, n_rows, ends, strict=True)
        for chunk in state.pick_all(rows[end - n : end])
    ]


class ReadPrompt(NamedTuple):
    """What one sequence knows after its prompt, for its siblings.

    Attributes:
        prompt: which one.
        k: keys, as `_core.Session.export_kv` gives them.
        v: values, likewise.
        row: float32 [vocab], the logits behind the prompt.
    """

    prompt: int
    k: NDArray[np.uint8]
    v: NDArray[np.uint8]
    row: NDArray[np.float32]


class PromptReader:
    """Reads prompts; each once, however many sequences continue it and whenever they join."""

    def __init__(self, n_each: int, on_prefill: Callable[[int, int], None] | None) -> None:
        """Takes the number of sequences per prompt, and who is told of the progress."""
        self._n_each = n_each
        self._on_prefill = on_prefill
        self._kept: ReadPrompt | None = None  # while siblings of its reader wait

    def read(self, newcomers: list[SequenceState]) -> list[NDArray[np.float32]]:
        """Gives sequences, in the order of their indices, their prompts; returns last logits."""
        leaders: dict[int, SequenceState] = {}  # who reads for its siblings, by prompt
        for state in newcomers:
            prompt = state.index // self._n_each
            if self._kept is None or prompt != self._kept.prompt:
                leaders.setdefault(prompt, state)
        row_of = self._forward(list(leaders.values()))
        rows = []
        for state in newcomers:
            prompt = state.index // self._n_each
            if leaders.get(prompt) is state:
                rows.append(row_of[state.index])
                if self._n_each > 1:
                    kv = state.session.export_kv()
                    self._kept = ReadPrompt(prompt, *kv, row_of[state.index].copy())
            elif self._kept is not None:
                state.session.import_kv(self._kept.k, self._kept.v)
                rows.append(self._kept.row)
        if newcomers and (newcomers[-1].index + 1) % self._n_each == 0:
            self._kept = None
        return rows

    def _forward(self, unread: list[SequenceState]) -> dict[int, NDArray[np.float32]]:
        """Feeds prompts in slices; the logits behind each, by the sequence's index."""
        n_total = sum(len(state.unread_ids()) for state in unread)
        last_row: dict[int, NDArray[np.float32]] = {}
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
            if self._on_prefill is not None:
                n_left = sum(len(state.unread_ids()) for state in unread)
                self._on_prefill(n_total - n_left, n_total)
        return last_row
