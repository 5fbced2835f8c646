"""Checkpoints that break a rule: each is refused by name, and nothing is written."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from convert_reference import pack_huggingface
from tiny_checkpoint import BITNET, LLAMA, is_linear, random_tensors, write_checkpoint

from bitnet_py import FormatError
from bitnet_py.convert import convert

AUTO = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
LINEAR = "model.layers.1.mlp.up_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"


def refused(tmp_path: Path, source: Path, match: str, **options: object) -> None:
    with pytest.raises(FormatError, match=match):
        convert(source, tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == [source.name], "something was left behind"


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"model_type": "mamba"}, r"model_type 'mamba' is not supported; those that are: .*llama"),
        ({"model_type": "../cli"}, r"model_type '\.\./cli' is not supported"),
        ({"model_type": "__init__"}, r"model_type '__init__' is not supported"),
        ({"model_type": None}, r"config\.json: the field model_type is missing"),
        ({"hidden_size": None}, r"the field hidden_size is missing"),
        ({"hidden_size": 48.0}, r"hidden_size must be a positive integer, got 48\.0"),
        ({"num_hidden_layers": True}, r"num_hidden_layers must be a positive integer"),
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers is 1000000000, but there are"),
        ({"num_key_value_heads": 4}, r"num_attention_heads .*multiple.* num_key_value_heads"),
        ({"head_dim": None, "num_attention_heads": 5}, r"hidden_size 48 is no multiple"),
        ({"head_dim": 7}, r"even head_dim"),
        ({"hidden_act": "gelu"}, r"hidden_act 'gelu' is not supported; those that are: silu"),
        ({"rms_norm_eps": "tiny"}, r"rms_norm_eps must be a number"),
        ({"rms_norm_eps": -1.0}, r"rms_norm_eps"),
        ({"tie_word_embeddings": 1}, r"tie_word_embeddings must be true or false"),
        ({"sliding_window": 4096}, r"sliding_window 4096 is not supported"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, r"rope_type 'yarn' is not supported"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, r"rope_type 'dynamic' is not supported"),
        ({"rope_scaling": {"type": "linear"}}, r"rope_scaling: the field factor is missing"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, r"low_freq_factor is missing"),
        ({"rope_scaling": [2]}, r"rope_scaling must be an object"),
        ({"rope_parameters": {"full_attention": {}}}, r"per kind of layer is not supported"),
        ({"partial_rotary_factor": 0.5}, r"partial_rotary_factor 0\.5 is not supported"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quant_method 'gptq' is not read"),
        ({"quantization_config": {"quant_method": "bitnet_py"}}, r"converted model already"),
        ({"quantization_config": {}, "vocab_size": 84}, r"expected shape \[84, 48\] .* \[83, 48\]"),
        ({"quantization_config": {"bits": 2}}, r"the field quant_method is missing"),
        ({"quantization_config": AUTO | {"linear_class": "x"}}, r"linear_class must be bitlinear"),
        ({"quantization_config": AUTO | {"quantization_mode": "x"}}, r"quantization_mode must be"),
        ({"quantization_config": AUTO | {"use_rms_norm": True}}, r"use_rms_norm .* not supported"),
        (
            {"quantization_config": AUTO | {"modules_to_not_convert": ["(a+)+b"]}},
            r"modules_to_not_convert: '\(a\+\)\+b' is not understood",
        ),
        ({"mlp_bias": True}, r"model\.layers\.0\.mlp\.gate_proj\.bias is missing"),
        ({"num_hidden_layers": 1}, r"no rule uses the tensor model\.layers\.1\..* and 8 more"),
    ],
    ids=str,
)
def test_config(tmp_path: Path, fields: dict, match: str) -> None:
    config = {k: v for k, v in (LLAMA | fields).items() if v is not None}
    source = write_checkpoint(tmp_path / "src", config, random_tensors(LLAMA))
    refused(tmp_path, source, match)


def spoil(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable:
    def spoiled(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = change(tensors[name].clone())

    return spoiled


def without(name: str) -> Callable:
    return lambda tensors: tensors.pop(name)


def replaced_by(name: str, tensor: torch.Tensor) -> Callable:
    return lambda tensors: tensors.update({name: tensor})


def with_value(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return change


@pytest.mark.parametrize("method", ["auto", "f32", "bf16"])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (without(LINEAR), rf"the tensor {LINEAR} is missing"),
        (without(NORM), rf"the tensor {NORM} is missing"),
        (spoil(LINEAR, with_value(float("nan"))), rf"{LINEAR}: nan at row 135, column 47"),
        (spoil(LINEAR, with_value(float("-inf"))), rf"{LINEAR}: -inf at row 135, column 47"),
        (spoil(NORM, with_value(float("nan"))), rf"{NORM}: nan among its values"),
        (spoil("lm_head.weight", with_value(float("nan"))), r"lm_head\.weight: nan at row 82"),
        (spoil(LINEAR, lambda t: t.T.contiguous()), rf"{LINEAR}: expected shape \[136, 48\]"),
        (spoil(NORM, lambda t: t[1:].clone()), rf"{NORM}: expected shape \[48\]"),
        (spoil(LINEAR, lambda t: t.double()), rf"{LINEAR}: dtype F64; expected one of F32"),
        (spoil(LINEAR, lambda t: t.byte()), rf"{LINEAR}: it is packed \(U8\), but"),
        (
            replaced_by("model.layers.0.self_attn.q_norm.weight", torch.ones(8)),
            r"no rule uses the tensor model\.layers\.0\.self_attn\.q_norm\.weight",
        ),
    ],
)
def test_tensors(tmp_path: Path, method: str, change: Callable, match: str) -> None:
    tensors = random_tensors(LLAMA)
    change(tensors)
    refused(tmp_path, write_checkpoint(tmp_path / "src", LLAMA, tensors), match, method=method)


SCALE = f"{LINEAR}_scale"
CODES = np.random.default_rng(0).integers(-1, 2, (136, 48)).astype(np.int8)


def packed_llama() -> dict[str, torch.Tensor]:
    tensors = random_tensors(LLAMA)
    for name in list(filter(is_linear, tensors)):
        t = torch.sign(tensors[name]).to(torch.int8).numpy()
        tensors[name] = torch.from_numpy(pack_huggingface(t))
        tensors[f"{name}_scale"] = torch.tensor([0.5])
    return tensors


@pytest.mark.parametrize("method", ["auto", "f32"])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (spoil(LINEAR, with_value(0b11000000)), rf"{LINEAR}: code 3 at row 135, column 47"),
        (spoil(LINEAR, with_value(0b00000011)), rf"{LINEAR}: code 3 at row 33, column 47"),
        (spoil(SCALE, with_value(0.0)), rf"{SCALE}: the scale must be positive and finite, got 0"),
        (spoil(SCALE, with_value(-1.0)), rf"{SCALE}: the scale must be positive and finite"),
        (spoil(SCALE, with_value(float("nan"))), rf"{SCALE}: .* got nan"),
        (spoil(SCALE, with_value(float("inf"))), rf"{SCALE}: .* got inf"),
        (spoil(SCALE, with_value(1e-45)), rf"{SCALE}: the scale .* has no finite inverse"),
        (spoil(SCALE, lambda t: t.repeat(2)), rf"{SCALE}: expected one number, got shape \[2\]"),
        (without(SCALE), rf"the tensor {SCALE} is missing"),
        (
            spoil(LINEAR, lambda t: t[:-1].clone()),
            rf"{LINEAR}: expected shape \[34, 48\] \(packed \[136, 48\]\) .* got \[33, 48\]",
        ),
        (replaced_by(LINEAR, torch.zeros(136, 48)), rf"{LINEAR}: expected packed U8 weights"),
        (spoil("lm_head.weight", lambda t: t.byte()), r"lm_head\.weight: it is packed \(U8\)"),
    ],
)
def test_packed_tensors(tmp_path: Path, method: str, change: Callable, match: str) -> None:
    tensors = packed_llama()
    change(tensors)
    config = LLAMA | {"quantization_config": {"quant_method": "bitnet"}}
    refused(tmp_path, write_checkpoint(tmp_path / "src", config, tensors), match, method=method)


def test_rows_that_four_do_not_divide(tmp_path: Path) -> None:
    config = LLAMA | {"intermediate_size": 138}
    tensors = packed_llama() | {
        name: torch.zeros(shape, dtype=torch.uint8)
        for name, shape in (
            ("model.layers.0.mlp.gate_proj.weight", (34, 48)),
            ("model.layers.0.mlp.up_proj.weight", (34, 48)),
        )
    }
    config |= {"quantization_config": AUTO}
    source = write_checkpoint(tmp_path / "src", config, tensors)
    refused(tmp_path, source, r"gate_proj\.weight: 138 rows cannot be packed four to a byte")


def test_bitnet_without_its_sub_norms(tmp_path: Path) -> None:
    """transformers would run it with norms of ones and a warning; that is another model."""
    tensors = {k: v for k, v in random_tensors(BITNET).items() if "sub_norm" not in k}
    source = write_checkpoint(tmp_path / "src", BITNET, tensors)
    refused(tmp_path, source, r"model\.layers\.0\.self_attn\.attn_sub_norm\.weight is missing")


def test_code_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    config = LLAMA | {"auto_map": {"AutoModelForCausalLM": "modeling_evil.LlamaForCausalLM"}}
    source = write_checkpoint(tmp_path / "src", config, random_tensors(LLAMA))
    (source / "modeling_evil.py").write_text("raise SystemExit('run')")
    report = convert(source, tmp_path / "out")
    assert "auto_map" in report.notes[0]
    assert not (tmp_path / "out" / "modeling_evil.py").exists()


class Payload:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("pickle_was_opened"),))


def test_pickles_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "src"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(LLAMA))
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    refused(tmp_path, source, r"pytorch_model\.bin but no safetensors. Pickles are never opened")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_shards_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    source = write_checkpoint(tmp_path / "src", LLAMA, random_tensors(LLAMA), shards=2)
    index = {"metadata": {}, "weight_map": {"lm_head.weight": name}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(tmp_path, source, "a shard must be the name of a file in this folder")


@pytest.mark.parametrize(
    ("text", "match"),
    [(b"{", "not JSON"), (b"[]", "expected a JSON object"), (b"\xff", "not UTF-8")],
)
def test_config_that_is_none(tmp_path: Path, text: bytes, match: str) -> None:
    source = write_checkpoint(tmp_path / "src", LLAMA, random_tensors(LLAMA))
    (source / "config.json").write_bytes(text)
    refused(tmp_path, source, match)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        convert(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        convert(tmp_path / "empty", tmp_path / "out")
