"""Real checkpoints through converter and engine, against plain torch with the same formulas."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from convert_reference import absmean, int8_rows, quantization_config, read_tensors

import bitnet_py
from bitnet_py.checkpoint import read_checkpoint
from bitnet_py.convert import convert
from bitnet_py.evaluate import Evaluation, evaluate_text

DATA = os.environ.get("BITNET_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="BITNET_TEST_DATA is not set")
MODELS = Path(DATA or ".") / "models"
N_SEGMENTS = 80


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """These models are so small that a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def text() -> str:
    whole = (Path(DATA or ".") / "text" / "tinystories_valid.txt").read_text("utf-8")
    return "<|endoftext|>".join(whole.split("<|endoftext|>")[:N_SEGMENTS])


class QuantizedLinear(torch.nn.Module):
    """Plain torch: codes times int8 activations per token, W1.58A8 or W8A8."""

    def __init__(self, codes: np.ndarray, scale: np.ndarray) -> None:
        super().__init__()
        self.codes = torch.from_numpy(codes.astype(np.float32))
        self.scale = torch.from_numpy(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        largest = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-5)
        q = (x * (127 / largest)).round().clamp(-128, 127)
        return (q @ self.codes.T) * (largest / 127) * self.scale


class TorchModel(NamedTuple):
    model: Any
    tokenizer: Any

    def evaluate(self, text: str) -> Evaluation:
        """The protocol of bitnet_py/evaluate.py, written again."""
        context = self.model.config.max_position_embeddings
        nll, argmax = [], []
        for segment in text.split("<|endoftext|>"):
            ids = [1, *self.tokenizer(segment.strip(), add_special_tokens=False).input_ids]
            for i in range(0, len(ids) - 1, context - 1):
                window = torch.tensor([ids[i : i + context]])
                with torch.no_grad():
                    logits = self.model(window[:, :-1]).logits[0].float()
                log_p = torch.log_softmax(logits, dim=-1)
                nll.append(-log_p.gather(1, window[0, 1:, None])[:, 0])
                argmax.append(logits.argmax(dim=-1))
        all_nll = torch.cat(nll).double()
        return Evaluation(
            perplexity=math.exp(all_nll.mean()),
            bits_per_byte=math.nan,
            tokens=len(all_nll),
            nll=all_nll.float().numpy(),
            argmax=torch.cat(argmax).numpy().astype(np.int32),
        )


def load_torch(name: str) -> TorchModel:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32)
    return TorchModel(model.eval(), transformers.AutoTokenizer.from_pretrained(MODELS / name))


def make_absmean(torch_model: TorchModel, head: str) -> TorchModel:
    """Replaces every linear by its absmean codes, and the tied head by int8 rows if asked for."""
    model = torch_model.model
    for name, module in list(model.named_modules()):
        if name.endswith("_proj"):
            codes, gamma = absmean(module.weight.detach().numpy(), "tensor")
            model.set_submodule(name, QuantizedLinear(codes, gamma))
    if head == "int8":
        codes, scale = int8_rows(model.lm_head.weight.detach().numpy())
        model.lm_head = QuantizedLinear(codes, scale)
        table = torch.from_numpy(codes.astype(np.float32) * scale[:, None])
        model.model.embed_tokens = torch.nn.Embedding.from_pretrained(table)
    return torch_model


def evaluate_ours(folder: Path, text: str, **options: Any) -> Evaluation:
    return evaluate_text(bitnet_py.load(folder, **options), text)


def test_stories260k_says_what_it_always_said(tmp_path: Path) -> None:
    """200 greedy tokens, byte for byte the golden text of the model's authors."""
    convert(MODELS / "stories260K", tmp_path / "out", method="f32")
    model = bitnet_py.load(tmp_path / "out")
    golden = (MODELS / "stories260K" / "golden_greedy_200.txt").read_text("utf-8")
    result = model.generate_results([1], max_new_tokens=200)[0]
    assert result.text.lstrip() == golden  # SentencePiece begins with a space


@pytest.mark.parametrize("name", ["stories260K", "babyllama361"])
@pytest.mark.parametrize("head", ["f32", "int8"])
def test_absmean_perplexity_is_that_of_plain_torch(
    tmp_path: Path, text: str, name: str, head: str
) -> None:
    convert(MODELS / name, tmp_path / "out", method="absmean", head=head)
    ours = evaluate_ours(tmp_path / "out", text, kv_dtype="f32")
    theirs = make_absmean(load_torch(name), head).evaluate(text)
    assert ours.tokens == theirs.tokens
    assert ours.perplexity == pytest.approx(theirs.perplexity, rel=0.003)


@pytest.mark.parametrize("name", ["stories260K", "babyllama361"])
def test_dense_perplexity_is_that_of_transformers(tmp_path: Path, text: str, name: str) -> None:
    convert(MODELS / name, tmp_path / "out", method="f32")
    ours = evaluate_ours(tmp_path / "out", text)
    theirs = load_torch(name).evaluate(text)
    assert ours.perplexity == pytest.approx(theirs.perplexity, rel=1e-4)
    assert np.mean(ours.argmax == theirs.argmax) > 0.999


def test_bitllama_is_lossless(tmp_path: Path, text: str) -> None:
    report = convert(MODELS / "bitllama1M", tmp_path / "out", head="f32")
    assert {m.origin for m in report.matrices if m.role == "linear"} == {"packed"}
    ours = evaluate_ours(tmp_path / "out", text, kv_dtype="f32")
    theirs = load_torch("bitllama1M").evaluate(text)
    assert ours.perplexity == pytest.approx(theirs.perplexity, rel=0.0002)
    assert np.mean(ours.argmax == theirs.argmax) >= 0.99


def test_bitllama_keeps_its_sub_norms(tmp_path: Path) -> None:
    convert(MODELS / "bitllama1M", tmp_path / "out")
    before, after = read_tensors(MODELS / "bitllama1M"), read_tensors(tmp_path / "out")
    norms = [name for name in before if "sub_norm" in name]
    assert len(norms) == 16
    assert all(before[name].equal(after[name]) for name in norms)
    decoder = quantization_config(tmp_path / "out")["decoder"]
    assert decoder["attn_sub_norm"]
    assert decoder["hidden_act"] == "silu"


@pytest.mark.parametrize("head", ["int6", "int8"])
def test_a_quantized_head_costs_little(tmp_path: Path, text: str, head: str) -> None:
    """Of a real BitNet, its tied embedding included: int6 is the default."""
    convert(MODELS / "bitllama1M", tmp_path / "dense", head="f32")
    convert(MODELS / "bitllama1M", tmp_path / "quantized", head=None if head == "int6" else head)
    formats = {t.format for t in read_checkpoint(tmp_path / "quantized").tensors.values()}
    assert formats == {"ternary2", head, "f32"}
    dense = evaluate_ours(tmp_path / "dense", text).perplexity
    quantized = evaluate_ours(tmp_path / "quantized", text).perplexity
    assert quantized / dense == pytest.approx(1, abs=0.001)
