"""The paper's table, its energy model, the large model, figures and the README's summary."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

# Behind all else, so that bitnet_py is the installed one.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from bench import energy, large, paper, roofline, summary
from bench.report import Report, Row
from bench.shapes import decoder_config, ternary_parameters

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is Linux's")


def row(**fields: Any) -> Row:
    base = {
        "name": "", "engine": "bitnet_py", "format": "ternary2", "shape": "700M", "threads": 2,
        "device": "cpu", "phase": "decode", "value": 2.0, "unit": "tokens/s",
    }  # fmt: skip
    made = Row(**(base | fields))
    return Row(**(vars(made) | {"name": made.name or f"{made.shape} {made.phase} {made.engine}"}))


# ---- energy


def test_a_product_costs_what_the_papers_say() -> None:
    """arXiv 2402.17764: the products of a layer take 71.4 times less energy at 7 nm."""
    dense = energy.Operations(fp16_adds=10**9, fp16_multiplications=10**9)
    ternary = energy.Operations(int8_adds=10**9)
    ratio = energy.energy_mj(dense, "7 nm") / energy.energy_mj(ternary, "7 nm")
    assert ratio == pytest.approx(71.4, abs=0.05)
    assert energy.energy_mj(dense, "45 nm") == pytest.approx(1.5)


@pytest.mark.parametrize("shape", ["700M", "2B4T", "70B"])
def test_operations_are_those_of_the_shape(shape: str) -> None:
    config = decoder_config(shape)
    head = config["vocab_size"] * config["hidden_size"]
    weights = ternary_parameters(config)
    dense = energy.dense_operations(config, context=0)
    assert dense.fp16_multiplications == weights + head
    assert dense.int8_adds == 0
    ternary = energy.ternary_operations(config, context=0)
    assert weights + head > ternary.int8_adds > 0.99 * (weights + head)
    assert ternary.int8_multiplications == head
    assert ternary.fp16_multiplications < 0.01 * weights
    deep = energy.ternary_operations(config, context=100)
    width = config["num_attention_heads"] * config["head_dim"]
    assert deep.fp16_adds == 2 * 100 * width * config["num_hidden_layers"]


# ---- paper


def fill(measured: Report, shape: str, peers: Sequence[str]) -> None:
    """Ours takes 10 ms and 100 MB; each peer half the speed of the one before."""
    measured.add(row(shape=shape, value=100.0, n=5))
    measured.add(row(shape=shape, phase="memory", value=100.0, unit="MB"))
    for at, name in enumerate(peers):
        fields = {"shape": shape, "engine": name, "format": "F16"}
        measured.add(row(**fields, value=25.0 / 2**at, n=5))
        measured.add(row(**fields, phase="memory", value=1000.0 + at, unit="MB"))


def test_fp16_is_the_fastest_that_fits_else_computed() -> None:
    report, measured = Report("paper", None, []), Report("peers", None, [])
    fill(measured, "700M", ["llama.cpp", "transformers"])
    fill(measured, "13B", [])
    rate = paper.add_shape(report, measured, "700M", 2, 0.0)
    assert rate == pytest.approx(paper.fp16_token_bytes("700M") * 25 / 1e9)
    assert paper.add_shape(report, measured, "13B", 2, rate) == rate
    rows = {each.name: each for each in report.rows}
    ours = rows["700M latency bitnet_py ternary2"]
    assert (ours.value, ours.unit, ours.ratio) == (10.0, "ms", pytest.approx(0.25))
    assert ours.reference == "FP16 Llama, llama.cpp F16"
    assert rows["700M memory bitnet_py ternary2"].ratio == pytest.approx(0.1)
    computed = rows["13B latency FP16 Llama, computed"]
    assert computed.value == pytest.approx(1e3 * paper.fp16_token_bytes("13B") / 1e9 / rate)
    assert rows["13B memory FP16 Llama, computed"].value == pytest.approx(26031, rel=1e-3)


def test_nothing_is_computed_from_nothing() -> None:
    report, measured = Report("paper", None, []), Report("peers", None, [])
    fill(measured, "13B", [])
    assert paper.add_shape(report, measured, "13B", 2, 0.0) == 0
    assert report.rows == []
    assert report.skipped[0]["name"] == "13B FP16 Llama"


@linux_only
def test_the_paper_at_a_tiny_size_without_peers(tmp_path: Path) -> None:
    path = tmp_path / "paper.json"
    options = ["--shape", "tiny", "--threads", "1", "--rounds", "1", "--peers", ""]
    assert paper.main([*options, "--cache", str(tmp_path), "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    assert {r["phase"] for r in content["rows"]} == {"energy, 45 nm", "energy, 7 nm"}
    assert content["skipped"][-1]["name"] == "tiny FP16 Llama"


# ---- large


@linux_only
def test_large_at_a_tiny_size(tmp_path: Path) -> None:
    path, scratch = tmp_path / "large.json", tmp_path / "scratch"
    scratch.mkdir()
    options = ["--shape", "tiny", "--threads", "1", "--tokens", "3", "--scratch", str(scratch)]
    assert large.main([*options, "--json", str(path)]) == 0
    rows = {r["phase"]: r for r in json.loads(path.read_text())["rows"]}
    phases = ["write", "packed bytes", "growth of peak memory", "load, validated"]
    assert list(rows) == [*phases, "prompt of 8 and first token", "token"]
    assert all(r["value"] > 0 for r in rows.values())
    assert list(scratch.iterdir()) == []


def test_large_needs_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(large, "SPARE_BYTES", 10**18)
    assert large.main(["--shape", "tiny", "--scratch", str(tmp_path)]) == 0
    assert "skipped: needs 0 GB of disk" in capsys.readouterr().out


# ---- what results become


def test_a_speed_has_its_place_between_bytes_and_multiplications() -> None:
    config = decoder_config("700M")
    head = 32000 * 1536
    decode = roofline.place_of(vars(row(value=100.0)))
    weights = ternary_parameters(config)
    assert decode.gmac_per_s == pytest.approx((weights + head) / 1e7)
    assert decode.weight_gb_per_s == pytest.approx((weights / 4 + head) / 1e7, rel=0.3)
    prompt = roofline.place_of(vars(row(value=100.0, phase="pp128")))
    assert prompt.gmac_per_s == pytest.approx((weights + head / 128) / 1e7)
    assert prompt.gmac_per_gb == pytest.approx(128 * decode.gmac_per_gb, rel=0.1)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What a run of every benchmark leaves, in short."""
    folder = tmp_path / "results"
    peers = Report("peers", folder / "peers.json", [])
    peers.header |= {"cpu": "A CPU", "isa": "avx2", "commit": "abc"}
    for phase, value in (("decode", 100.0), ("pp128", 400.0)):
        fields = {"phase": phase, "reference": "llama.cpp TQ2_0", "ratio": 2.0}
        peers.add(row(value=value, **fields))
        fields = {"phase": phase, "engine": "llama.cpp", "format": "TQ2_0"}
        peers.add(row(value=value / 2, **fields))
    kernels = Report("kernels", folder / "kernels.json", [])
    read = {"engine": "limit", "phase": "GEMV from DRAM", "unit": "GB/s"}
    kernels.add(row(name="read ternary2 2T", value=50.0, **read))
    loop = {"engine": "limit", "phase": "limit", "unit": "GMAC/s", "format": "maddubs+paddw"}
    kernels.add(row(value=300.0, **loop))
    for isa, value in (("avx2", 240.0), ("generic", 10.0)):
        fields = {"phase": "GEMM T=512", "unit": "GMAC/s", "reference": "the maddubs+paddw loop"}
        kernels.add(row(engine=f"bitnet_py {isa}", value=value, ratio=value / 300, **fields))
    length = Report("length", folder / "length.json", [])
    fields = {"format": "ternary2, f16 KV", "unit": "ms"}
    length.add(row(name="x decode d128", phase="decode d128", value=12.0, **fields))
    fields["unit"] = "%"
    length.add(row(name="x attention d128", phase="attention d128", value=30.0, **fields))
    report, measured = Report("paper", folder / "paper.json", []), Report("peers", None, [])
    fill(measured, "700M", ["llama.cpp"])
    fill(measured, "13B", [])
    rate = paper.add_shape(report, measured, "700M", 2, 0.0)
    paper.add_shape(report, measured, "13B", 2, rate)
    return folder


def test_the_summary_holds_each_figure_against_something(results: Path) -> None:
    lines = list(summary.summary_lines(results))
    assert lines[0] == (
        "decode, 700M, 2 threads", "100 tokens/s", "llama.cpp TQ2_0: 50.0 tokens/s", "2.00x",
    )  # fmt: skip
    assert lines[1].beside == "plain read: 50.0 GB/s"
    place = roofline.place_of(vars(row(value=100.0)))
    assert lines[1].ratio == f"{100 * place.weight_gb_per_s / 50:.0f} %"
    assert lines[3].beside == "maddubs+paddw loop: 300 GMAC/s"
    (gemm,) = [line for line in lines if line.case.startswith("GEMM")]
    assert (gemm.case, gemm.ratio) == ("GEMM T=512, 700M, avx2", "80 %")
    (deep,) = [line for line in lines if line.case.startswith("decode behind")]
    assert (deep.case, deep.value, deep.ratio) == (
        "decode behind 128 tokens, 700M, ternary2, f16 KV", "12.0 ms", "30 %",
    )  # fmt: skip
    assert [line.ratio for line in lines if line.case == "latency, 700M"] == ["4.0x less"]
    text = summary.render(results)
    assert text.startswith("| case | bitnet_py |")
    assert "A CPU, avx2, abc" in text
    assert summary.render(results / "none") == ""


def test_figures_come_from_results_alone_and_do_not_change(results: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench import plots

    assert plots.main(["--results", str(results)]) == 0
    first = {path.name: path.read_bytes() for path in results.glob("*.svg")}
    assert set(first) == {"paper.svg", "roofline.svg"}
    assert all(len(content) < 60_000 for content in first.values())
    assert b"13B" in first["paper.svg"]
    assert plots.main(["--results", str(results)]) == 0
    assert first == {path.name: path.read_bytes() for path in results.glob("*.svg")}


def test_figures_without_results_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    from bench import plots

    assert plots.main(["--results", str(tmp_path)]) == 0
    assert "paper.svg skipped" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
