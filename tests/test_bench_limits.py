"""Kernels beside limits, the two ternary stores, and what length costs, at tiny sizes."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet_py import _core

# Behind all else, so that bitnet_py is the installed one.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from bench import kernels, length, limits, ternary_stores
from bench.limits import Limits, LimitsError

needs_compiler = pytest.mark.skipif(
    "avx2" not in _core.cpu_features() or shutil.which("c++") is None,
    reason="needs AVX2 and a compiler",
)


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


@needs_compiler
def test_loops_run_at_a_rate_that_a_cpu_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that was optimized away would be far above: a core does a few instructions a ns."""
    monkeypatch.setattr(limits, "LOOP_ROUNDS", 20_000)
    built = Limits(tmp_path)
    assert "maddubs+paddw" in built.loops
    for name, loop in built.loops.items():
        assert 0 < built.giga_per_s(name, 1) / loop.per_instruction < 30
    assert 0 < built.read_gb_per_s(np.ones(1_000_003, np.uint8), 2) < 2000


def test_limits_say_why_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    if "avx2" in _core.cpu_features():
        with pytest.raises(LimitsError, match="no compiler 'no-such-compiler'"):
            Limits(tmp_path)
    monkeypatch.setattr(_core, "cpu_features", list)
    with pytest.raises(LimitsError, match="lacks"):
        Limits(tmp_path)


@pytest.mark.parametrize("name", [info.name for info in _core.formats() if info.packed])
def test_drawn_matrices_are_what_kernels_take(name: str) -> None:
    matrix = kernels.Matrix.draw(name, 64, 256)
    x = np.ones((1, 256), np.float32)
    tables = kernels.tables_with(_core.available_isas(), name)
    if not tables:
        pytest.skip(f"no table of this CPU multiplies {name}")
    table = _core.Kernels(tables[-1])
    assert matrix.seconds(table, x) > 0
    stored = matrix.weight
    y = table.linear(stored.format, stored.data, stored.scale, stored.scale_kind, 64, 256, x)
    assert np.isfinite(y).all()
    assert y.std() > 0
    expected = 64 * 256 * kernels.stored_bits(name) / 8
    assert matrix.stored_bytes == pytest.approx(expected, rel=0.3)


def test_bits_per_weight() -> None:
    bits = {info.name: kernels.stored_bits(info.name) for info in _core.formats() if info.packed}
    assert (bits["ternary2"], bits["int8"]) == (2, 8)
    assert bits.get("trits5", 1.6) == pytest.approx(1.6)


@needs_compiler
def test_kernels_beside_their_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOOP_ROUNDS", 2000)
    path = tmp_path / "kernels.json"
    options = "--shape 64x256 --shape 96x512 --threads 1,2 --tokens 5 --rounds 1 --dram-mb 1 "
    options += "--format ternary2 --format int8 --isa avx2 --isa generic"
    assert kernels.main([*options.split(), "--json", str(path)]) == 0
    rows = rows_of(path)
    gemm = rows["GEMM T=5 64x256 ternary2 avx2 2T"]
    assert (gemm["unit"], gemm["threads"], gemm["n"]) == ("GMAC/s", 2, 1)
    assert gemm["reference"] == "the maddubs+paddw loop"
    assert gemm["ratio"] == pytest.approx(gemm["value"] / rows["maddubs+paddw 2T"]["value"])
    assert rows["GEMM T=5 96x512 ternary2 generic 1T"]["reference"] is None
    assert "GEMM T=5 64x256 int8 avx2 1T" not in rows
    gemv = rows["GEMV 61 x 64x256 int8 avx2 1T"]  # with 64 scales each: 1 MB
    assert (gemv["unit"], gemv["reference"]) == ("GB/s", kernels.READ)
    assert gemv["ratio"] == pytest.approx(gemv["value"] / rows["read int8 1T"]["value"])


def test_without_limits_kernels_are_measured_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    path = tmp_path / "kernels.json"
    options = "--shape 32x64 --threads 1 --tokens 2 --rounds 1 --dram-mb 1 --format ternary2"
    assert kernels.main([*options.split(), "--isa", "generic", "--json", str(path)]) == 0
    assert {row["reference"] for row in rows_of(path).values()} == {None}
    assert json.loads(path.read_text())["skipped"][0]["name"] == "limits"


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux gives it")
def test_ternary_stores_at_a_tiny_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("N", 64), ("K", 80), ("DRAM_COPIES", 3), ("MODEL_ROUNDS", 2)):
        monkeypatch.setattr(ternary_stores, name, value)
    path = tmp_path / "ternary_stores.json"
    isa = _core.available_isas()[0]
    options = f"--isa {isa} --isa generic --threads 1 --rounds 2 --shape tiny --json"
    ternary_stores.main([*options.split(), str(path)])  # so little need not expand fast
    rows = rows_of(path)
    assert rows["generic GEMM 16 1 threads ternary2"]["n"] == 2
    assert "generic GEMM 16 1 threads trits5" not in rows  # it is expanded there
    assert rows["generic expand 1 threads"]["unit"] == "GB/s"
    if "trits5" in _core.Kernels(isa).products:
        assert rows[f"{isa} GEMV L3 1 threads trits5"]["reference"] == "ternary2"
    for phase, unit in (("load", "s"), ("peak memory of load", "MB"), ("decode", "tokens/s")):
        row = rows[f"generic tiny {phase} 1 threads trits5"]
        assert (row["unit"], row["reference"], row["n"]) == (unit, "ternary2", 2)


def test_length_at_a_tiny_size(tmp_path: Path) -> None:
    path = tmp_path / "length.json"
    options = "--shape tiny --context 16,300 --threads 1,2 --tokens 2 --rounds 2"
    assert length.main([*options.split(), "--json", str(path)]) == 0
    rows = rows_of(path)
    assert rows["tiny 2T pp512"]["reference"] == "pp128"
    scaling = rows["tiny pp128 2T / 1T"]
    assert (scaling["reference"], scaling["threads"]) == ("1T", 2)
    for kv in length.KV_DTYPES:
        deep = rows[f"tiny 1T {kv} KV decode d300"]
        assert (deep["unit"], deep["format"]) == ("ms", f"ternary2, {kv} KV")
        part = rows[f"tiny 1T {kv} KV attention d300"]
        assert part["unit"] == "%"
        assert part["value"] < 100
    assert len(rows) == 6 + len(length.KV_DTYPES) * 2 * 5


def test_attention_is_what_an_empty_context_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(_session: object, _ids: object, test: Any) -> float:
        return {0: 1.0, 16: 4.0}[test.depth] * test.tokens

    monkeypatch.setattr(length, "run_seconds", seconds)
    monkeypatch.setattr(length, "measure_prompts", lambda *_: None)
    path = tmp_path / "length.json"
    options = "--shape tiny --context 16 --threads 1 --rounds 1 --kv-dtype f16 --json"
    assert length.main([*options.split(), str(path)]) == 0
    rows = rows_of(path)
    assert rows["tiny 1T f16 KV decode d16"]["value"] == pytest.approx(4000)
    assert rows["tiny 1T f16 KV attention d16"]["value"] == pytest.approx(75)
