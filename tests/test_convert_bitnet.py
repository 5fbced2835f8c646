"""Ternary sources: every dialect ends in the codes and the multiplying scale that it means."""

from pathlib import Path

import numpy as np
import pytest
import torch
from convert_reference import (
    GROUP,
    absmean,
    decode_ternary2,
    pack_huggingface,
    quantization_config,
    read_tensors,
    stored_matrix,
)
from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoint import BITNET, LLAMA, is_linear, random_tensors, write_checkpoint

from bitnet_py.checkpoint import read_checkpoint
from bitnet_py.convert import convert
from bitnet_py.convert.ternary_valued import as_ternary
from bitnet_py.convert.weights import Weight

AUTO = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
ONLINE = AUTO | {"quantization_mode": "online"}
BITLINEAR = {"quant_method": "bitnet", "linear_class": "bitlinear"}
FALCON = {"quant_method": "bitnet", "modules_to_not_convert": None}  # no linear_class: bitlinear


def random_codes(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, shape).astype(np.int8)


def packed_tensors(
    config: dict, stored_scale: float, dtype: torch.dtype = torch.bfloat16
) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """A packed checkpoint's tensors, and the codes that are in it."""
    tensors, codes = {}, {}
    for i, (name, tensor) in enumerate(random_tensors(config).items()):
        if is_linear(name):
            codes[name] = random_codes(tuple(tensor.shape), i)
            tensors[name] = torch.from_numpy(pack_huggingface(codes[name]))
            tensors[f"{name}_scale"] = torch.tensor([stored_scale + i], dtype=dtype)
        else:
            tensors[name] = tensor.to(dtype)
    return tensors, codes


def test_the_packing_oracle_is_that_of_transformers() -> None:
    bitnet = pytest.importorskip("transformers.integrations.bitnet")
    t = random_codes((12, 7), 0)
    packed = bitnet.pack_weights(torch.from_numpy(t.copy()))
    assert np.array_equal(packed.numpy(), pack_huggingface(t))


@pytest.mark.parametrize("config", [BITNET, LLAMA], ids=["bitnet", "llama"])
@pytest.mark.parametrize(
    ("quantization", "is_inverse"),
    [(AUTO, False), (BITLINEAR, True), (FALCON, True)],
    ids=["autobitlinear", "bitlinear", "falcon"],
)
@pytest.mark.parametrize("shards", [1, 2])
def test_packed_codes_and_both_scale_rules(
    tmp_path: Path, config: dict, quantization: dict, is_inverse: bool, shards: int
) -> None:
    tensors, codes = packed_tensors(config, stored_scale=3.0)
    source = write_checkpoint(
        tmp_path / "src", config | {"quantization_config": quantization}, tensors, shards
    )
    report = convert(source, tmp_path / "out")
    after = read_tensors(tmp_path / "out")
    for name, t in codes.items():
        stored = tensors[f"{name}_scale"].float().numpy()
        expected = np.float32(1) / stored if is_inverse else stored
        assert np.array_equal(decode_ternary2(after[name].numpy(), *t.shape), t), name
        assert np.array_equal(after[f"{name}_scale"].numpy(), expected), name
    assert {m.origin for m in report.matrices if m.role == "linear"} == {"packed"}
    assert report.warnings == ()
    assert report.weight_error is None
    conversion = quantization_config(tmp_path / "out")["conversion"]
    assert conversion["source_quantization_config"] == quantization


@pytest.mark.parametrize("method", ["f32", "dense"])
def test_packed_becomes_dense_by_its_effective_weights(tmp_path: Path, method: str) -> None:
    tensors, codes = packed_tensors(BITNET, stored_scale=3.0)
    config = BITNET | {"quantization_config": AUTO}
    convert(write_checkpoint(tmp_path / "src", config, tensors), tmp_path / "out", method=method)
    after = read_tensors(tmp_path / "out")
    for name, t in codes.items():
        scale = tensors[f"{name}_scale"].float().numpy()
        assert np.array_equal(after[name].float().numpy(), t * scale), name
        # a bf16 scale times a code is a bf16 number
        assert after[name].dtype == (torch.float32 if method == "f32" else torch.bfloat16)


@pytest.mark.parametrize("method", ["auto", "absmean", "f32"])
def test_masters_are_quantized_by_the_models_definition(tmp_path: Path, method: str) -> None:
    tensors = {name: t.bfloat16() for name, t in random_tensors(BITNET).items()}
    config = BITNET | {"quantization_config": ONLINE}
    source = write_checkpoint(tmp_path / "src", config, tensors)
    report = convert(source, tmp_path / "out", method=method)
    for name in filter(is_linear, tensors):
        codes, gamma = absmean(tensors[name].float().numpy(), "tensor")
        assert np.array_equal(stored_matrix(tmp_path / "out", name, *codes.shape), codes * gamma)
    assert report.warnings == ()


@pytest.mark.parametrize(("quantization", "is_noted"), [(ONLINE, True), (None, False)])
def test_a_scale_that_the_source_overrules(
    tmp_path: Path, quantization: dict | None, is_noted: bool
) -> None:
    config = BITNET | ({} if quantization is None else {"quantization_config": quantization})
    source = write_checkpoint(tmp_path / "src", config, random_tensors(BITNET))
    report = convert(source, tmp_path / "out", scale="row")
    assert [note for note in report.notes if "scale row had no effect" in note] == (
        list(report.notes) if is_noted else []
    )
    scales = {matrix.scale for matrix in report.matrices if matrix.role == "linear"}
    assert scales == ({"tensor"} if is_noted else {"row"})


def test_masters_of_1bitllm_hide_in_a_llama(tmp_path: Path) -> None:
    """Their extra norms are the only sign; stock Llama code drops them and prints nonsense."""
    theirs = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}
    tensors = random_tensors(BITNET)
    renamed = {}
    for name, tensor in tensors.items():
        for ours, other in theirs.items():
            name = name.replace(ours, other)
        renamed[name] = tensor
    config = BITNET | {"model_type": "llama", "architectures": ["BitnetForCausalLM"]}
    report = convert(write_checkpoint(tmp_path / "src", config, renamed), tmp_path / "out")
    after = read_tensors(tmp_path / "out")
    for name, tensor in tensors.items():
        if is_linear(name):
            codes, gamma = absmean(tensor.numpy(), "tensor")
            stored = stored_matrix(tmp_path / "out", name, *codes.shape)
            assert np.array_equal(stored, codes * gamma)
        elif tensor.ndim == 1:
            assert torch.equal(after[name], tensor), name
    decoder = quantization_config(tmp_path / "out")["decoder"]
    assert decoder["attn_sub_norm"]
    assert decoder["ffn_sub_norm"]
    assert {m.origin for m in report.matrices if m.role == "linear"} == {"masters"}
    assert report.warnings == ()


def test_bitnet_without_a_quantization_is_dense_as_in_transformers(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "src", BITNET, random_tensors(BITNET))
    convert(source, tmp_path / "dense", method="dense")
    before, after = read_tensors(source), read_tensors(tmp_path / "dense")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    report = convert(source, tmp_path / "ternary")
    assert "not ternary" in report.warnings[0]


def ternary_valued(shape: tuple[int, int], scale: str, dtype: torch.dtype) -> torch.Tensor:
    rng = np.random.default_rng(shape[0])
    n, k = shape
    sizes = {
        "tensor": np.full((n, k), 0.37),
        "row": np.repeat(rng.uniform(0.1, 2, (n, 1)), k, axis=1),
        "group": np.repeat(rng.uniform(0.1, 2, (n, -(-k // GROUP))), GROUP, axis=1)[:, :k],
    }[scale]
    values = random_codes(shape, 5) * sizes
    values[0] = 0  # an empty row fits every scale
    return torch.from_numpy(values).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", ["tensor", "row", "group"])
@pytest.mark.parametrize("method", ["auto", "absmean"])
def test_ternary_valued_floats_are_packed_without_loss(
    tmp_path: Path, dtype: torch.dtype, scale: str, method: str
) -> None:
    """absmean would shrink them: the mean of their magnitudes counts the zeros."""
    config = LLAMA | {"intermediate_size": 150, "hidden_size": 144}
    tensors = {
        name: ternary_valued(tuple(t.shape), scale, dtype) if is_linear(name) else t.to(dtype)
        for name, t in random_tensors(config).items()
    }
    report = convert(
        write_checkpoint(tmp_path / "src", config, tensors), tmp_path / "out", method=method
    )
    for name in filter(is_linear, tensors):
        expected = tensors[name].float().numpy()
        assert np.array_equal(stored_matrix(tmp_path / "out", name, *expected.shape), expected)
    matrices = {m.name: m for m in report.matrices if m.role == "linear"}
    assert {m.origin for m in matrices.values()} == {"ternary-valued"}
    wide = matrices["model.layers.0.mlp.down_proj.weight"]  # 150 columns: two groups
    assert wide.scale == scale
    stored = read_tensors(tmp_path / "out")["model.layers.0.mlp.down_proj.weight_scale"]
    fits_f16 = scale == "group" and dtype != torch.float32
    assert stored.dtype == (torch.float16 if fits_f16 else torch.float32)


def test_a_ternary_valued_head_is_packed_too(tmp_path: Path) -> None:
    tensors = {
        name: ternary_valued(tuple(t.shape), "group", torch.float16) if t.ndim == 2 else t
        for name, t in random_tensors(BITNET).items()
    }
    source = write_checkpoint(tmp_path / "src", BITNET, tensors)
    convert(source, tmp_path / "out")
    name = "model.embed_tokens.weight"
    expected = tensors[name].float().numpy()
    assert np.array_equal(stored_matrix(tmp_path / "out", name, *expected.shape), expected)
    convert(source, tmp_path / "int8", head="int8")
    assert read_checkpoint(tmp_path / "int8").tensors[name].format == "int8"


def test_almost_ternary_is_not_ternary(tmp_path: Path) -> None:
    tensors = {
        name: ternary_valued(tuple(t.shape), "tensor", torch.float32) if is_linear(name) else t
        for name, t in random_tensors(LLAMA).items()
    }
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name][-1, -1] = tensors[name].abs().max() * (1 + 2**-20)
    report = convert(write_checkpoint(tmp_path / "src", LLAMA, tensors), tmp_path / "out")
    lossy = [matrix.name for matrix in report.matrices if matrix.origin == "absmean"]
    assert lossy == [name]


def test_unpacked_codes_with_a_scale(tmp_path: Path) -> None:
    """autobitlinear offline also loads floats -1, 0, 1 of full shape, times weight_scale."""
    tensors, codes = packed_tensors(BITNET, stored_scale=3.0)
    tensors |= {name: torch.from_numpy(t).bfloat16() for name, t in codes.items()}
    config = BITNET | {"quantization_config": AUTO}
    convert(write_checkpoint(tmp_path / "src", config, tensors), tmp_path / "out")
    for name, t in codes.items():
        scale = tensors[f"{name}_scale"].float().numpy()
        assert np.array_equal(stored_matrix(tmp_path / "out", name, *t.shape), t * scale)


@pytest.mark.parametrize(("quantization", "factor"), [(AUTO, True), (BITLINEAR, False)])
def test_biases_as_transformers_adds_them(tmp_path: Path, quantization: dict, factor: bool) -> None:
    """autobitlinear offline multiplies (x W^T + b) by weight_scale, bitlinear adds b at the end."""
    config = LLAMA | {"attention_bias": True, "mlp_bias": True}
    tensors, _ = packed_tensors(config, stored_scale=3.0)
    config |= {"quantization_config": quantization}
    convert(write_checkpoint(tmp_path / "src", config, tensors), tmp_path / "out")
    after = read_tensors(tmp_path / "out")
    biases = [name for name in tensors if name.endswith(".bias")]
    assert len(biases) == 14
    for name in biases:
        scale = tensors[name.replace(".bias", ".weight_scale")].float() if factor else 1
        assert torch.equal(after[name], tensors[name].float() * scale), name


def test_modules_that_the_source_did_not_convert_stay_dense(tmp_path: Path) -> None:
    tensors, _ = packed_tensors(LLAMA, stored_scale=3.0)
    floats = random_tensors(LLAMA)
    dense = [name for name in floats if is_linear(name) and "layers.1.self_attn" in name]
    for name in dense:
        tensors[name] = floats[name].bfloat16()
        del tensors[f"{name}_scale"]
    config = LLAMA | {
        "quantization_config": AUTO
        | {"modules_to_not_convert": ["lm_head", "model.layers.1.self_attn"]}
    }
    convert(write_checkpoint(tmp_path / "src", config, tensors), tmp_path / "out")
    stored = read_checkpoint(tmp_path / "out").tensors
    assert {name for name, t in stored.items() if t.format == "bf16"} == {
        *dense,
    }


@pytest.mark.parametrize("listed", [None, ["lm_head"], []])
def test_a_tied_head_that_the_source_quantizes_is_mentioned(
    tmp_path: Path, listed: list[str] | None
) -> None:
    tensors, _ = packed_tensors(BITNET, stored_scale=3.0)
    config = BITNET | {"quantization_config": AUTO | {"modules_to_not_convert": listed}}
    report = convert(write_checkpoint(tmp_path / "src", config, tensors), tmp_path / "out")
    assert bool(report.notes) == (listed == [])


def test_a_head_that_the_source_quantized(tmp_path: Path) -> None:
    """A list of modules_to_not_convert replaces transformers' own, so the head can be packed."""
    config = LLAMA | {"vocab_size": 84}
    tensors, _ = packed_tensors(config, stored_scale=3.0)
    t = random_codes((84, config["hidden_size"]), 9)
    tensors["lm_head.weight"] = torch.from_numpy(pack_huggingface(t))
    tensors["lm_head.weight_scale"] = torch.tensor([0.5])
    config |= {"quantization_config": AUTO | {"modules_to_not_convert": []}}
    convert(write_checkpoint(tmp_path / "src", config, tensors), tmp_path / "out")
    assert np.array_equal(stored_matrix(tmp_path / "out", "lm_head.weight", *t.shape), t * 0.5)


@pytest.mark.parametrize("method", ["auto", "f32"])
@pytest.mark.parametrize("dialect", [AUTO, FALCON, ONLINE, None], ids=str)
def test_blocks_do_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: dict | None, method: str
) -> None:
    """A block of rows may begin in one quarter of a packed tensor and end in the next."""
    if dialect in (AUTO, FALCON):
        tensors, _ = packed_tensors(BITNET, stored_scale=3.0)
    else:
        tensors = {
            name: ternary_valued(tuple(t.shape), "row", torch.float16) if is_linear(name) else t
            for name, t in random_tensors(BITNET).items()
        }
    config = BITNET if dialect is None else BITNET | {"quantization_config": dialect}
    source = write_checkpoint(tmp_path / "src", config, tensors)
    convert(source, tmp_path / "whole", method=method, threads=1)
    monkeypatch.setattr("bitnet_py.convert.block_pool.BLOCK_BYTES", 1)
    convert(source, tmp_path / "pieces", method=method, threads=3)
    whole, pieces = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "pieces")
    )
    assert whole == pieces


class Rows(Weight):
    """A weight in memory."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__("w", values.shape, "F32")
        self.values = values

    def read(self, begin: int, end: int) -> np.ndarray:
        return self.values[begin:end]


MAGNITUDES = st.sampled_from([0.0, 0.5, 0.3, 1e-40, 7e4])


@given(
    st.integers(1, 40), st.integers(1, 300), st.sampled_from([1, 3, 1000]), MAGNITUDES, MAGNITUDES
)
def test_detection_loses_nothing(
    n: int, k: int, block_bytes: int, first: float, second: float
) -> None:
    """Whatever two magnitudes meet, and wherever a block ends."""
    values = random_codes((n, k), n * k).astype(np.float32)
    values[: n // 2] *= np.float32(first)
    values[n // 2 :] *= np.float32(second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitnet_py.convert.block_pool.BLOCK_BYTES", block_bytes)
        found = as_ternary(Rows(values))
    assert found is not None
    assert np.array_equal(found.read(0, n), values)
    sizes = np.abs(values).max(axis=1)
    is_one = len(set(sizes[sizes > 0])) <= 1
    assert found.scale_kind == ("tensor" if is_one else "row")
    if k > 2:
        values[n // 2, :3] = (0.1, 0.2, 0.3)
        assert as_ternary(Rows(values)) is None
