"""What callers give as prompts, made into token ids: text or ids, one or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from bitnet_py.tokenizer import Tokenizer

__all__ = ["Prompts", "TokenIds", "as_token_ids", "encode_prompts", "is_single", "is_whole"]

TokenIds: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
Prompts: TypeAlias = str | TokenIds | Sequence[str] | Sequence[TokenIds]  # one, or several


def as_token_ids(token_ids: TokenIds, vocab_size: int) -> NDArray[np.int32]:
    """Checks ids and makes them int32 [T].

    Raises:
        ValueError: not a flat sequence of whole numbers in [0, vocab_size).
    """
    if not _is_list(token_ids):
        message = f"[model] expected a sequence of token ids, got {type(token_ids).__name__}"
        raise ValueError(message)
    ids = np.asarray(token_ids, None if len(token_ids) else np.int32)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        message = f"[model] expected a sequence of token ids, got {ids.dtype} {list(ids.shape)}"
        raise ValueError(message)
    wrong = ids[(ids < 0) | (ids >= vocab_size)]
    if wrong.size:
        message = f"[model] expected token ids in [0, {vocab_size}), got {wrong[0]}"
        raise ValueError(message)
    return ids.astype(np.int32)


def encode_prompts(
    prompts: Prompts, tokenizer: Tokenizer | None, bos_token_id: int | None, vocab_size: int
) -> list[list[int]]:
    """The token ids of every prompt; a text that has none becomes a lone BOS.

    Raises:
        ValueError: text without a tokenizer, or ids out of range.
    """
    if not isinstance(prompts, str) and not _is_list(prompts):
        kind = type(prompts).__name__
        message = f"[generate] expected a text, token ids, or several of them, got {kind}"
        raise ValueError(message)
    if is_single(prompts):
        several = [cast("str | TokenIds", prompts)]
    else:
        several = list(cast("Sequence[str] | Sequence[TokenIds]", prompts))
    encoded = []
    for prompt in several:
        if not isinstance(prompt, str):
            encoded.append(as_token_ids(prompt, vocab_size).tolist())
        elif tokenizer is None:
            message = "[generate] this model has no tokenizer: give token ids instead of text"
            raise ValueError(message)
        else:
            ids = tokenizer.encode(prompt)
            encoded.append([bos_token_id] if not ids and bos_token_id is not None else ids)
    return encoded


def is_single(prompts: Prompts) -> bool:
    """Whether this is one prompt: a text, or ids."""
    if isinstance(prompts, str) or len(prompts) == 0:
        return True
    return not isinstance(prompts[0], (str, Sequence, np.ndarray))


def is_whole(value: Any) -> bool:
    """Whether a caller's argument is a whole number; True and False are none."""
    return hasattr(value, "__index__") and not isinstance(value, bool) and np.ndim(value) == 0


def _is_list(value: Any) -> bool:
    """Whether this is a sequence, or an array or tensor of at least one dimension."""
    if isinstance(value, (str, bytes)):
        return False
    return isinstance(value, Sequence) or (hasattr(value, "__array__") and np.ndim(value) > 0)
