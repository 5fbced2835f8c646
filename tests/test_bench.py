"""The benchmarks' own arithmetic, their rows and tables, and that each runs at a tiny size."""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet_py import _core, load
from bitnet_py.checkpoint import read_checkpoint
from bitnet_py.evaluate import Evaluation

# Behind all else, so that bitnet_py is the installed one.
sys.path.append(str(Path(__file__).resolve().parent.parent))

import bench.__main__ as bench_main
from bench import accuracy, memory, shapes, startup, tables
from bench.fresh_process import call_fresh, run_fresh
from bench.harness import Contender, Samples, interleave, median_ratio
from bench.random_folder import write_random_folder
from bench.random_model import random_tensors, stored_bytes
from bench.report import Report, Row

ROW_FIELDS = [
    "name", "engine", "format", "shape", "threads", "device", "phase", "value", "unit",
    "reference", "ratio", "n", "spread",
]  # fmt: skip
PADDED = {  # no size is a multiple of the layouts' tiles
    "vocab_size": 97,
    "hidden_size": 60,
    "intermediate_size": 90,
    "num_hidden_layers": 1,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 10,
    "max_position_embeddings": 64,
    "attention_bias": True,
    "tie_word_embeddings": True,
}


def row(**fields: Any) -> Row:
    base = {
        "name": "x", "engine": "bitnet_py", "format": "ternary2", "shape": "tiny", "threads": 1,
        "device": "cpu", "phase": "decode", "value": 2.0, "unit": "tokens/s",
    }  # fmt: skip
    return Row(**(base | fields))


# ---- harness


def test_a_ratio_is_taken_within_rounds() -> None:
    """A machine that slows down by 4 between rounds does not touch it; medians would give 0.5."""
    ours, theirs = Samples((40.0, 20.0, 10.0)), Samples((20.0, 10.0, 40.0))
    assert median_ratio(ours, theirs) == 2.0
    with pytest.raises(ValueError, match="zip"):
        median_ratio(ours, Samples((1.0,)))


def test_contenders_take_turns_and_another_one_begins_each_round() -> None:
    turns: list[str] = []

    def contender(name: str) -> Contender:
        return Contender(name, lambda: turns.append(name) or len(turns))  # type: ignore[func-returns-value]

    samples = interleave([contender(name) for name in "abc"], rounds=3, warmup=1)
    assert [sorted(turns[i : i + 3]) for i in range(0, 12, 3)] == [list("abc")] * 4
    assert turns[3:12:3] == list("abc")
    assert samples["a"].values == (4.0, 9.0, 11.0)  # the warm-up is not among them
    with pytest.raises(ValueError, match="names of their own"):
        interleave([contender("a"), contender("a")], rounds=1)


# ---- report


def test_a_report_has_the_schema_and_no_path_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "results" / "peers.json"
    report = Report("peers", path, ["--json", str(path), f"--cache={tmp_path}", "--shape", "7B"])
    report.add(row())
    report.skip("peer", "not there")
    content = json.loads(path.read_text())
    assert list(content["rows"][0]) == ROW_FIELDS
    assert content["skipped"] == [{"name": "peer", "reason": "not there"}]
    for name in ("commit", "cpu", "compiler", "isa", "date", "cores"):
        assert name in content["header"]
    command = f"python -m bench.peers --json peers.json --cache={tmp_path.name} --shape 7B"
    assert content["header"]["command"] == command
    assert str(tmp_path) not in path.read_text()
    assert report.exit_code() == 0


def test_a_claim_that_does_not_hold_fails_the_run(tmp_path: Path) -> None:
    report = Report("memory", tmp_path / "memory.json", [])
    report.check(row(value=3.0), True, "at most 4")
    assert report.exit_code() == 0
    report.check(row(value=5.0), False, "at most 4")
    assert len(report.rows) == 2
    report.add(row(value=math.nan))
    assert len(report.rows) == 2
    assert report.exit_code() == 1
    failures = json.loads((tmp_path / "memory.json").read_text())["failures"]
    assert failures == ["x: 5 tokens/s, expected at most 4", "x: nan tokens/s"]


# ---- tables


@pytest.fixture
def results(tmp_path: Path) -> Path:
    report = Report("peers", tmp_path / "results" / "peers.json", [])
    report.header |= {"cpu": "A CPU", "date": "today", "commit": "abc", "compiler": None}
    peer = {"engine": "llama.cpp", "format": "TQ2_0"}
    report.add(row(value=123.456, reference="llama.cpp TQ2_0", ratio=1.2345))
    report.add(row(value=100.0, **peer))
    report.add(row(value=0.01234, phase="pp128", **peer))
    return tmp_path / "results"


def test_a_table_is_its_rows(results: Path) -> None:
    text = tables.render(tables.Table("peers", tables.MODEL), results)
    lines = text.splitlines()
    assert lines[0] == (
        "| shape | threads | engine | format | decode, tokens/s | pp128, tokens/s |"
    )
    assert lines[2] == "| tiny | 1 | bitnet_py | ternary2 | 123 (1.23x) |  |"
    assert lines[3] == "| tiny | 1 | llama.cpp | TQ2_0 | 100 | 0.0123 |"
    assert "A CPU" in text
    assert "ratio to llama.cpp TQ2_0" in text


def test_ratios_to_peers_stand_beside_the_peers(results: Path) -> None:
    text = tables.render(tables.TABLES["peers"], results)
    lines = text.splitlines()
    assert lines[2] == "| tiny | 1 | bitnet_py | ternary2 | 123 |  |"
    assert lines[3] == "| tiny | 1 | llama.cpp | TQ2_0 | 100 (1.23x) | 0.0123 |"
    assert "bitnet_py's figure / this one" in text


def test_results_of_several_machines_are_several_tables(results: Path) -> None:
    (results / "peers-arm.json").write_text((results / "peers.json").read_text())
    (results / "peerss.json").write_text("not ours")
    text = tables.render(tables.TABLES["peers"], results)
    assert text.count("| shape |") == 2


def test_mixed_units_stand_in_the_cells() -> None:
    rows = [vars(row(unit="s")), vars(row(unit="", shape="7B", value=0.0))]
    table = tables.Table("x", ("shape", "missing"), columns=None)
    assert tables.markdown_table(table, rows).splitlines() == [
        "| shape | value |",
        "| --- | ---: |",
        "| tiny | 2.00 s |",
        "| 7B | 0 |",
    ]


def test_counts_have_no_decimals() -> None:
    rows = [vars(row(unit="tokens", value=212331.0))]
    assert tables.markdown_table(tables.TABLES["accuracy"], rows).endswith("| 212331 |\n")


def test_check_finds_a_stale_table_and_rewriting_mends_it(results: Path, tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("head\n<!-- table: peers -->\nold\n<!-- end -->\ntail\n")
    missing = tmp_path / "none.md"
    assert tables.update([document, missing], results, check=True) == [document]
    assert "old" in document.read_text()
    assert tables.update([document], results, check=False) == [document]
    text = document.read_text()
    assert "old" not in text
    assert text.startswith("head\n<!-- table: peers -->\n\n| shape |")
    assert text.endswith("\n<!-- end -->\ntail\n")
    assert tables.update([document], results, check=True) == []


def test_an_output_block_shows_what_a_command_printed(results: Path) -> None:
    block = "<!-- output: demo -->\nold\n<!-- end -->"
    assert tables.NONE_YET in tables.rewrite(block, results)
    (results / "demo.txt").write_text("$ command\nits output\n")
    expected = "<!-- output: demo -->\n\n```text\n$ command\nits output\n```\n\n<!-- end -->"
    assert tables.rewrite(block, results) == expected


def test_a_block_of_no_known_table_is_refused(results: Path) -> None:
    with pytest.raises(ValueError, match="got 'decoed'"):
        tables.rewrite("<!-- table: decoed -->\n<!-- end -->", results)


@pytest.mark.skipif(not tables.RESULTS.is_dir(), reason="this copy has no bench/results")
def test_the_tables_of_the_checkout_are_not_stale() -> None:
    assert tables.update(tables.DOCUMENTS, tables.RESULTS, check=True) == []


# ---- shapes, random models


@pytest.mark.parametrize("shape", list(shapes.SHAPES))
def test_shapes_are_decoders_that_peers_can_run_too(shape: str) -> None:
    config = shapes.decoder_config(shape)
    linears = [s.shape for s in _core.tensor_specs(config) if s.role == "linear"]
    assert sum(n * k for n, k in linears) == shapes.ternary_parameters(config)
    assert config["hidden_size"] % 256 == config["intermediate_size"] % 256 == 0
    assert config["num_attention_heads"] * config["head_dim"] == config["hidden_size"]


def test_a_peer_s_python_can_read_the_shapes() -> None:
    code = (
        "import sys, bench.shapes; print([m for m in ('numpy', 'bitnet_py') if m in sys.modules])"
    )
    assert run_fresh([sys.executable, "-S", "-c", code]).output == "[]\n"


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of tiny, .*, got '8B'"):
        shapes.decoder_config("8B")


@pytest.mark.parametrize("config", [shapes.decoder_config("tiny"), PADDED], ids=["tiny", "padded"])
def test_random_models_are_valid_and_lively(config: dict[str, Any]) -> None:
    tensors = random_tensors(config, seed=3)
    model = _core.Model(config, tensors, threads=1, validate=True)
    logits = _core.Session(model, 8).forward([1, 2, 3], "all")
    assert np.isfinite(logits).all()
    assert 0.1 < logits.std() < 10
    again, other = random_tensors(config, seed=3), random_tensors(config, seed=4)
    name = "model.layers.0.mlp.up_proj.weight"
    np.testing.assert_array_equal(tensors[name].data, again[name].data)
    assert (tensors[name].data != other[name].data).any()


def test_random_codes_take_every_value() -> None:
    config = shapes.decoder_config("tiny")
    tensors = random_tensors(config)
    weight = tensors["model.layers.1.mlp.down_proj.weight"].data
    shares = np.bincount(_core.unpack_ternary2(weight, 256, 512).ravel() + 1) / (256 * 512)
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.02)
    head = _core.unpack_int6(tensors["lm_head.weight"].data, 512, 256)
    assert set(np.unique(head)) == set(range(-32, 32))
    embedding = _core.unpack_int8(tensors["model.embed_tokens.weight"].data, 512, 256)
    assert set(np.unique(embedding)) == set(range(-127, 128))


@pytest.mark.parametrize("head", ["int6", "int8"])
def test_a_tied_random_embedding_has_the_format_of_the_head(head: str) -> None:
    config = shapes.decoder_config("tiny") | {"tie_word_embeddings": True}
    tensors = random_tensors(config, head=head)
    assert tensors["model.embed_tokens.weight"].format == head
    _core.Model(config, tensors, threads=1, validate=True)


@pytest.mark.parametrize("config", [shapes.decoder_config("tiny"), PADDED], ids=["tiny", "padded"])
def test_a_random_folder_holds_the_random_model(config: dict[str, Any], tmp_path: Path) -> None:
    write_random_folder(tmp_path, config)
    tensors = random_tensors(config)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.decoder == config
    for name, tensor in checkpoint.tensors.items():
        assert (tensor.format, tensor.scale_kind) == tensors[name][::3]
        np.testing.assert_array_equal(tensor.data, tensors[name].data)
        assert (tensor.scale is None) == (tensors[name].scale is None)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert stored_bytes(tensors) < size < stored_bytes(tensors) + 10_000
    assert load(tmp_path, threads=1).tokenizer is None


# ---- processes


def test_a_fresh_call_brings_its_result_back() -> None:
    assert call_fresh(shapes.ternary_parameters, shapes.SHAPES["tiny"] | {}) == 1310720
    with pytest.raises(RuntimeError, match=r"(?s)ended with code 1: .*KeyError"):
        call_fresh(shapes.ternary_parameters, {})


# ---- the benchmarks at a tiny size


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux gives it")
def test_memory_holds_its_claim_at_a_tiny_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BITNET_TEST_DATA", raising=False)
    path = tmp_path / "memory.json"
    assert memory.main(["--shape", "tiny", "--rounds", "1", "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    assert content["rows"][0]["reference"] == "packed bytes + KV cache + 50 MB"
    assert content["rows"][0]["ratio"] < 1
    assert {skip["reason"] for skip in content["skipped"]} == {"BITNET_TEST_DATA is not set"}


def test_startup_at_a_tiny_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITNET_TEST_DATA", raising=False)
    path = tmp_path / "startup.json"
    options = ["--shape", "tiny", "--rounds", "1", "--json", str(path)]
    startup.main(options)  # whether its claim on time holds is the bench's business
    rows = {r["name"]: r["value"] for r in json.loads(path.read_text())["rows"]}
    assert {startup.EMPTY, startup.IMPORT} < rows.keys()
    assert len(rows) == 5
    assert all(value > 0 for value in rows.values())


def test_a_published_figure_is_met_to_its_last_digit() -> None:
    none = np.empty(0)
    for perplexity, bits, failures in ((4.1574, 1.00754, 0), (4.16, 1.0077, 2)):
        report = Report("accuracy", None, [])
        ours = Evaluation(perplexity, bits, 1, none, none)
        published = accuracy.Published(4.157, 1.0075)
        accuracy.compare_published(report, row(), ours, published, tolerance=1e-5)
        assert len(report.failures) == failures
        assert report.rows[0].ratio == perplexity / 4.157


@pytest.mark.parametrize(("shift", "failures"), [(0.0, 0), (0.01, 1)])
def test_a_shift_beyond_chance_is_found(shift: float, failures: int) -> None:
    """Differences that favour no side pass, however large; a small one that always does fails."""
    noise = np.tile(np.float32([0.02, -0.02]), 5000)
    nll = np.linspace(0, 3, len(noise), dtype=np.float32)
    best = np.arange(len(nll), dtype=np.int32)

    def evaluation(values: np.ndarray) -> Evaluation:
        return Evaluation(math.exp(values.mean(dtype=float)), 1.0, len(values), values, best)

    report = Report("accuracy", None, [])
    accuracy.compare_transformers(
        report, accuracy.CASES[2], row(), evaluation(nll + noise + shift), evaluation(nll)
    )
    assert len(report.failures) == failures


def test_numbers_of_a_quick_run_are_not_results() -> None:
    with pytest.raises(SystemExit):
        bench_main.main(["--quick"])
    command = bench_main.command_line("peers", Path("r"), quick=True, peer_pythons=["python9"])
    assert command[-4:] == ["--peer-python", "python9", "--json", str(Path("r", "peers.json"))]


@pytest.mark.skipif(not os.environ.get("BITNET_TEST_DATA"), reason="BITNET_TEST_DATA is not set")
def test_accuracy_of_one_story(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.json"
    options = ["--segments", "1", "--checkpoint", "bitllama1M", "--json", str(path)]
    assert accuracy.main(options) == 0
    rows = json.loads(path.read_text())["rows"]
    assert {r["phase"] for r in rows} >= {"perplexity", "bits per byte", "same token first"}


def test_accuracy_without_data_skips(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BITNET_TEST_DATA", raising=False)
    assert accuracy.main([]) == 0
    assert "BITNET_TEST_DATA is not set" in capsys.readouterr().out
