"""The safetensors reader: what the format's own library wrote, and one hostile file per rule."""

import json
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_library
from safetensors.numpy import save, save_file

from bitnet_py.errors import FormatError
from bitnet_py.safetensors_file import SafetensorsFile, SafetensorsFolder, let_go

TENSORS = {
    "matrix": np.arange(35, dtype=np.float32).reshape(7, 5),
    "cube": np.arange(24, dtype=np.int8).reshape(2, 3, 4),
    "half": np.linspace(-1, 1, 6).astype(np.float16),
    "bytes": np.arange(7, dtype=np.uint8),
    "scalar": np.array(3, dtype=np.int64),
    "empty": np.empty((0, 4), dtype=np.float64),
    "truth": np.array([True, False]),
}


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file of exactly these parts; a header that is not bytes is dumped as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("name", TENSORS)
def test_reads_what_the_library_wrote(tmp_path: Path, name: str) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "np"})
    with SafetensorsFile(tmp_path / "model.safetensors") as file:
        view = file.view(name)
        assert view.dtype == TENSORS[name].dtype
        np.testing.assert_array_equal(view, TENSORS[name], strict=True)
        assert file.metadata == {"format": "np"}
        assert file.entries.keys() == TENSORS.keys()


def test_bf16_is_its_bits(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000], np.uint16)  # 1.0, -2.0
    path = write(tmp_path / "x", {"t": entry("BF16", [2], 0, 4)}, bits.tobytes())
    with SafetensorsFile(path) as file:
        np.testing.assert_array_equal(file.view("t"), bits, strict=True)


def test_views_are_zero_copy_read_only_and_outlive_the_file(tmp_path: Path) -> None:
    values = np.arange(4096, dtype=np.float32)
    save_file({"t": values}, tmp_path / "x")
    with SafetensorsFile(tmp_path / "x") as file:
        first, second = file.view("t"), file.view("t")
        assert np.shares_memory(first, second)
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 1
    np.testing.assert_array_equal(first, values)
    with pytest.raises(ValueError, match="the file is closed"):
        file.view("t")


def test_a_misaligned_tensor_is_copied(tmp_path: Path) -> None:
    values = np.arange(3, dtype=np.float32)
    header = {"pad": entry("U8", [1], 0, 1), "t": entry("F32", [3], 1, 13)}
    path = write(tmp_path / "x", header, b"\0" + values.tobytes())
    with SafetensorsFile(path) as file:
        assert file.entries["t"].begin % 4 != 0 or file.entries["pad"].begin % 4 != 0
        view = file.view("t")
        assert view.flags.aligned
        np.testing.assert_array_equal(view, values)


@pytest.mark.parametrize(("begin", "end"), [(0, 0), (0, 7), (2, 3), (5, 7), (7, 7)])
def test_read_rows(tmp_path: Path, begin: int, end: int) -> None:
    save_file(TENSORS, tmp_path / "x")
    with SafetensorsFile(tmp_path / "x") as file:
        rows = file.read_rows("matrix", begin, end)
        np.testing.assert_array_equal(rows, TENSORS["matrix"][begin:end], strict=True)
        assert rows.flags.writeable
        assert not np.shares_memory(rows, file.view("matrix"))
        np.testing.assert_array_equal(file.read_rows("cube", 1, 2), TENSORS["cube"][1:2])


@pytest.mark.parametrize(
    ("name", "begin", "end"),
    [("matrix", -1, 2), ("matrix", 3, 2), ("matrix", 0, 8), ("scalar", 0, 1)],
)
def test_rows_that_are_not_there(tmp_path: Path, name: str, begin: int, end: int) -> None:
    save_file(TENSORS, tmp_path / "x")
    with (
        SafetensorsFile(tmp_path / "x") as file,
        pytest.raises(ValueError, match=rf"\[read_rows\] {name} has \d rows, got"),
    ):
        file.read_rows(name, begin, end)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x", {"t": entry("U8", [8192], 0, 8192)}, bytes(8192))
    with SafetensorsFile(path) as file:
        with path.open("r+b") as other:
            other.truncate(4096)
        with pytest.raises(FormatError, match="t: the file became shorter while it was read"):
            file.read_rows("t", 0, 8192)


T = "t"
HOSTILE: dict[str, tuple[Any, bytes, str]] = {
    "not an object": (b"[1]", b"", "does not start with '{'"),
    "empty header": (b"", b"", "does not start with '{'"),
    "leading space": (b" {}", b"", "does not start with '{'"),
    "not JSON": (b"{t}", b"", "not JSON"),
    "not UTF-8": (b'{"\xff": 1}', b"", "not UTF-8"),
    "NaN": (b'{"t": NaN}', b"", "NaN is not JSON"),
    "a number of 10,000 digits": (b'{"t": ' + b"9" * 10_000 + b"}", b"", "not JSON"),
    "nested too deeply": (b'{"t":' + b"[" * 100_000, b"", "nested too deeply"),
    "duplicate name": (
        b'{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"\0",
        "'t' occurs twice",
    ),
    "metadata is a list": ({"__metadata__": []}, b"", "__metadata__ must map names to strings"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", "__metadata__ must map"),
    "entry is a list": ({T: []}, b"", "t: expected exactly the fields"),
    "missing field": ({T: {"dtype": "U8", "shape": []}}, b"", "t: expected exactly the fields"),
    "extra field": ({T: entry("U8", [1], 0, 1) | {"x": 1}}, b"\0", "t: expected exactly"),
    "unknown dtype": ({T: entry("F4", [2], 0, 1)}, b"\0", "t: unknown dtype 'F4'"),
    "dtype is a list": ({T: entry([], [1], 0, 1)}, b"\0", "t: unknown dtype"),
    "shape is a number": ({T: entry("U8", 1, 0, 1)}, b"\0", "t: the shape must be a list"),
    "negative size": ({T: entry("U8", [-1, -1], 0, 1)}, b"\0", "t: the shape must be a list"),
    "size is a float": ({T: entry("U8", [1.0], 0, 1)}, b"\0", "t: the shape must be a list"),
    "size is a bool": ({T: entry("U8", [True], 0, 1)}, b"\0", "t: the shape must be a list"),
    "33 dimensions": ({T: entry("U8", [1] * 33, 0, 1)}, b"\0", "t: the shape .* is too large"),
    "empty but huge": ({T: entry("U8", [0, 1 << 62], 0, 0)}, b"", "t: the shape .* is too large"),
    "product overflows": ({T: entry("U8", [1 << 32] * 2, 0, 0)}, b"", "is too large"),
    "negative offset": ({T: entry("U8", [1], -1, 0)}, b"\0", "t: data_offsets must be two"),
    "three offsets": (
        {T: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}},
        b"\0",
        "t: data_offsets must be two",
    ),
    "offsets in reverse": ({T: entry("U8", [1], 1, 0)}, b"\0", "t: data_offsets end before"),
    "beyond the end": ({T: entry("U8", [2], 0, 2)}, b"\0", "t: its data ends at byte .* past"),
    "shape and size disagree": ({T: entry("F32", [2], 0, 4)}, bytes(4), "t: F32 .* takes 8 bytes"),
    "overlap": (
        {T: entry("U8", [2], 0, 2), "u": entry("U8", [2], 1, 3)},
        bytes(3),
        "u: its data overlaps",
    ),
    "same place twice": (
        {T: entry("U8", [2], 0, 2), "u": entry("U8", [2], 0, 2)},
        bytes(2),
        "u: its data overlaps",
    ),
    "hole at the start": ({T: entry("U8", [1], 1, 2)}, bytes(2), "t: a hole of 1 bytes"),
    "hole between": (
        {T: entry("U8", [1], 0, 1), "u": entry("U8", [1], 3, 4)},
        bytes(4),
        "u: a hole of 2 bytes",
    ),
    "more behind the end": ({T: entry("U8", [1], 0, 1)}, bytes(3), "2 bytes behind the last"),
    "no tensors but data": ({}, b"\0", "1 bytes behind the last"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header(tmp_path: Path, case: str) -> None:
    header, data, rule = HOSTILE[case]
    path = write(tmp_path / "hostile.safetensors", header, data)
    with pytest.raises(FormatError, match=rf"hostile\.safetensors.*{rule}"):
        SafetensorsFile(path)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "0 bytes is too short"),
        (bytes(7), "7 bytes is too short"),
        ((100).to_bytes(8, "little") + b"{}", "the header ends at byte 108, past the end"),
        ((1 << 63).to_bytes(8, "little") + b"{}", "the header claims 9223372036854775808 bytes"),
        ((100_000_001).to_bytes(8, "little") + b"{}", "the header claims 100000001 bytes"),
    ],
)
def test_hostile_length(tmp_path: Path, content: bytes, rule: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FormatError, match=rule):
        SafetensorsFile(tmp_path / "x")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SafetensorsFile(tmp_path / "absent.safetensors")


@settings(max_examples=400, deadline=None)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, 500), st.sampled_from([*b'{}[]",:0129-. UFI\x00\xff']) | st.none()
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_accepted_the_library_accepts_too(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int | None]]
) -> None:
    """Random edits of a good file: a FormatError, or what the format's own library reads."""
    content = bytearray(save(TENSORS, {"format": "np"}))
    for index, byte in edits:
        at = index % len(content)
        content[at : at + 1] = b"" if byte is None else bytes([byte])
    path = tmp_path_factory.getbasetemp() / "edited.safetensors"
    path.write_bytes(content)
    try:
        with SafetensorsFile(path) as file:
            ours = {name: file.view(name) for name in file.entries}
    except FormatError:
        return
    theirs = load_library(bytes(content))
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].tobytes() == array.tobytes()
        assert ours[name].shape == array.shape


def make_shards(folder: Path, weight_map: dict[str, Any]) -> None:
    save_file({"a": np.float32([1, 2]), "b": np.float32([3])}, folder / "1.safetensors")
    save_file({"c": np.float32([4])}, folder / "2.safetensors")
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


GOOD_MAP = {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}


def test_shards(tmp_path: Path) -> None:
    make_shards(tmp_path, GOOD_MAP)
    with SafetensorsFolder(tmp_path) as folder:
        assert folder.entries.keys() == GOOD_MAP.keys()
        assert folder.view("a").tolist() == [1, 2]
        assert folder.read_rows("c", 0, 1).tolist() == [4]
        assert {name: folder.path_of(name).name for name in folder.entries} == GOOD_MAP


def test_one_file_is_read_before_an_index(tmp_path: Path) -> None:
    make_shards(tmp_path, GOOD_MAP)
    save_file({"d": np.float32([5])}, tmp_path / "model.safetensors")
    with SafetensorsFolder(tmp_path) as folder:
        assert list(folder.entries) == ["d"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"a": "../1.safetensors"}, "a: a shard must be the name of a file in this folder"),
        ({"a": "/1.safetensors"}, "a: a shard must be the name"),
        ({"a": "sub/1.safetensors"}, "a: a shard must be the name"),
        ({"a": "C:1.safetensors"}, "a: a shard must be the name"),
        ({"a": "sub\\1.safetensors"}, "a: a shard must be the name"),
        ({"a": ".."}, "a: a shard must be the name"),
        ({"a": 1}, "a: a shard must be the name"),
        ({"a": "3.safetensors"}, "the shard 3.safetensors is missing"),
        ({"d": "2.safetensors"}, "d should be in 2.safetensors, which lacks it"),
        ({"a": "2.safetensors"}, "a is in 1.safetensors, but not in the weight_map"),
    ],
)
def test_hostile_index(tmp_path: Path, change: dict[str, Any], rule: str) -> None:
    make_shards(tmp_path, GOOD_MAP | change)
    with pytest.raises(FormatError, match=rf"index\.json: .*{rule}"):
        SafetensorsFolder(tmp_path)


def test_a_tensor_that_the_index_leaves_out(tmp_path: Path) -> None:
    make_shards(tmp_path, {name: GOOD_MAP[name] for name in "ac"})
    with pytest.raises(FormatError, match=r"b is in 1\.safetensors, but not in the weight_map"):
        SafetensorsFolder(tmp_path)


@pytest.mark.parametrize("weight_map", [{}, [], None])
def test_index_without_a_map(tmp_path: Path, weight_map: Any) -> None:
    make_shards(tmp_path, weight_map)
    with pytest.raises(FormatError, match="no weight_map"):
        SafetensorsFolder(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-2.bin", "model.pt"])
def test_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80")
    with pytest.raises(FormatError, match=f"found {name} but no safetensors. Pickles are never"):
        SafetensorsFolder(tmp_path)


def test_a_folder_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"neither model\.safetensors nor"):
        SafetensorsFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        SafetensorsFolder(tmp_path / "absent")


def mapped_kb() -> int:
    """Resident memory of this process that files back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_memory_of_a_view_is_given_back_and_read_again(tmp_path: Path) -> None:
    data = np.arange(8 << 20, dtype=np.float32)
    path = tmp_path / "model.safetensors"
    save_file({"a": data[:777], "b": data}, path)
    with SafetensorsFile(path) as file:
        view = file.view("b")
    np.testing.assert_array_equal(view, data)
    before = mapped_kb()
    let_go(view)
    assert before - mapped_kb() > 0.9 * data.nbytes / 1024
    np.testing.assert_array_equal(view, data)


def test_memory_that_is_no_file_is_left_alone() -> None:
    """Anonymous pages would come back as zeros."""
    anonymous = np.frombuffer(mmap.mmap(-1, 1 << 16), np.uint8)
    anonymous[:] = 7
    ordinary = np.full(1 << 16, 7, np.uint8)
    for array in (anonymous, ordinary):
        let_go(array)
        assert (array == 7).all()
