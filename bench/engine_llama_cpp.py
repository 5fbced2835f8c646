"""llama.cpp through llama-cpp-python's low-level calls, as a worker runs it.

Owns: llama_decode + llama_synchronize on one GGUF. Does not own: the model files (peer_models.py).
It needs llama-cpp-python and numpy alone, so it also runs from an environment of its own.
"""

from __future__ import annotations

import ctypes
import os

import llama_cpp
import numpy as np

from bench.engine_worker import CONTEXT_LENGTH

__all__ = ["LlamaCpp", "make"]

FLASH_ATTENTION = {
    "flash attention off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    "flash attention on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
}


class LlamaCpp:
    """One GGUF with one context; what `bench.engine_worker.Engine` says."""

    variants = tuple(FLASH_ATTENTION)

    def __init__(self, path: str) -> None:
        """Names a file; nothing is read yet."""
        self._silence = llama_cpp.llama_log_callback(_log_nothing)  # lives as long as this
        llama_cpp.llama_log_set(self._silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.version = f"llama-cpp-python {llama_cpp.__version__}"
        self.system = llama_cpp.llama_print_system_info().decode().strip(" |")
        self._path = path
        self._context = None

    def load(self, threads: int) -> None:
        """Maps the file and makes a context.

        Raises:
            RuntimeError: llama.cpp refuses the file.
        """
        self._model = llama_cpp.llama_model_load_from_file(
            os.fsencode(self._path), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            message = f"llama.cpp cannot load {self._path}"
            raise RuntimeError(message)
        vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        tokens = np.random.default_rng(1).integers(3, vocab_size, CONTEXT_LENGTH)
        self._tokens = (llama_cpp.llama_token * CONTEXT_LENGTH)(*tokens.tolist())
        self.configure(threads, self.variants[0])

    def configure(self, threads: int, variant: str) -> None:
        """Another context in place of the one before: two would both count as memory.

        Raises:
            RuntimeError: llama.cpp refuses it.
        """
        if self._context is not None:
            llama_cpp.llama_free(self._context)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = CONTEXT_LENGTH
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = FLASH_ATTENTION[variant]
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            self._context = None
            message = f"llama.cpp cannot make a context with {variant}"
            raise RuntimeError(message)

    def run(self, tokens: int, at_once: int) -> None:
        """Evaluates tokens, and waits until the last logits are there.

        Raises:
            RuntimeError: llama.cpp could not evaluate a batch.
        """
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        for first in range(0, tokens, at_once):
            at = ctypes.byref(self._tokens, first * ctypes.sizeof(llama_cpp.llama_token))
            batch = llama_cpp.llama_batch_get_one(
                ctypes.cast(at, ctypes.POINTER(llama_cpp.llama_token)), min(at_once, tokens - first)
            )
            if llama_cpp.llama_decode(self._context, batch):
                message = f"llama_decode failed at token {first}"
                raise RuntimeError(message)
        llama_cpp.llama_synchronize(self._context)


def _log_nothing(_level: int, _text: bytes, _user_data: ctypes.c_void_p) -> None:
    """Swallows llama.cpp's log; a failure to load is an exception of ours."""


def make(model: str, shape: str, weight_format: str) -> LlamaCpp:
    """The engine of a GGUF; shape and format stand in the file."""
    del shape, weight_format
    return LlamaCpp(model)
