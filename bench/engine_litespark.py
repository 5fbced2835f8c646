"""litespark-inference through its own runtime without torch, as a worker runs it.

Its graph is BitNet 2B4T's (sub-norms, relu2, tied head) at the named shape's sizes, with random
codes. Its batched product computes nothing when it gets more than 64 tokens (T > LSPK_MAX_T, in
release 1.0.3), and its prefill does not split, so prompts go in calls of 64 here.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import litespark_inference
import numpy as np
from litespark_inference.torchless import kernel, model, runtime

from bench.engine_worker import CONTEXT_LENGTH
from bench.shapes import decoder_config

__all__ = ["Litespark", "make"]

MAX_AT_ONCE: Final = 64
BF16_ONE: Final = 0x3F80


class Litespark:
    """What `bench.engine_worker.Engine` says."""

    variants = ()

    def __init__(self, shape: str) -> None:
        """Names a shape; no weight is there yet."""
        self.version = f"litespark-inference {litespark_inference.__version__}"
        built = kernel._find_built_extension()
        self.system = f"{built.name if built else 'no kernel'}, prompts in calls of {MAX_AT_ONCE}"
        self._shape = decoder_config(shape)

    def load(self, threads: int) -> None:
        """Draws the weights."""
        self.configure(threads, "")
        sizes, rng = self._shape, np.random.default_rng(0)
        hidden, inter = sizes["hidden_size"], sizes["intermediate_size"]
        kv_width = sizes["num_key_value_heads"] * sizes["head_dim"]

        def norm(width: int) -> Any:
            return np.full(width, BF16_ONE, np.uint16)

        def projection(rows: int, columns: int) -> Any:
            codes = rng.integers(0, 256, (rows, columns // 4), np.uint8)
            codes &= ~(codes & codes >> 1 & 0x55) & 0xFF  # 3 is no code
            return model.PackedProjection(
                codes, np.zeros(rows, np.int32), columns**-0.5, columns, rows
            )

        layers = [
            model.PackedLayer(
                q_proj=projection(hidden, hidden),
                k_proj=projection(kv_width, hidden),
                v_proj=projection(kv_width, hidden),
                o_proj=projection(hidden, hidden),
                gate_proj=projection(inter, hidden),
                up_proj=projection(inter, hidden),
                down_proj=projection(hidden, inter),
                input_norm=norm(hidden),
                post_attn_norm=norm(hidden),
                attn_sub_norm=norm(hidden),
                ffn_sub_norm=norm(inter),
            )
            for _ in range(sizes["num_hidden_layers"])
        ]
        config = model.BitNetConfig(
            hidden_size=hidden,
            num_layers=sizes["num_hidden_layers"],
            num_heads=sizes["num_attention_heads"],
            num_kv_heads=sizes["num_key_value_heads"],
            intermediate_size=inter,
            vocab_size=sizes["vocab_size"],
            max_position_embeddings=sizes["max_position_embeddings"],
            rms_norm_eps=1e-5,
            rope_theta=sizes.get("rope_theta", 10000.0),
        )
        self._model = model.PackedBitNetModel(
            config=config,
            embed_tokens=None,
            final_norm=norm(hidden),
            layers=layers,
            embed_int8=rng.integers(-127, 128, (config.vocab_size, hidden), np.int8),
            embed_scale=np.full(config.vocab_size, 0.01, np.float32),
        )
        self._state = runtime.init_state(self._model, CONTEXT_LENGTH)
        self._ids = np.random.default_rng(1).integers(3, config.vocab_size, CONTEXT_LENGTH).tolist()

    def configure(self, threads: int, variant: str) -> None:
        """Its kernels run on OpenMP's threads."""
        del variant
        kernel._load()
        ctypes.CDLL("libgomp.so.1").omp_set_num_threads(threads)

    def run(self, tokens: int, at_once: int) -> None:
        """Evaluates tokens, at most 64 in a call."""
        self._state.pos = 0
        step = min(at_once, MAX_AT_ONCE)
        for first in range(0, tokens, step):
            ids = self._ids[first : min(first + step, tokens)]
            logits = runtime.forward_prefill(self._model, self._state, ids)
        if not np.isfinite(logits).all():
            message = "its logits are not finite"
            raise RuntimeError(message)


def make(model_path: str, shape: str, weight_format: str) -> Litespark:
    """The engine of a shape; its format is its own, and no file is read."""
    del model_path, weight_format
    return Litespark(shape)
