"""Transformers in float32 as the judge of a conversion: the source, with our rules done by torch.

Owns: W1.58A8 and W8A8 linears of whole numbers in torch, put in place of a source's own. Does not
own: the protocol of perplexity (bitnet_py/evaluate.py), which runs this model as it runs ours.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# transformers unpacks BitNet weights through torch.compile, which would run a compiler for minutes.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import torch
import transformers

__all__ = ["TorchReference"]

SMALLEST: Final = 1e-5  # of a scale: arXiv 2402.17764


class IntegerLinear(torch.nn.Module):
    """x [..., K] as int8 per token, times whole numbers [N, K]; exact below sums of 2^24."""

    def __init__(self, codes: torch.Tensor, scale: torch.Tensor) -> None:
        """Takes codes as float32 [N, K], and their scale.

        It is one number, one per row [N], or one for each weight [N, K].
        """
        super().__init__()
        per_weight = scale.ndim == 2
        self.codes = codes * scale if per_weight else codes
        self.scale = torch.ones(()) if per_weight else scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product [..., N]."""
        largest = x.abs().amax(dim=-1, keepdim=True).clamp(min=SMALLEST)
        q = (x * (127 / largest)).round().clamp(-128, 127)
        return (q @ self.codes.T) * self.scale * (largest / 127)


class TorchReference:
    """A source in transformers, with what `evaluate_text` asks of a model.

    Attributes:
        tokenizer: transformers' own.
        context_length: tokens in a window.
        bos_token_id: the token before every text.
        config: holds vocab_size.
    """

    def __init__(self, source: Path, *, absmean: bool, head: str) -> None:
        """Loads a source in float32.

        Args:
            source: a Hugging Face folder; a BitNet one quantizes its activations by itself.
            absmean: make every linear ternary, with one scale each.
            head: "int8" or "int6": the format of the output head, and of a tied embedding;
                "f32": leave them.
        """
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32
        ).eval()
        self.context_length = int(self._model.config.max_position_embeddings)
        self.bos_token_id = self.tokenizer.bos_token_id
        self.config = {"vocab_size": self._model.config.vocab_size}
        with torch.no_grad():
            if absmean:
                self._make_ternary()
            if head != "f32":
                self._quantize_head(*{"int8": int8_rows, "int6": int6_groups}[head](self._head()))

    def session(self, _max_seq_len: int) -> TorchSession:
        """An empty sequence."""
        return TorchSession(self._model)

    def _make_ternary(self) -> None:
        for layer in self._model.model.layers:
            for block in (layer.self_attn, layer.mlp):
                for name, linear in list(block.named_children()):
                    if isinstance(linear, torch.nn.Linear):
                        weight = linear.weight
                        gamma = weight.abs().mean(dtype=torch.float64).float().clamp(min=SMALLEST)
                        codes = (weight * (1 / gamma)).round().clamp(-1, 1)
                        setattr(block, name, IntegerLinear(codes, gamma))

    def _head(self) -> torch.Tensor:
        weight: torch.Tensor = self._model.lm_head.weight
        return weight

    def _quantize_head(self, codes: torch.Tensor, scale: torch.Tensor) -> None:
        embedding = self._model.model.embed_tokens
        is_tied = embedding.weight is self._head()
        self._model.lm_head = IntegerLinear(codes, scale)
        if is_tied:
            per_weight = scale if scale.ndim == 2 else scale[:, None]
            embedding.weight = torch.nn.Parameter(codes * per_weight)


def int8_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes in [-127, 127] and a scale per row, absmax."""
    scale = weight.abs().amax(dim=-1) / 127
    return (weight / scale[:, None]).round().clamp(-127, 127), scale


def int6_groups(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes in [-32, 31] and float16 scales of 32 columns each, one number per weight.

    The scale of the smallest squared error among max|w| / d, d = 28..43 (csrc/packing/int6.h).
    """
    n, k = weight.shape
    groups = torch.nn.functional.pad(weight, (0, -k % 32)).reshape(n, -1, 32)
    scales = groups.abs().amax(-1) / torch.arange(28.0, 44.0)[:, None, None]
    scales = scales.half().float()[..., None]
    codes = (groups * (1 / scales)).round().clamp(-32, 31)
    best = (groups - scales * codes).square().sum(-1).argmin(0)[None, ..., None]
    scale = scales.gather(0, best)[0].expand(-1, -1, 32).reshape(n, -1)[:, :k]
    codes = codes.gather(0, best.expand(-1, -1, -1, 32))[0].reshape(n, -1)[:, :k]
    return codes, scale


class TorchSession:
    """One sequence; no KV cache, so what came before is computed anew."""

    def __init__(self, model: Any) -> None:
        """Starts empty."""
        self._model = model
        self._ids = np.empty(0, np.int64)

    def truncate(self, length: int) -> None:
        """Forgets all tokens from position `length` on."""
        self._ids = self._ids[:length]

    def forward(self, token_ids: NDArray[np.int32], logits: str = "all") -> NDArray[np.float32]:
        """Appends tokens and gives the logits of each, [T, vocab]."""
        assert logits == "all"
        self._ids = np.concatenate([self._ids, token_ids])
        with torch.inference_mode():
            scores = self._model(torch.from_numpy(self._ids)[None], use_cache=False).logits[0]
        rows: NDArray[np.float32] = np.ascontiguousarray(scores[-len(token_ids) :].numpy())
        return rows
