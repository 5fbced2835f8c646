"""Packed folders: what was written is read back, and one hostile folder per rule."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_model import make_decoder, make_model, make_tensors, write_folder

import bitnet_py
from bitnet_py import _core
from bitnet_py.checkpoint import read_checkpoint
from bitnet_py.errors import FormatError

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"
IDS = [1, 5, 90, 33, 7]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    decoder = make_decoder()
    return write_folder(tmp_path / "packed", decoder, make_tensors(decoder, embedding="int8"))


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def edit_tensors(folder: Path, edit: Callable[[dict[str, np.ndarray]], Any]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("scale", ["tensor", "row", "group"])
@pytest.mark.parametrize("embedding", ["f32", "f16", "bf16", "int8"])
def test_a_loaded_folder_is_the_model_of_its_arrays(
    tmp_path: Path, scale: str, embedding: str
) -> None:
    decoder = make_decoder(tie_word_embeddings=embedding == "f16")
    tensors = make_tensors(decoder, scale=scale, embedding=embedding)
    folder = write_folder(tmp_path / "packed", decoder, tensors)
    expected = make_model(decoder, scale=scale, embedding=embedding).logits(IDS)
    np.testing.assert_array_equal(bitnet_py.load(folder).logits(IDS), expected)
    checkpoint = read_checkpoint(folder)
    assert checkpoint.decoder == decoder
    for name, tensor in tensors.items():
        read = checkpoint.tensors[name]
        assert (read.format, read.scale_kind) == (tensor.format, tensor.scale_kind)
        np.testing.assert_array_equal(read.data, tensor.data, strict=True)
        assert not read.data.flags.writeable


def test_first_pattern_wins_and_dense_needs_none(tmp_path: Path) -> None:
    decoder = make_decoder()
    folder = write_folder(tmp_path, decoder, make_tensors(decoder))
    rules = [
        {"pattern": "model.layers.*_proj.weight", "format": "ternary2", "scale": "tensor"},
        {"pattern": "*", "format": "f32"},
        {"pattern": "model.layers.*", "format": "int8", "scale": "row"},
    ]
    edit_config(folder, lambda c: c["quantization_config"].update(tensors=rules))
    formats = {n: t.format for n, t in read_checkpoint(folder).tensors.items()}
    assert formats[Q_PROJ] == "ternary2"
    assert formats[NORM] == formats[EMBEDDING] == "f32"


def block(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda config: config["quantization_config"].update(changes)


def decoder_field(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda config: config["quantization_config"]["decoder"].update({name: value})


def rule(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda config: config["quantization_config"]["tensors"][0].update(changes)


HOSTILE_CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no block": (lambda c: c.pop("quantization_config"), "not a packed folder .no quantization"),
    "a list": (lambda c: c.update(quantization_config=[]), "not a packed folder"),
    "other method": (block(quant_method="bitnet"), "quant_method 'bitnet'.; make one with: bitnet"),
    "newer version": (block(format_version=2), "format_version 2, this bitnet_py reads 1; upgrade"),
    "version as text": (block(format_version="1"), "format_version '1'"),
    "version as bool": (block(format_version=True), "format_version True"),
    "unknown block field": (block(zip=1), "quantization_config: unknown field 'zip'"),
    "no decoder": (block(decoder=None), "decoder must be an object"),
    "no tensors": (block(tensors={}), "tensors must be a list"),
    "unknown decoder field": (decoder_field("experts", 8), "unknown field 'experts'"),
    "missing decoder field": (
        lambda c: c["quantization_config"]["decoder"].pop("head_dim"),
        "missing field 'head_dim'",
    ),
    "field of another type": (decoder_field("head_dim", "16"), "field 'head_dim' of another type"),
    "heads do not divide": (decoder_field("num_key_value_heads", 3), "multiple of num_key_value"),
    "a million layers": (decoder_field("num_hidden_layers", 10**6), "1000000 layers, but"),
    "unknown activation": (decoder_field("hidden_act", "mish"), "hidden_act to be one of .*mish"),
    "rule is a text": (block(tensors=["*"]), r"tensors\[0\]: expected an object with a pattern"),
    "rule without pattern": (rule(pattern=None), r"tensors\[0\]: expected an object with a patt"),
    "unknown rule field": (rule(bits=2), r"tensors\[0\]: unknown field 'bits'"),
    "unknown format": (rule(format="ternary3"), r"tensors\[0\]: unknown format 'ternary3'"),
    "format is a list": (rule(format=[]), r"tensors\[0\]: unknown format \[\]"),
    "scale that the format lacks": (
        block(tensors=[{"pattern": "*", "format": "int8", "scale": "tensor"}]),
        r"tensors\[0\]: int8 takes scale row, got 'tensor'",
    ),
    "packed without scale": (
        block(tensors=[{"pattern": "*", "format": "int8"}]),
        "int8 takes scale row, got 'none'",
    ),
    "dense with scale": (
        block(tensors=[{"pattern": "*", "format": "f32", "scale": "row"}]),
        "f32 takes scale none, got 'row'",
    ),
    "packed norm": (
        lambda c: c["quantization_config"]["tensors"].append(
            {"pattern": "*norm*", "format": "int8", "scale": "row"}
        ),
        "norms and biases are f32, got int8",
    ),
    "wrong format": (
        block(tensors=[{"pattern": EMBEDDING, "format": "f16"}]),
        f"{EMBEDDING}: f16 of .96, 64. is F16 .96, 64., got U8",
    ),
    "no format": (block(tensors=[]), "embed_tokens.weight: U8, and no pattern of the config"),
    "other layers": (decoder_field("num_hidden_layers", 3), "model.layers.2.* missing"),
    "tied": (decoder_field("tie_word_embeddings", True), "lm_head.weight.*: no tensor of this"),
}


@pytest.mark.parametrize("case", HOSTILE_CONFIGS)
def test_hostile_config(folder: Path, case: str) -> None:
    edit, message = HOSTILE_CONFIGS[case]
    edit_config(folder, edit)
    with pytest.raises(FormatError, match=message):
        bitnet_py.load(folder)


def replace(name: str, array: Any) -> Callable[[dict[str, np.ndarray]], Any]:
    return lambda tensors: tensors.update({name: array})


def poke(name: str, value: float, index: int = 0) -> Callable[[dict[str, np.ndarray]], Any]:
    return lambda tensors: tensors[name].reshape(-1).__setitem__(index, value)


HOSTILE_TENSORS: dict[str, tuple[Callable[[dict[str, np.ndarray]], Any], str]] = {
    "missing tensor": (lambda t: t.pop(Q_PROJ), f"{Q_PROJ}: missing"),
    "missing scale": (lambda t: t.pop(f"{Q_PROJ}_scale"), f"{Q_PROJ}_scale: missing; ternary2 tak"),
    "extra tensor": (replace("lora_A", np.zeros(1, "f4")), "lora_A: no tensor of this decoder"),
    "scale of a dense tensor": (
        replace(f"{NORM}_scale", np.ones(1, "f4")),
        f"{NORM}_scale: no tensor of this decoder",
    ),
    "codes of another shape": (
        replace(Q_PROJ, np.full((2, 16, 16), 85, "u1")),
        rf"{Q_PROJ}: ternary2 of \[64, 64\] is U8 \[2, 16, 32\], got U8 \[2, 16, 16\]",
    ),
    "codes of another type": (
        replace(Q_PROJ, np.zeros((2, 16, 32), "i1")),
        rf"{Q_PROJ}: .* got I8",
    ),
    "norm of another type": (
        replace(NORM, np.ones(64, "f2")),
        f"{NORM}: norms and biases are f32, got f16",
    ),
    "norm of another type, no float": (
        replace(NORM, np.ones(64, "f8")),
        f"{NORM}: F64, and no pattern",
    ),
    "norm of another shape": (
        replace(NORM, np.ones(32, "f4")),
        rf"{NORM}: f32 of \[64\] is F32 \[64\], got F32 \[32\]",
    ),
    "scale of another type": (
        replace(f"{Q_PROJ}_scale", np.ones(1, "f2")),
        rf"{Q_PROJ}_scale: a scale per tensor is F32 \[1\], got F16 \[1\]",
    ),
    "scale of another shape": (
        replace(f"{EMBEDDING}_scale", np.ones(95, "f4")),
        rf"{EMBEDDING}_scale: a scale per row is F32 \[96\], got F32 \[95\]",
    ),
    "scale is NaN": (poke(f"{Q_PROJ}_scale", np.nan), f"{Q_PROJ}_scale': expected finite scales"),
    "scale is infinite": (poke(f"{EMBEDDING}_scale", np.inf, 3), "expected finite scales .* 3"),
    "scale is negative": (poke(f"{Q_PROJ}_scale", -1), "expected finite scales of at least 0"),
    "code 3": (
        poke(Q_PROJ, 0b01010111, 40),
        f"{Q_PROJ}': expected codes 0, 1, 2, got 3 at byte 40",
    ),
    "int8 code -128": (poke(EMBEDDING, 128, 9), r"codes in \[-127, 127\].* at byte 9"),
}


@pytest.mark.parametrize("isa", _core.available_isas())
def test_a_folder_of_trits5_gives_the_bits_of_ternary2(tmp_path: Path, isa: str) -> None:
    """Codes that were expanded at load leave memory, but stay readable in the mapped file."""
    decoder, logits = make_decoder(), {}
    for linear in ("ternary2", "trits5"):
        tensors = make_tensors(decoder, linear=linear, embedding="int8")
        model = bitnet_py.load(write_folder(tmp_path / linear, decoder, tensors), isa=isa)
        logits[linear] = model.logits(list(range(50)))
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(model.tensors[name].data, tensor.data)
    np.testing.assert_array_equal(logits["trits5"], logits["ternary2"])


@pytest.mark.parametrize("case", HOSTILE_TENSORS)
def test_hostile_tensors(folder: Path, case: str) -> None:
    edit, message = HOSTILE_TENSORS[case]
    edit_tensors(folder, edit)
    with pytest.raises(FormatError, match=rf"packed.*{message}"):
        bitnet_py.load(folder)


@pytest.mark.parametrize(
    ("name", "index", "message"),
    [
        (Q_PROJ, -1, "expected code 1 in padding"),
        (f"{Q_PROJ}_scale", -1, "expected 0 in padded rows"),
        (EMBEDDING, -1, "0 in padding"),
    ],
)
def test_hostile_padding(tmp_path: Path, name: str, index: int, message: str) -> None:
    sizes = {"hidden_size": 60, "head_dim": 10, "vocab_size": 90, "num_attention_heads": 5}
    decoder = make_decoder(**sizes, num_key_value_heads=5)
    tensors = make_tensors(decoder, scale="row", embedding="int8")
    folder = write_folder(tmp_path, decoder, tensors)
    bitnet_py.load(folder)
    edit_tensors(folder, poke(name, 2, index))
    with pytest.raises(FormatError, match=message):
        bitnet_py.load(folder)


def test_without_validation_codes_are_not_looked_at(folder: Path) -> None:
    edit_tensors(folder, poke(Q_PROJ, 255))
    model = bitnet_py.load(folder, validate=False)
    assert np.isfinite(model.logits(IDS)).all()  # no crash, whatever the byte


def test_files_that_are_not_there(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        bitnet_py.load(tmp_path / "absent")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FormatError, match=r"found pytorch_model.bin but no safetensors"):
        bitnet_py.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FormatError, match=r"no config.json"):
        bitnet_py.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "not JSON"),
        ("config.json", b'{"a": 1, "a": 2}', "'a' occurs twice"),
        ("generation_config.json", b'{"temperature": "hot"}', "expected temperature to be a numbe"),
        ("generation_config.json", b'{"eos_token_id": [1, "x"]}', "expected eos_token_id"),
        ("generation_config.json", b"[]", "expected a JSON object"),
        ("model.safetensors", b"\x01", "too short"),
        ("tokenizer.json", b"{}", "not a tokenizer"),
    ],
)
def test_hostile_files(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(FormatError, match=rf"{name}: .*{message}"):
        bitnet_py.load(folder)
