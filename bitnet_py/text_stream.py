"""Text from token ids that come one at a time.

Owns: when text may be shown. Bytes of a character that is not complete yet are held back, and so is
text that may be the beginning of a stop string. Does not own: decoding (tokenizer.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bitnet_py.tokenizer import Tokenizer

__all__ = ["TextStream"]

REPLACEMENT: Final = "\ufffd"  # what decoders write for bytes that are not UTF-8 (yet)
CONTEXT_TOKENS: Final = 6  # of the prompt, so that a first token's leading space is kept
MAX_HELD_TOKENS: Final = 64  # a longer run without a complete character is broken, show it


class TextStream:
    """Turns ids into text as they come.

    The pieces together are what the tokenizer makes of the prompt with all ids behind it, less the
    prompt's own text. (Of bytes that are not UTF-8 decoders make U+FFFD, one per byte or one per
    run; there the pieces may have fewer.)

    Attributes:
        stopped: whether a stop string was found; it and the text behind it are left out.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: Sequence[int], stop_strings: Sequence[str] = ()
    ) -> None:
        """Begins behind a prompt.

        Args:
            tokenizer: decodes.
            prompt_ids: the ids before the first one pushed; none of their text is given out.
            stop_strings: none of them empty.
        """
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop_strings = tuple(stop_strings)
        self._held = ""  # complete text that may be the beginning of a stop string
        self._window = self._last_text_ids(prompt_ids)
        self._shown_text = tokenizer.decode(self._window)  # of the window: given out, or prompt
        self._n_shown = len(self._window)

    def push(self, token_id: int) -> str:
        """Takes one id; returns the text that can be shown now, often one piece late."""
        if self.stopped or token_id in self._tokenizer.special_ids:
            return ""
        self._window.append(token_id)
        text = self._tokenizer.decode(self._window)
        is_complete = not text.endswith(REPLACEMENT)
        if not is_complete and len(self._window) - self._n_shown < MAX_HELD_TOKENS:
            return ""
        return self._release(self._advance(text), is_last=False)

    def finish(self) -> str:
        """The rest: no more ids will come."""
        if self.stopped:
            return ""
        return self._release(self._advance(self._tokenizer.decode(self._window)), is_last=True)

    def _last_text_ids(self, prompt_ids: Sequence[int]) -> list[int]:
        """The prompt's last ids that have text, from the beginning of a character on."""
        special_ids = self._tokenizer.special_ids
        ids = [int(token_id) for token_id in prompt_ids if token_id not in special_ids]
        n_kept = CONTEXT_TOKENS
        while n_kept < len(ids) and REPLACEMENT in self._tokenizer.decode(ids[-n_kept:]):
            n_kept *= 2
        return ids[-n_kept:]

    def _advance(self, text: str) -> str:
        """What the window's text has beyond the part shown; that part leaves the window."""
        new_text = text[len(self._shown_text) :]
        self._window = self._window[self._n_shown :]
        self._n_shown = len(self._window)
        self._shown_text = self._tokenizer.decode(self._window)
        return new_text

    def _release(self, new_text: str, *, is_last: bool) -> str:
        """Cuts at a stop string, else holds back what may become one."""
        text = self._held + new_text
        found = [at for stop in self._stop_strings if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        overlaps = [_overlap(text, stop) for stop in self._stop_strings]
        n_held = 0 if is_last else max(overlaps, default=0)
        shown = text[: len(text) - n_held]
        self._held = text[len(shown) :]
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest beginning of `stop`, not all of it, that `text` ends with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
