"""Converted models compute what transformers computes, for each variant of the architectures.

The tolerance is measured, not chosen: the same model in float64 tells how much float32 loses in
transformers itself, and how much one rounding of the RoPE frequencies moves the logits.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from convert_reference import read_tensors
from tiny_checkpoint import BITNET, LLAMA, is_linear, make_checkpoint

import bitnet_py
from bitnet_py.convert import convert

transformers = pytest.importorskip("transformers")

N_TOKENS = 40
FLOAT32_EPS = 2.0**-23
# Other orders of summation, each no worse than transformers' own.
ORDERS = 8

LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}  # fmt: skip


def torch_logits(model: Any, ids: list[int], dtype: torch.dtype) -> np.ndarray:
    with torch.no_grad():
        return model.to(dtype)(torch.tensor([ids])).logits[0].double().numpy()


def logits_and_tolerance(model: Any, ids: list[int]) -> tuple[np.ndarray, float]:
    """Float64 logits, and how far float32 may be from them."""
    model = model.eval()
    single = torch_logits(model, ids, torch.float32)
    exact = torch_logits(model, ids, torch.float64)
    rotary = model.model.rotary_emb
    rotary.inv_freq *= 1 + 2 * FLOAT32_EPS
    rotated = torch_logits(model, ids, torch.float64)
    lost = np.abs(single - exact).max() + np.abs(rotated - exact).max()
    return exact, ORDERS * lost + FLOAT32_EPS * np.abs(exact).max()


def ids_for(config: dict[str, Any]) -> list[int]:
    return np.random.default_rng(0).integers(0, config["vocab_size"], N_TOKENS).tolist()


LLAMA_VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "no-gqa": {"num_key_value_heads": 6},
    "one-kv-head": {"num_key_value_heads": 1},
    "wide-heads": {"head_dim": 20},
    "attention-bias": {"attention_bias": True},
    "mlp-bias": {"mlp_bias": True},
    "all-biases": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu_pytorch_tanh"},
    "relu2": {"hidden_act": "relu2"},
    "theta": {"rope_theta": 500000.0},
    "eps": {"rms_norm_eps": 1e-2},
    "rope-linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "rope-linear-old": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    "rope-llama3": {"rope_scaling": LLAMA3},
    "rope-llama3-new": {"rope_parameters": LLAMA3 | {"rope_theta": 50000.0}},
}


@pytest.mark.parametrize("variant", LLAMA_VARIANTS)
def test_llama(tmp_path: Path, variant: str) -> None:
    config = LLAMA | LLAMA_VARIANTS[variant]
    if "rope_parameters" in config:
        config.pop("rope_theta")
    source = make_checkpoint(tmp_path / "src", config)
    theirs = transformers.LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    ids = ids_for(config)
    expected, tolerance = logits_and_tolerance(theirs, ids)
    convert(source, tmp_path / "out", method="f32")
    logits = bitnet_py.load(tmp_path / "out").logits(ids)
    assert np.abs(logits - expected).max() < tolerance
    assert tolerance < 1e-3 * np.abs(expected).max(), "the tolerance says nothing"


# The others change the tensors, which the converter compares with the config.
SAME_TENSORS = ("gelu", "relu2", "theta", "eps", *(v for v in LLAMA_VARIANTS if "rope" in v))


@pytest.mark.parametrize("variant", SAME_TENSORS)
def test_every_variant_matters(tmp_path: Path, variant: str) -> None:
    """Were its fields ignored, the test above would see it."""
    source = make_checkpoint(tmp_path / "src", LLAMA)
    other = json.loads((source / "config.json").read_text()) | LLAMA_VARIANTS[variant]
    if "rope_parameters" in other:
        other.pop("rope_theta")
    ids = ids_for(LLAMA)
    plain = transformers.LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    (source / "config.json").write_text(json.dumps(other))
    changed = transformers.LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    expected, tolerance = logits_and_tolerance(plain, ids)
    moved = np.abs(torch_logits(changed.eval(), ids, torch.float32) - expected).max()
    assert moved > 10 * tolerance


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stored_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    """The same stored numbers, computed in float32 by both."""
    source = make_checkpoint(tmp_path / "src", dtype=dtype, shards=2)
    theirs = transformers.LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    ids = ids_for(LLAMA)
    expected, tolerance = logits_and_tolerance(theirs, ids)
    convert(source, tmp_path / "out", method="dense")
    assert read_tensors(tmp_path / "out")["lm_head.weight"].dtype == dtype
    # Keys and values in float32 too, as transformers has them.
    model = bitnet_py.load(tmp_path / "out", kv_dtype="f32")
    assert np.abs(model.logits(ids) - expected).max() < tolerance


def test_what_transformers_itself_saves(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        **{k: v for k, v in LLAMA.items() if k not in ("architectures", "model_type")}
        | {"rope_scaling": LLAMA3, "attention_bias": True}
    )
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path / "src", max_shard_size="100KB")
    assert len(list((tmp_path / "src").glob("*.safetensors"))) > 1
    expected, tolerance = logits_and_tolerance(theirs, ids_for(LLAMA))
    convert(tmp_path / "src", tmp_path / "out", method="f32")
    logits = bitnet_py.load(tmp_path / "out").logits(ids_for(LLAMA))
    assert np.abs(logits - expected).max() < tolerance


@pytest.mark.parametrize("act", ["silu", "relu2"])
@pytest.mark.parametrize("tied", [True, False])
def test_bitnet(tmp_path: Path, act: str, tied: bool) -> None:
    source = make_checkpoint(tmp_path / "src", BITNET, hidden_act=act, tie_word_embeddings=tied)
    theirs = transformers.BitNetForCausalLM.from_pretrained(source, dtype=torch.float32)
    expected, tolerance = logits_and_tolerance(theirs, ids_for(BITNET))
    convert(source, tmp_path / "out", method="f32")
    logits = bitnet_py.load(tmp_path / "out").logits(ids_for(BITNET))
    assert np.abs(logits - expected).max() < tolerance


QUANTIZED = {
    "autobitlinear": {"linear_class": "autobitlinear", "quantization_mode": "offline"},
    "bitlinear": {"linear_class": "bitlinear"},
    "masters": {"linear_class": "autobitlinear", "quantization_mode": "online"},
}


@pytest.mark.parametrize("dialect", QUANTIZED)
@pytest.mark.parametrize("bias", [False, True])
def test_quantized_as_transformers_runs_it(tmp_path: Path, dialect: str, bias: bool) -> None:
    """The whole path of a BitNet checkpoint, int8 activations included.

    A rounding of an activation that flips moves logits by far more than float32 does, so the
    measure is the correlation: a wrong scale rule or bias is nowhere near it.
    """
    pytest.importorskip("accelerate")
    from test_convert_bitnet import packed_tensors
    from tiny_checkpoint import random_tensors, write_checkpoint

    config = LLAMA | {"attention_bias": bias, "mlp_bias": bias}
    if dialect == "masters":
        tensors = random_tensors(config)
    else:
        tensors, _ = packed_tensors(config, stored_scale=0.0, dtype=torch.float32)
        for i, name in enumerate(filter(is_linear, list(tensors))):
            value = 0.05 + 0.01 * i
            value = 1 / value if dialect == "bitlinear" else value
            tensors[f"{name}_scale"] = torch.tensor([value])
    quantization = {"quant_method": "bitnet"} | QUANTIZED[dialect]
    source = write_checkpoint(
        tmp_path / "src", config | {"quantization_config": quantization}, tensors
    )
    theirs = transformers.LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    ids = ids_for(config)
    expected = torch_logits(theirs, ids, torch.float32)
    convert(source, tmp_path / "out", head="f32")
    logits = bitnet_py.load(tmp_path / "out", kv_dtype="f32").logits(ids)
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.9999
    assert np.abs(logits - expected).mean() < 0.01 * np.abs(expected).mean()
