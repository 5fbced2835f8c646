"""How to pick the next token and when to stop: Hugging Face's GenerationConfig, the part used here.

Owns: names, defaults, validation. Does not own: the picking (`_core.Sampler`), the loop
(generation.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bitnet_py import _core
from bitnet_py.errors import FormatError
from bitnet_py.json_file import read_json_object
from bitnet_py.model_files import GENERATION_CONFIG

__all__ = ["GenerationConfig"]

ALIASES: Final = {"max_tokens": "max_new_tokens", "stop": "stop_strings"}
MAX_NUMBER: Final = 1e30  # what float32 can hold, and no NaN
MAX_WHOLE: Final = (1 << 31) - 1  # of token ids and of numbers of tokens
MAX_SEED: Final = (1 << 64) - 1
MAX_SEQUENCES: Final = 1024  # per prompt
MAX_LOOKUP: Final = 256  # guessed tokens: each of them has logits over the whole vocabulary
SAMPLING_NAMES: Final = ("temperature", "top_k", "top_p", "min_p")


@dataclass(frozen=True)
class GenerationConfig:
    """Options of generation; names and meaning are Hugging Face's.

    Unlike there, no `top_k=50` hides behind the default: what is not set does not act.

    Attributes:
        max_new_tokens: stop after so many tokens, >= 1.
        do_sample: draw from the distribution; False takes the most probable token.
        temperature: divides the logits, >= 0; 0 means do_sample=False.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the most probable tokens that hold this mass together, in (0, 1].
        min_p: keep tokens of at least min_p times the best probability, in [0, 1].
        repetition_penalty: > 0; above 1 makes tokens of the prompt and the output less likely.
        no_repeat_ngram_size: forbid n-grams that occurred already; 0 forbids none.
        eos_token_id: tokens that end the text, as one id or several; empty: none does.
        bos_token_id: the token before every text, when the tokenizer knows none.
        pad_token_id: kept for Hugging Face's sake; nothing is padded here.
        stop_strings: text that ends the output and is left out of it.
        prompt_lookup_num_tokens: guess so many tokens at once by looking up what followed the last
            n-gram where it occurred before (prompt lookup decoding, arXiv 2304.04487 and
            github.com/apoorvumang/prompt-lookup-decoding), and check the guesses in one pass.
            The output is the same, bit for bit; where text repeats itself it comes faster. None
            guesses nothing.
        max_matching_ngram_size: the longest n-gram that is looked up; shorter ones follow.
        num_return_sequences: how many outputs per prompt, at most 1024; above 1 only with
            do_sample.
        seed: of the random draws, in [0, 2^64); None takes a fresh one.
    """

    max_new_tokens: int = 256
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    eos_token_id: int | Sequence[int] | None = None
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    stop_strings: str | Sequence[str] = ()
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int = 2
    num_return_sequences: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            ValueError: a field out of its range or of another type.
        """
        self._check_whole("max_new_tokens", 1)
        self._check_whole("num_return_sequences", 1, MAX_SEQUENCES)
        self._check_whole("top_k", 0)
        self._check_whole("no_repeat_ngram_size", 0)
        self._check_whole("max_matching_ngram_size", 1)
        if self.prompt_lookup_num_tokens is not None:
            self._check_whole("prompt_lookup_num_tokens", 1, MAX_LOOKUP)
        self._check("do_sample", "True or False", lambda value: isinstance(value, bool))
        self._check_number("temperature", "of at least 0", lambda value: value >= 0)
        self._check_number("top_p", "in (0, 1]", lambda value: 0 < value <= 1)
        self._check_number("min_p", "in [0, 1]", lambda value: 0 <= value <= 1)
        self._check_number("repetition_penalty", "above 0", lambda value: value > 0)
        for name, most in (
            ("bos_token_id", MAX_WHOLE),
            ("pad_token_id", MAX_WHOLE),
            ("seed", MAX_SEED),
        ):
            if getattr(self, name) is not None:
                self._check_whole(name, 0, most)
        self._check(
            "eos_token_id",
            "a token id or several",
            lambda _: all(_is_whole(token_id, 0, MAX_WHOLE) for token_id in self.eos_token_ids),
        )
        if isinstance(self.stop_strings, str):
            object.__setattr__(self, "stop_strings", (self.stop_strings,))
        self._check(
            "stop_strings",
            "strings, none of them empty",
            lambda stops: _is_list(stops) and all(isinstance(stop, str) and stop for stop in stops),
        )
        object.__setattr__(self, "stop_strings", tuple(self.stop_strings))
        if self.temperature == 0:
            object.__setattr__(self, "do_sample", False)
        if self.num_return_sequences > 1 and not self.do_sample:
            message = (
                "[generate] expected num_return_sequences 1 without do_sample, got "
                f"{self.num_return_sequences}: greedy outputs would all be equal; "
                "set do_sample=True or a temperature above 0"
            )
            raise ValueError(message)

    @classmethod
    def from_folder(cls, folder: Path) -> GenerationConfig:
        """The defaults of a model: generation_config.json; token ids also from config.json.

        Fields that are unknown here are ignored, as are those that hold null.

        Raises:
            FormatError: a file is not JSON, or a field is out of its range.
        """
        values: dict[str, Any] = {}
        path = folder / "config.json"
        if path.is_file():
            config = read_json_object(path)
            values = {name: config.get(name) for name in ("eos_token_id", "bos_token_id")}
        path = folder / GENERATION_CONFIG
        if path.is_file():
            values |= {k: v for k, v in read_json_object(path).items() if v is not None}
        known = {field.name for field in fields(cls)}
        try:
            return cls(**{k: v for k, v in values.items() if k in known and v is not None})
        except ValueError as error:
            message = f"{path}: {error}"
            raise FormatError(message) from None

    def with_options(self, options: Mapping[str, Any]) -> GenerationConfig:
        """These defaults with a caller's options on top; an option that is None changes nothing.

        Setting temperature, top_k, top_p or min_p asks for sampling, unless do_sample says
        otherwise. `max_tokens` and `stop` are other names of max_new_tokens and stop_strings.

        Raises:
            ValueError: an unknown option, one given under both of its names, or out of its range.
        """
        known = [field.name for field in fields(self)]
        changes: dict[str, Any] = {}
        for given_name, value in options.items():
            name = ALIASES.get(given_name, given_name)
            if name not in known:
                message = f"[generate] unknown option {given_name!r}; known are {', '.join(known)}"
                raise ValueError(message)
            if value is None:
                continue
            if name in changes:
                alias = next(a for a, of in ALIASES.items() if of == name)
                message = f"[generate] {alias} and {name} are the same option; give one of them"
                raise ValueError(message)
            changes[name] = value
        if any(name in changes for name in SAMPLING_NAMES):
            changes.setdefault("do_sample", True)
        return replace(self, **changes)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids that end the text, as a tuple."""
        if self.eos_token_id is None:
            return ()
        if isinstance(self.eos_token_id, Sequence):
            return tuple(self.eos_token_id)
        return (self.eos_token_id,)

    def sampler(self, sequence_index: int, seed: int) -> _core.Sampler:
        """The sampler of one of several sequences: each draws its own numbers, whatever its batch.

        Args:
            sequence_index: which sequence of the call, from 0.
            seed: of the whole call, see `call_seed`.
        """
        return _core.Sampler(
            do_sample=self.do_sample,
            temperature=self.temperature or 1.0,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            no_repeat_ngram_size=self.no_repeat_ngram_size,
            seed=(seed + sequence_index) % (1 << 64),
        )

    def call_seed(self) -> int:
        """The seed of one call: the one that is set, else a fresh one."""
        return int.from_bytes(os.urandom(8), "little") if self.seed is None else self.seed

    def _check(self, name: str, expected: str, is_right: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        if not is_right(value):
            message = f"[generate] expected {name} to be {expected}, got {value!r}"
            raise ValueError(message)

    def _check_whole(self, name: str, least: int, most: int = MAX_WHOLE) -> None:
        expected = f"a whole number of at least {least} and at most {most}"
        self._check(name, expected, lambda value: _is_whole(value, least, most))

    def _check_number(self, name: str, expected: str, is_right: Callable[[float], bool]) -> None:
        self._check(
            name,
            f"a number {expected}",
            lambda value: _is_number(value) and is_right(float(value)),
        )


def _is_whole(value: Any, least: int, most: int) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and least <= value <= most


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        return False
    return bool(-MAX_NUMBER <= value <= MAX_NUMBER)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
