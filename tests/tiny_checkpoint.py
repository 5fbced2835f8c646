"""Tiny random Hugging Face checkpoints, written file by file, so that a test can spoil any part."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 83,
    "hidden_size": 48,
    "intermediate_size": 136,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
BITNET = LLAMA | {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "hidden_act": "relu2",
    "tie_word_embeddings": True,
}
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def is_linear(name: str) -> bool:
    """Whether a tensor is the weight of a linear layer inside the decoder's layers."""
    return name.removesuffix(".weight").rpartition(".")[2] in LINEARS and name.endswith(".weight")


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """Float32 tensors under Hugging Face's names for a Llama or BitNet config."""
    generator = torch.Generator().manual_seed(seed)
    hidden, inter = config["hidden_size"], config["intermediate_size"]
    q_size = config["num_attention_heads"] * config["head_dim"]
    kv_size = config["num_key_value_heads"] * config["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden)
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, n, k in (
            ("self_attn.q_proj", q_size, hidden),
            ("self_attn.k_proj", kv_size, hidden),
            ("self_attn.v_proj", kv_size, hidden),
            ("self_attn.o_proj", hidden, q_size),
            ("mlp.gate_proj", inter, hidden),
            ("mlp.up_proj", inter, hidden),
            ("mlp.down_proj", hidden, inter),
        ):
            shapes[f"{prefix}{name}.weight"] = (n, k)
            kind = "attention_bias" if name.startswith("self_attn") else "mlp_bias"
            if config.get(kind):
                shapes[f"{prefix}{name}.bias"] = (n,)
        shapes[f"{prefix}input_layernorm.weight"] = (hidden,)
        shapes[f"{prefix}post_attention_layernorm.weight"] = (hidden,)
        if config["model_type"] == "bitnet":
            shapes[f"{prefix}self_attn.attn_sub_norm.weight"] = (q_size,)
            shapes[f"{prefix}mlp.ffn_sub_norm.weight"] = (inter,)
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    tensors = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 2:
            tensors[name] = values / shape[1] ** 0.5
        else:
            tensors[name] = values * 0.1 + (0 if name.endswith("bias") else 1)
    return tensors


def write_checkpoint(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], shards: int = 1
) -> Path:
    """A folder as save_pretrained would write it; with several shards, tensors take turns."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"bos_token_id": 1}')
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})
        return folder
    weight_map = {}
    for i in range(shards):
        shard_name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        names = list(tensors)[i::shards]
        save_file({name: tensors[name] for name in names}, folder / shard_name, {"format": "pt"})
        weight_map |= dict.fromkeys(names, shard_name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def make_checkpoint(
    folder: Path,
    config: Mapping[str, Any] = LLAMA,
    *,
    dtype: torch.dtype = torch.float32,
    shards: int = 1,
    **changes: Any,
) -> Path:
    """A random checkpoint of a config with some fields changed."""
    config = {**config, **changes}
    tensors = {name: tensor.to(dtype) for name, tensor in random_tensors(config).items()}
    return write_checkpoint(folder, config, tensors, shards)
