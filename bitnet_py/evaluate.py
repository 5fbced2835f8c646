"""How well a model predicts a text: perplexity, bits per byte, the most probable tokens.

Protocol: the text is split at <|endoftext|>, each segment is stripped and tokenized without special
tokens, BOS goes before it. Windows of `context` tokens with stride `context - 1`: all but the last
token are fed, all but the first are predicted, so each token but BOS is predicted once.
perplexity = exp(sum of nll / predicted tokens); bits per byte = sum of nll / ln 2 / UTF-8 bytes of
the stripped segments. Tokenizers differ: compare models by bits per byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core
from bitnet_py.prompt import is_whole

if TYPE_CHECKING:
    from bitnet_py.model import Model

__all__ = ["Evaluation", "evaluate_text"]

SEPARATOR: Final = "<|endoftext|>"
LOGITS_BYTES: Final = 128 * 1024 * 1024  # held at once; a forward pass is cut to fit


class Evaluation(NamedTuple):
    """How a model predicts a text.

    Attributes:
        perplexity: exp of the mean negative log-likelihood per token.
        bits_per_byte: negative log2-likelihood per UTF-8 byte.
        tokens: number of predicted tokens.
        nll: float32 [tokens], negative natural log-likelihood of each token, in order.
        argmax: int32 [tokens], the most probable token at each place.
    """

    perplexity: float
    bits_per_byte: float
    tokens: int
    nll: NDArray[np.float32]
    argmax: NDArray[np.int32]


def evaluate_text(
    model: Model,
    text: str,
    *,
    context: int | None = None,
    stride: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Lets a model predict a text, by the protocol at the head of this file.

    Args:
        model: with a tokenizer.
        text: segments separated by <|endoftext|>.
        context: window length in tokens, from 2 to the model's context (the default).
        stride: tokens from one window to the next, in [1, context - 1] (the default is the
            largest). A smaller one gives each token more context: only tokens that no earlier
            window predicted count.
        on_progress: called with (tokens predicted, tokens to predict).

    Raises:
        ValueError: a model without tokenizer, a text without tokens, or sizes out of range.
    """
    if model.tokenizer is None:
        message = "[evaluate] this model has no tokenizer"
        raise ValueError(message)
    given: object = text
    if not isinstance(given, str):
        message = f"[evaluate] expected a text, got {type(text).__name__}"
        raise ValueError(message)
    longest = model.context_length
    context = longest if context is None else context
    if not is_whole(context) or not 2 <= context <= longest:
        message = f"[evaluate] expected a context in [2, {longest}], got {context!r}"
        raise ValueError(message)
    stride = context - 1 if stride is None else stride
    if not is_whole(stride) or not 1 <= stride <= context - 1:
        message = f"[evaluate] expected a stride in [1, {context - 1}], got {stride!r}"
        raise ValueError(message)

    segments = [segment.strip() for segment in text.split(SEPARATOR)]
    bos = model.bos_token_id
    ids_of = [
        np.asarray(
            ([] if bos is None else [bos])
            + model.tokenizer.encode(segment, add_special_tokens=False),
            np.int32,
        )
        for segment in segments
        if segment
    ]
    n_tokens = sum(max(len(ids) - 1, 0) for ids in ids_of)
    if n_tokens == 0:
        message = "[evaluate] expected a text of at least one token behind the first, got none"
        raise ValueError(message)

    session = model.session(min(context, max(map(len, ids_of))))
    nll: list[NDArray[np.float32]] = []
    argmax: list[NDArray[np.int32]] = []
    n_done = 0
    for ids in ids_of:
        for fed, predicted, n_known in _windows(ids, context, stride):
            session.truncate(0)
            for begin in range(0, len(fed), _rows_per_pass(model)):
                end = min(begin + _rows_per_pass(model), len(fed))
                logits = session.forward(fed[begin:end], logits="all")
                skipped = max(n_known - begin, 0)
                logits, targets = logits[skipped:], predicted[begin + skipped : end]
                nll.append(-_core.log_softmax_at(logits, targets))
                argmax.append(logits.argmax(axis=1).astype(np.int32))
                n_done += len(targets)
                if on_progress is not None:
                    on_progress(n_done, n_tokens)
    all_nll = np.concatenate(nll)
    total_nll = math.fsum(all_nll.tolist())
    n_bytes = sum(len(segment.encode()) for segment in segments)
    return Evaluation(
        perplexity=_exp(total_nll / n_tokens),
        bits_per_byte=total_nll / math.log(2) / n_bytes,
        tokens=n_tokens,
        nll=all_nll,
        argmax=np.concatenate(argmax),
    )


def _windows(
    ids: NDArray[np.int32], context: int, stride: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], int]]:
    """(tokens to feed, tokens to predict, how many of these an earlier window predicted)."""
    n_predicted = 0
    for begin in range(0, len(ids) - 1, stride):
        window = ids[begin : begin + context]
        yield window[:-1], window[1:], n_predicted - begin
        n_predicted = begin + len(window) - 1
        if n_predicted == len(ids) - 1:
            return


def _rows_per_pass(model: Model) -> int:
    return max(1, LOGITS_BYTES // (4 * int(model.config["vocab_size"])))


def _exp(value: float) -> float:
    """The exponential; infinite where a float has no room."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
