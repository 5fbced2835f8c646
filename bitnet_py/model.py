"""A model ready to run: weights, tokenizer and defaults of generation under one name.

Owns: putting the parts together, from a folder or from arrays. Does not own: the files
(checkpoint.py), the loop (generation.py), the arithmetic (`_core`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core
from bitnet_py.checkpoint import Checkpoint, read_checkpoint
from bitnet_py.errors import FormatError
from bitnet_py.evaluate import evaluate_text
from bitnet_py.generation import Chunk, GenerationResult, collect_results, generate_chunks
from bitnet_py.hub import resolve_folder
from bitnet_py.prompt import Prompts, TokenIds, as_token_ids, encode_prompts, is_single, is_whole
from bitnet_py.safetensors_file import let_go
from bitnet_py.sampling import GenerationConfig
from bitnet_py.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from bitnet_py.chat import ChatSession
    from bitnet_py.chat_template import ChatTemplate
    from bitnet_py.prompt_cache import PromptCache

__all__ = ["Model", "generate", "load"]


class Model:
    """Weights with a kernel table and a thread pool, and what is needed to talk to them.

    Several threads may use one model; they take turns in its forward passes.

    Attributes:
        core: the compiled model.
        tensors: by name, as they were loaded.
        tokenizer: None when the folder has none; prompts are token ids then.
        generation_config: defaults of `stream` and `generate`.
        kv_dtype: "f32", "f16" or "int8", how sessions store keys and values.
        folder: where the model was loaded from, None when from arrays.
    """

    def __init__(
        self,
        core: _core.Model,
        tensors: Mapping[str, _core.PackedTensor],
        *,
        tokenizer: Tokenizer | None,
        generation_config: GenerationConfig,
        kv_dtype: str,
        folder: Path | None = None,
    ) -> None:
        """Takes parts that fit together; `load` and `Model.from_tensors` make them."""
        self.core = core
        self.tensors = dict(tensors)
        self.tokenizer = tokenizer
        if generation_config.eos_token_id is None and tokenizer is not None:
            eos_token_id = tokenizer.eos_token_id
            generation_config = replace(generation_config, eos_token_id=eos_token_id)
        self.generation_config = generation_config
        self.kv_dtype = kv_dtype
        self.folder = folder

    @classmethod
    def from_tensors(
        cls,
        decoder: Mapping[str, Any],
        tensors: Mapping[str, _core.PackedTensor],
        *,
        tokenizer: Tokenizer | None = None,
        generation_config: GenerationConfig | None = None,
        threads: int | None = None,
        isa: str | None = None,
        validate: bool = True,
        kv_dtype: str = "auto",
        folder: Path | None = None,
    ) -> Model:
        """A model of arrays in memory.

        Args:
            decoder: the fields of `_core.config_fields()`.
            tensors: by the names of `_core.tensor_specs(decoder)`; viewed, not copied, but for
                trits5 on a CPU that multiplies ternary2 faster.
            tokenizer: for text.
            generation_config: defaults of generation; None takes plain greedy.
            threads: None takes as many as the process may use. Results do not depend on it.
            isa: one of `_core.available_isas()`; None takes the best, or BITNET_ISA.
            validate: look at every code and scale once.
            kv_dtype: "f32", "f16", "int8", or "auto": f32 when every linear is f32, else f16.
            folder: where the parts came from; the chat template is looked for there.

        Raises:
            ValueError: an argument out of range, or arrays that do not fit the decoder.
        """
        if threads is not None and (not is_whole(threads) or threads < 1):
            message = f"[load] expected threads to be a whole number of at least 1, got {threads!r}"
            raise ValueError(message)
        if isa is not None and isa not in _core.available_isas():
            message = (
                f"[load] expected isa to be one of {', '.join(_core.available_isas())} (what this "
                f"CPU runs), got {isa!r}"
            )
            raise ValueError(message)
        if kv_dtype not in ("auto", *_core.KV_DTYPES):
            known = ", ".join(_core.KV_DTYPES)
            message = f"[load] expected kv_dtype to be one of auto, {known}, got {kv_dtype!r}"
            raise ValueError(message)
        if kv_dtype == "auto":
            kv_dtype = "f32" if _is_all_f32(decoder, tensors) else "f16"
        core = _core.Model(
            decoder,
            tensors,
            isa=isa or "",
            threads=threads or 0,
            validate=validate,
            on_expanded=lambda name: let_go(tensors[name].data),
        )
        return cls(
            core,
            tensors,
            tokenizer=tokenizer,
            generation_config=generation_config or GenerationConfig(),
            kv_dtype=kv_dtype,
            folder=folder,
        )

    @property
    def config(self) -> dict[str, Any]:
        """Every field of the decoder."""
        return self.core.config

    @property
    def context_length(self) -> int:
        """The most tokens that a sequence may have."""
        return int(self.config["max_position_embeddings"])

    @property
    def bos_token_id(self) -> int | None:
        """The token before every text; None when the model uses none."""
        if self.tokenizer is not None and self.tokenizer.bos_token_id is not None:
            return self.tokenizer.bos_token_id
        return self.generation_config.bos_token_id

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The folder's chat template, None when it has none; read when first asked for.

        Raises:
            FormatError: the folder has one that is not a template.
        """
        if self.folder is None:
            return None
        from bitnet_py.chat_template import load_chat_template

        tokenizer = self.tokenizer
        return load_chat_template(self.folder, tokenizer.special_tokens if tokenizer else None)

    def session(self, max_seq_len: int | None = None) -> _core.Session:
        """An empty KV cache for one sequence.

        Args:
            max_seq_len: room in tokens; None takes the model's context.

        Raises:
            ValueError: more room than the model's context, or less than one token.
        """
        length = self.context_length if max_seq_len is None else max_seq_len
        if not is_whole(length) or not 1 <= length <= self.context_length:
            message = (
                f"[session] expected max_seq_len in [1, {self.context_length}], got {length!r}"
            )
            raise ValueError(message)
        return _core.Session(self.core, length, self.kv_dtype)

    def logits(self, token_ids: TokenIds) -> NDArray[np.float32]:
        """The scores of the next token behind each token of a sequence.

        Args:
            token_ids: T ids in [0, vocab_size), T from 1 to the context.

        Returns:
            float32 [T, vocab_size]: row t is what follows token_ids[: t + 1].

        Raises:
            ValueError: no ids, ids out of range, or more than the context holds.
        """
        ids = as_token_ids(token_ids, self.config["vocab_size"])
        if not 1 <= len(ids) <= self.context_length:
            message = f"[logits] expected 1 to {self.context_length} tokens, got {len(ids)}"
            raise ValueError(message)
        return self.session(len(ids)).forward(ids, logits="all")

    def perplexity(
        self,
        text: str,
        context: int | None = None,
        stride: int | None = None,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> float:
        """The perplexity of a text; `bitnet_py.evaluate` has the protocol and the arguments.

        Raises:
            ValueError: a model without tokenizer, a text without tokens, or sizes out of range.
        """
        return evaluate_text(
            self, text, context=context, stride=stride, on_progress=on_progress
        ).perplexity

    def stream(
        self,
        prompt: Prompts,
        *,
        prompt_cache: PromptCache | None = None,
        on_prefill: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> Iterator[Chunk]:
        """Generates, and gives each token's text as soon as it is known.

        Args:
            prompt: text or token ids, one or several; `Chunk.index` tells the sequences apart.
            prompt_cache: of this model; what a prompt and it begin with alike is not read again.
            on_prefill: called with (tokens read, tokens to read) while prompts are read.
            **options: fields of `GenerationConfig`, on top of the model's defaults.

        Raises:
            ValueError: an option out of range, text without a tokenizer, or a prompt that is
                empty, has ids out of range or leaves no room in the context.
        """

        def new_session(prompt_ids: list[int], max_seq_len: int) -> _core.Session:
            session = self.session(max_seq_len)
            if prompt_cache is not None:
                prompt_cache.fill(session, prompt_ids)
            return session

        return generate_chunks(
            self.encode_prompts(prompt),
            self.generation_config.with_options(options),
            self.tokenizer,
            new_session,
            self.context_length,
            on_prefill,
        )

    def generate_results(self, prompt: Prompts, **options: Any) -> list[GenerationResult]:
        """Generates; one result per sequence, with token ids, log-probabilities and finish reason.

        Arguments and errors are those of `stream`.
        """
        prompts = self.encode_prompts(prompt)
        n_each = self.generation_config.with_options(options).num_return_sequences
        return collect_results(self.stream(prompts, **options), len(prompts) * n_each)

    def generate(self, prompt: Prompts, **options: Any) -> str | list[str]:
        """Generates text behind a prompt.

        Arguments and errors are those of `stream`.

        Returns:
            The text without the prompt. A list for several prompts, or num_return_sequences
            above 1: all outputs of the first prompt, then of the second, ...
        """
        texts = [result.text for result in self.generate_results(prompt, **options)]
        return texts[0] if is_single(prompt) and len(texts) == 1 else texts

    def chat(self, system_prompt: str | None = None) -> ChatSession:
        """A conversation with this model.

        Raises:
            ValueError: the model has no tokenizer or no chat template.
            FormatError: the template is not one.
        """
        from bitnet_py.chat import ChatSession

        return ChatSession(self, system_prompt=system_prompt)

    def encode_prompts(self, prompt: Prompts) -> list[list[int]]:
        """The token ids of one prompt or several, as `stream` feeds them.

        Raises:
            ValueError: text without a tokenizer, or ids out of range.
        """
        vocab_size = self.config["vocab_size"]
        return encode_prompts(prompt, self.tokenizer, self.bos_token_id, vocab_size)


def load(
    path_or_id: str | Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    isa: str | None = None,
    validate: bool = True,
    kv_dtype: str = "auto",
    revision: str | None = None,
) -> Model:
    """Loads a packed folder; the weights stay mapped from the file.

    Args:
        path_or_id: a folder that `bitnet-convert` wrote, or a Hugging Face id ("owner/name") of
            such a folder.
        device: "auto" or "cpu".
        threads: None takes as many as the process may use. Results do not depend on it.
        isa: a name of `_core.available_isas()`; None takes the best, or BITNET_ISA.
        validate: look at every code and scale once (this also reads the file ahead).
        kv_dtype: "f32", "f16", "int8", or "auto": f32 when every linear is f32, else f16.
        revision: branch, tag or commit of a Hugging Face id.

    Raises:
        FileNotFoundError: no such folder, and no such id that can be reached.
        FormatError: the folder is not a packed one, or breaks a rule of the format.
        ValueError: an argument out of its range.
    """
    if device not in ("auto", "cpu"):
        message = f"[load] expected device auto or cpu, got {device!r}: this build has no CUDA"
        raise ValueError(message)
    folder = resolve_folder(path_or_id, revision)
    checkpoint = read_checkpoint(folder)
    tokenizer = load_tokenizer(folder)
    generation_config = GenerationConfig.from_folder(folder)
    try:
        return Model.from_tensors(
            checkpoint.decoder,
            checkpoint.tensors,
            tokenizer=tokenizer,
            generation_config=generation_config,
            threads=threads,
            isa=isa,
            validate=validate,
            kv_dtype=kv_dtype,
            folder=folder,
        )
    except ValueError as error:
        _blame_file(checkpoint, error)


def generate(model: Model | str | Path, prompt: Prompts, **options: Any) -> str | list[str]:
    """Generates text behind a prompt; see `Model.generate`.

    Args:
        model: a model, or what `load` takes.
        prompt: text or token ids, one or several.
        **options: fields of `GenerationConfig`, on top of the model's defaults.

    Returns:
        The text without the prompt; a list for several prompts, or num_return_sequences above 1.
    """
    ready = model if isinstance(model, Model) else load(model)
    return ready.generate(prompt, **options)


def _blame_file(checkpoint: Checkpoint, error: ValueError) -> NoReturn:
    """What the engine says of a tensor becomes an error of the file that holds it."""
    found = re.search(r"tensor '([^']+)'", str(error))
    if found is None:
        raise error
    name = found[1].removesuffix("_scale")
    message = f"{checkpoint.files.get(name, 'the files')}: {error}"
    raise FormatError(message) from None


def _is_all_f32(decoder: Mapping[str, Any], tensors: Mapping[str, _core.PackedTensor]) -> bool:
    return all(
        tensors[spec.name].format == "f32"
        for spec in _core.tensor_specs(decoder)
        if spec.role == "linear" and spec.name in tensors
    )
