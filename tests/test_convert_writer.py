"""The files: aligned, without gaps, readable by safetensors' own library."""

import json
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from convert_reference import read_tensors
from safetensors import safe_open
from tiny_checkpoint import BITNET, make_checkpoint

from bitnet_py.convert import convert
from bitnet_py.convert.formats import Entry
from bitnet_py.convert.writer import SafetensorsWriter
from bitnet_py.safetensors_file import SafetensorsFile

ENTRIES = [
    Entry("odd", "U8", (3,)),
    Entry("half", "F16", (5,)),
    Entry("aligned", "F32", (4, 8)),
    Entry("one", "F32", (1,)),
    Entry("also_aligned", "U8", (2, 64)),
]


def fill(writer: SafetensorsWriter, entries: list[Entry], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    numpy_dtypes = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}
    arrays = {}
    for entry in entries:
        values = rng.integers(0, 200, entry.shape).astype(numpy_dtypes[entry.dtype])
        arrays[entry.name] = values
        for row in values:  # in pieces
            writer.append(entry.name, np.atleast_1d(row))
    writer.finish()
    return arrays


def header_of(path: Path) -> tuple[int, dict]:
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    return 8 + size, json.loads(content[8 : 8 + size])


@pytest.mark.parametrize("n_entries", [1, 3, 5])
def test_layout(tmp_path: Path, n_entries: int) -> None:
    entries = ENTRIES[:n_entries]
    with SafetensorsWriter(tmp_path, [[entry] for entry in entries], 10**9) as writer:
        arrays = fill(writer, entries)
    path = tmp_path / "model.safetensors"
    begin, header = header_of(path)
    assert begin % 64 == 0
    header.pop("__metadata__")
    offsets = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    assert offsets[0][0] == 0
    assert all(one[1] == two[0] for one, two in pairwise(offsets))
    assert begin + offsets[-1][1] == path.stat().st_size
    itemsize = {"U8": 1, "F16": 2, "F32": 4}
    for entry in header.values():
        first, last = entry["data_offsets"]
        alignment = 64 if (last - first) % 64 == 0 else itemsize[entry["dtype"]]
        assert first % alignment == 0
    with safe_open(path, "np") as theirs, SafetensorsFile(path) as ours:
        for name, values in arrays.items():
            assert np.array_equal(theirs.get_tensor(name), values)
            assert np.array_equal(ours.view(name), values)


def test_a_converted_model_is_aligned(tmp_path: Path) -> None:
    convert(make_checkpoint(tmp_path / "src", BITNET), tmp_path / "out", method="absmean")
    begin, header = header_of(tmp_path / "out" / "model.safetensors")
    packed = [entry for entry in header.values() if entry.get("dtype") == "U8"]
    assert len(packed) == 15
    assert all((begin + entry["data_offsets"][0]) % 64 == 0 for entry in packed)


@pytest.mark.parametrize("shard_bytes", [1, 130, 300])
def test_shards(tmp_path: Path, shard_bytes: int) -> None:
    groups = [ENTRIES[:2], ENTRIES[2:3], ENTRIES[3:]]
    with SafetensorsWriter(tmp_path, groups, shard_bytes) as writer:
        arrays = fill(writer, ENTRIES)
    paths = sorted(tmp_path.glob("*.safetensors"))
    expected = {1: 3, 130: 3, 300: 1}[shard_bytes]
    assert len(paths) == expected
    if expected == 1:
        assert not (tmp_path / "model.safetensors.index.json").exists()
        return
    assert paths[0].name == "model-00001-of-00003.safetensors"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(values.nbytes for values in arrays.values())
    assert index["weight_map"]["odd"] == index["weight_map"]["half"]  # a group stays together
    for name, values in arrays.items():
        with safe_open(tmp_path / index["weight_map"][name], "np") as file:
            assert np.array_equal(file.get_tensor(name), values)


def test_a_sharded_model_converts_to_the_same_tensors(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "src", BITNET)
    convert(source, tmp_path / "one", method="absmean")
    convert(source, tmp_path / "many", method="absmean", shard_bytes=5_000)
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    one, many = read_tensors(tmp_path / "one"), read_tensors(tmp_path / "many")
    assert one.keys() == many.keys()
    assert all(one[name].equal(many[name]) for name in one)


def test_data_must_be_what_was_planned(tmp_path: Path) -> None:
    with SafetensorsWriter(tmp_path, [[ENTRIES[0]]], 100) as writer:
        writer.append("odd", np.zeros(2, np.uint8))
        with pytest.raises(RuntimeError, match="odd is 1 bytes short"):
            writer.finish()
    (tmp_path / "model.safetensors").unlink()
    with (
        SafetensorsWriter(tmp_path, [[ENTRIES[0]]], 100) as writer,
        pytest.raises(RuntimeError, match="more data for odd than planned"),
    ):
        writer.append("odd", np.zeros(4, np.uint8))
