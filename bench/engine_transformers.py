"""A dense Llama of a named shape in transformers, on the CPU, as a worker runs it.

Weights are drawn, not read: there is no file, and loading it is not what is compared.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import transformers

from bench.engine_worker import CONTEXT_LENGTH
from bench.shapes import decoder_config

__all__ = ["TransformersLlama", "make"]

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}
POOL_WEIGHTS: Final = 1 << 22  # drawn once and repeated: speed does not depend on them


class TransformersLlama:
    """What `bench.engine_worker.Engine` says."""

    variants = ()

    def __init__(self, shape: str, dtype: torch.dtype) -> None:
        """Names a shape; no weight is there yet."""
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.system = f"{torch.backends.cpu.get_cpu_capability()}, sdpa"
        self._config, self._dtype = decoder_config(shape), dtype

    def load(self, threads: int) -> None:
        """Draws the weights."""
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        fields = {k: v for k, v in self._config.items() if not k.endswith("sub_norm")}
        fields["hidden_act"] = fields["hidden_act"].replace("relu2", "silu")
        config = transformers.LlamaConfig(**fields, dtype=self._dtype, attn_implementation="sdpa")
        with torch.device("meta"):
            model = transformers.LlamaForCausalLM(config).to(self._dtype)
        model = model.to_empty(device="cpu")
        if config.tie_word_embeddings:
            model.tie_weights()
        model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its buffers are not drawn
        pool = torch.randn(POOL_WEIGHTS, generator=torch.Generator().manual_seed(0))
        for parameter in model.parameters():
            scale = parameter.shape[-1] ** -0.5
            drawn = (pool * scale).to(self._dtype) if parameter.dim() > 1 else torch.ones(1)
            for part in parameter.data.view(-1).split(POOL_WEIGHTS):
                part.copy_(drawn[: len(part)])
        self._model = model.eval()
        generator = torch.Generator().manual_seed(1)
        shape = (1, CONTEXT_LENGTH)
        self._ids = torch.randint(3, config.vocab_size, shape, generator=generator)

    def configure(self, threads: int, variant: str) -> None:
        """Changes the number of threads."""
        del variant
        torch.set_num_threads(threads)

    def run(self, tokens: int, at_once: int) -> None:
        """Evaluates tokens; logits of the last alone."""
        cache: Any = transformers.DynamicCache()
        for first in range(0, tokens, at_once):
            ids = self._ids[:, first : min(first + at_once, tokens)]
            self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)


def make(model: str, shape: str, weight_format: str) -> TransformersLlama:
    """The engine of a shape; `model` is not used."""
    del model
    return TransformersLlama(shape, DTYPES[weight_format])
