"""Float checkpoints: what is written equals the oracles, integer by integer."""

import json
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from convert_reference import (
    absmean,
    decode_int8,
    decode_ternary2,
    int8_rows,
    quantization_config,
    read_tensors,
    stored_matrix,
)
from tiny_checkpoint import (
    LLAMA,
    is_linear,
    make_checkpoint,
    random_tensors,
    write_checkpoint,
)

import bitnet_py
from bitnet_py import _core
from bitnet_py.checkpoint import read_checkpoint
from bitnet_py.convert import convert

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", ["tensor", "row", "group"])
@pytest.mark.parametrize("shards", [1, 3])
def test_absmean_equals_the_oracle(tmp_path: Path, dtype: str, scale: str, shards: int) -> None:
    # A width above one group, and neither a multiple of the group nor of the panel.
    source = make_checkpoint(
        tmp_path / "src", dtype=DTYPES[dtype], shards=shards, intermediate_size=150
    )
    convert(source, tmp_path / "out", method="absmean", scale=scale)
    before, after = read_tensors(source), read_tensors(tmp_path / "out")
    for name, tensor in before.items():
        w = tensor.float().numpy()
        if is_linear(name):
            codes, gamma = absmean(w, scale)
            assert np.array_equal(decode_ternary2(after[name].numpy(), *w.shape), codes), name
            stored = after[f"{name}_scale"]
            assert stored.dtype == (torch.float16 if scale == "group" else torch.float32)
            stored = stored.float().numpy()
            n_scales = gamma.shape[-1]
            assert np.array_equal(stored[..., :n_scales], gamma), name
            assert not stored[..., n_scales:].any(), "padded rows have scale 0"
        elif tensor.ndim == 2:
            if name == "lm_head.weight":
                codes, gamma = reference.quantize_int6(w)
                whole = codes * np.repeat(gamma, 32, axis=1)[:, : w.shape[1]]
                assert np.array_equal(stored_matrix(tmp_path / "out", name, *w.shape), whole)
                continue
            codes, gamma = int8_rows(w)
            assert np.array_equal(decode_int8(after[name].numpy(), *w.shape), codes)
            assert np.array_equal(after[f"{name}_scale"].numpy()[: len(gamma)], gamma)
        else:
            assert after[name].dtype == torch.float32
            assert np.array_equal(after[name].numpy(), w)


def test_block_size_does_not_change_the_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_checkpoint(tmp_path / "src")
    convert(source, tmp_path / "whole", method="absmean", threads=1)
    monkeypatch.setattr("bitnet_py.convert.block_pool.BLOCK_BYTES", 1)
    convert(source, tmp_path / "pieces", method="absmean", threads=3)
    whole, pieces = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "pieces")
    )
    assert whole == pieces


@pytest.mark.parametrize("method", ["f32", "f16", "bf16", "dense"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_rounds_once(tmp_path: Path, method: str, dtype: str) -> None:
    source = make_checkpoint(tmp_path / "src", dtype=DTYPES[dtype], tie_word_embeddings=True)
    convert(source, tmp_path / "out", method=method)
    before, after = read_tensors(source), read_tensors(tmp_path / "out")
    wanted = DTYPES[dtype] if method == "dense" else DTYPES[method.upper()]
    for name, tensor in before.items():
        expected = tensor.to(wanted if tensor.ndim == 2 else torch.float32)
        assert torch.equal(after[name], expected), name
    assert quantization_config(tmp_path / "out")["tensors"] == []


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", ["int6", "int8", "f32", "f16", "bf16", "ternary"])
def test_head_formats(tmp_path: Path, tied: bool, head: str) -> None:
    source = make_checkpoint(tmp_path / "src", dtype=torch.bfloat16, tie_word_embeddings=tied)
    report = convert(source, tmp_path / "out", method="absmean", head=head)
    checkpoint = read_checkpoint(tmp_path / "out")
    name = "model.embed_tokens.weight" if tied else "lm_head.weight"
    assert ("lm_head.weight" in checkpoint.tensors) == (not tied)
    assert checkpoint.tensors[name].format == {"ternary": "ternary2"}.get(head, head)
    assert report.head == checkpoint.tensors[name].format
    if not tied:
        embedding = checkpoint.tensors["model.embed_tokens.weight"].format
        assert embedding == ("int8" if head in ("int6", "int8", "ternary") else "bf16")


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_int6_head_equals_the_oracle(tmp_path: Path, dtype: str) -> None:
    """The default of ternary methods. 70 rows and a width of 72 leave padding and a short group."""
    changes = {"vocab_size": 70, "hidden_size": 72, "tie_word_embeddings": True}
    source = make_checkpoint(tmp_path / "src", dtype=DTYPES[dtype], **changes)
    convert(source, tmp_path / "out", method="absmean")
    name = "model.embed_tokens.weight"
    w = read_tensors(source)[name].float().numpy()
    codes, scale = reference.quantize_int6(w)
    expected = codes * np.repeat(scale, 32, axis=1)[:, :72]
    np.testing.assert_array_equal(stored_matrix(tmp_path / "out", name, 70, 72), expected)
    checkpoint = read_checkpoint(tmp_path / "out")
    assert checkpoint.tensors[name].format == "int6"
    stored = read_tensors(tmp_path / "out")[f"{name}_scale"]
    assert stored.dtype == torch.float16
    assert tuple(stored.shape) == (3, 3, 32)
    assert not stored[2, :, 6:].any(), "padded rows have scale 0"


@pytest.mark.parametrize("method", ["absmean", "bf16"])
def test_modules_to_not_convert_stay_as_they_are(tmp_path: Path, method: str) -> None:
    source = make_checkpoint(tmp_path / "src", dtype=torch.float16)
    convert(
        source,
        tmp_path / "out",
        method=method,
        modules_to_not_convert=["model.layers.1", "down_proj", "lm_head"],
    )
    tensors = read_checkpoint(tmp_path / "out").tensors
    kept = "f16" if method == "absmean" else "bf16"
    converted = "ternary2" if method == "absmean" else "bf16"
    assert tensors["model.layers.1.self_attn.q_proj.weight"].format == kept
    assert tensors["model.layers.0.mlp.down_proj.weight"].format == kept
    assert tensors["lm_head.weight"].format == kept
    assert tensors["model.layers.0.self_attn.q_proj.weight"].format == converted


def test_patterns_follow_each_tensor(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "src")
    convert(source, tmp_path / "out", modules_to_not_convert=["model.layers.1.mlp.up_proj"])
    patterns = {line["pattern"] for line in quantization_config(tmp_path / "out")["tensors"]}
    assert "model.layers.*.mlp.down_proj.weight" in patterns  # all layers agree: one line
    assert "model.layers.0.mlp.up_proj.weight" in patterns  # they do not: a line each
    assert not any("1.mlp.up_proj" in pattern for pattern in patterns)


def test_config_keeps_the_source_fields(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "src", bos_token_id=1, torch_dtype="float32")
    convert(source, tmp_path / "out")
    before, after = (
        json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path / "out")
    )
    block = after.pop("quantization_config")
    assert after == before
    assert block["quant_method"] == "bitnet_py"
    assert block["format_version"] == 1
    assert block["conversion"]["source_model_type"] == "llama"
    assert block["conversion"]["source"] == "src"  # no path of the machine
    assert (tmp_path / "out" / "generation_config.json").read_text() == '{"bos_token_id": 1}'


@pytest.mark.parametrize("scale", ["tensor", "row", "group"])
def test_trits5_is_ternary2_in_fewer_bytes(tmp_path: Path, scale: str) -> None:
    """The same codes, scales, logits bit for bit and tokens, on every kernel table."""
    source = make_checkpoint(tmp_path / "src")
    folders = {store: tmp_path / store for store in ("ternary2", "trits5")}
    for store, folder in folders.items():
        convert(source, folder, method="absmean", scale=scale, ternary_store=store)
    before, after = (read_checkpoint(folder) for folder in folders.values())
    for spec in _core.tensor_specs(before.decoder):
        two, five = before.tensors[spec.name], after.tensors[spec.name]
        assert np.array_equal(five.scale, two.scale), spec.name
        if two.format == "ternary2":
            assert five.format == "trits5"
            codes = _core.unpack_ternary2(two.data, *spec.shape)
            assert np.array_equal(_core.unpack_trits5(five.data, *spec.shape), codes), spec.name
        else:
            assert np.array_equal(five.data, two.data), spec.name
    ids = list(range(3, 40))
    for isa in _core.available_isas():
        models = [bitnet_py.load(folder, isa=isa, threads=2) for folder in folders.values()]
        logits = [model.logits(ids) for model in models]
        assert np.array_equal(logits[1], logits[0]), isa
        tokens = [model.generate_results(ids[:5], max_new_tokens=20) for model in models]
        assert tokens[1][0].token_ids == tokens[0][0].token_ids, isa


def test_a_store_for_nothing_ternary_is_noted(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "src")
    report = convert(source, tmp_path / "out", method="bf16", ternary_store="trits5")
    assert report.notes == ("ternary_store trits5 had no effect: nothing is ternary",)


def test_tied_head_that_is_stored_twice(tmp_path: Path) -> None:
    """transformers ties equal tensors, and keeps different ones apart whatever the config says."""
    config = LLAMA | {"tie_word_embeddings": True}
    tensors = random_tensors(LLAMA)
    same = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    only_head = {k: v for k, v in tensors.items() if k != "model.embed_tokens.weight"}
    for name, content, is_tied in (
        ("same", same, True),
        ("different", tensors, False),
        ("only_head", only_head, True),
    ):
        source = write_checkpoint(tmp_path / name, config, content)
        report = convert(source, tmp_path / f"{name}-out", method="f32")
        decoder = quantization_config(tmp_path / f"{name}-out")["decoder"]
        assert decoder["tie_word_embeddings"] == is_tied, name
        assert bool(report.notes) == (name == "different")
    head = read_tensors(tmp_path / "only_head-out")["model.embed_tokens.weight"]
    assert torch.equal(head, tensors["lm_head.weight"])


def test_rotary_buffers_of_old_checkpoints_are_left_out(tmp_path: Path) -> None:
    tensors = random_tensors(LLAMA)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    convert(write_checkpoint(tmp_path / "src", LLAMA, tensors), tmp_path / "out")
    assert not any("rotary" in name for name in read_tensors(tmp_path / "out"))


ROPE_V5 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
           "high_freq_factor": 4.0, "original_max_position_embeddings": 32}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rope_theta": 1e4}, {"rope_type": "default", "rope_theta": 1e4}),
        ({"rope_theta": None}, {"rope_type": "default", "rope_theta": 1e4}),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, {"rope_theta": 7.0}),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}},
            {"rope_type": "linear", "rope_factor": 2.0, "rope_theta": 5e5},
        ),
        (
            {"rope_theta": None, "rope_parameters": ROPE_V5},
            {"rope_type": "llama3", "rope_theta": 5e5, "rope_factor": 8.0,
             "rope_low_freq_factor": 1.0, "rope_high_freq_factor": 4.0,
             "rope_original_max_position_embeddings": 32},
        ),
        (
            {"rope_scaling": {k: v for k, v in ROPE_V5.items() if not k.startswith("orig")}},
            {"rope_original_max_position_embeddings": LLAMA["max_position_embeddings"]},
        ),
    ],
)  # fmt: skip
def test_rope_in_both_spellings(tmp_path: Path, fields: dict, expected: dict) -> None:
    source = make_checkpoint(tmp_path / "src", **fields)
    convert(source, tmp_path / "out", method="f32")
    decoder = quantization_config(tmp_path / "out")["decoder"]
    assert {name: decoder[name] for name in expected} == expected


def test_large_values_do_not_become_infinite(tmp_path: Path) -> None:
    tensors = random_tensors(LLAMA)
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name][5, 7] = 1e30
    source = write_checkpoint(tmp_path / "src", LLAMA, tensors)
    with pytest.raises(ValueError, match=rf"{name}.*too large for f16; use bf16 or f32"):
        convert(source, tmp_path / "out", method="f16")
    tensors[name][5] = 1e9
    source = write_checkpoint(tmp_path / "src2", LLAMA, tensors)
    with pytest.raises(ValueError, match=rf"{name}.*too large for float16; use --scale row"):
        convert(source, tmp_path / "out", method="absmean", scale="group")
    assert not (tmp_path / "out").exists()
    convert(source, tmp_path / "out", method="absmean", scale="row")
