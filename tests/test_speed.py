"""What `bitnet bench` measures, and what it prints."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_model import make_decoder, make_tensors, write_folder

from bitnet_py import _core, cli, speed
from bitnet_py.peak_memory import PeakMemory
from bitnet_py.speed import Samples, Workload

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is Linux's")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model")
    decoder = make_decoder(max_position_embeddings=600)
    write_folder(path, decoder, make_tensors(decoder, embedding="int8"))
    return str(path)


def make_model(**fields: object) -> tuple[_core.Model, dict[str, _core.PackedTensor]]:
    decoder = make_decoder(max_position_embeddings=600, **fields)
    tensors = make_tensors(decoder, embedding="int8")
    return _core.Model(decoder, tensors, threads=1), tensors


def test_median_and_spread() -> None:
    samples = Samples((4.0, 1.0, 2.0, 3.0, 100.0))
    assert (samples.n, samples.median, samples.spread) == (5, 3.0, 2.0 / 3.0)
    assert Samples((7.0,)).spread == 0
    assert samples.rates(12).values == (3.0, 12.0, 6.0, 4.0, 0.12)


def test_tests_are_named_as_llama_bench_names_them() -> None:
    names = [test.name for test in (Workload(128, 128), Workload(32, 1), Workload(32, 1, 1024))]
    assert names == ["pp128", "tg32", "tg32 @ d1024"]


@pytest.mark.parametrize("depth", [0, 3, 256, 300])
def test_a_filled_cache_has_its_depth_and_repeats_what_was_computed(depth: int) -> None:
    model, _ = make_model()
    session = _core.Session(model, 310)
    ids = speed.random_ids(model.config["vocab_size"], 256)
    session.forward([1, 2])
    speed.fill_cache(session, ids, depth)
    assert session.length == depth
    if depth == 300:
        for cache in session.export_kv():
            np.testing.assert_array_equal(cache[:, :, 256:], cache[:, :, :44])
    if depth:
        assert np.isfinite(session.forward(ids[:3])).all()


@pytest.mark.parametrize(("test", "calls"), [(Workload(7, 7), [7]), (Workload(3, 1, 4), [1, 1, 1])])
def test_a_run_evaluates_its_tokens_behind_its_depth(test: Workload, calls: list[int]) -> None:
    class Recorder:
        def __init__(self) -> None:
            self.length, self.calls = 9, list[int]()

        def truncate(self, length: int) -> None:
            self.length = length

        def forward(self, ids: np.ndarray) -> None:
            self.calls.append(len(ids))
            self.length += len(ids)

    session = Recorder()
    assert speed.run_seconds(session, np.zeros(9, np.int32), test) > 0  # type: ignore[arg-type]
    assert session.calls == calls
    assert session.length == test.depth + test.tokens


def test_every_test_runs_with_every_number_of_threads() -> None:
    model, tensors = make_model()
    models = {1: model, 2: _core.Model(model.config, tensors, threads=2)}
    steps: list[tuple[int, int]] = []
    tests = [Workload(5, 5), Workload(4, 1), Workload(4, 1, 20)]
    measured = speed.measure_tests(
        models, tests, kv_dtype="f16", repetitions=3, on_progress=lambda *at: steps.append(at)
    )
    assert [(m.test, m.threads) for m in measured] == [(t, n) for n in (1, 2) for t in tests]
    assert all(m.tokens_per_s.n == 3 and m.tokens_per_s.median > 0 for m in measured)
    assert steps == [(turn, 24) for turn in range(1, 25)]


@pytest.mark.parametrize("tied", [False, True])
def test_a_token_reads_linears_and_head_but_not_the_embedding(tied: bool) -> None:
    model, tensors = make_model(tie_word_embeddings=tied)
    norms = sum(t.data.nbytes for t in tensors.values() if t.format == "f32")
    whole = sum(
        t.data.nbytes + (0 if t.scale is None else t.scale.nbytes) for t in tensors.values()
    )
    row = tensors["model.embed_tokens.weight"]
    assert row.scale is not None
    embedding = row.data.nbytes + row.scale.nbytes
    expected = whole - norms - (0 if tied else embedding)
    assert speed.weight_bytes_per_token(model, tensors) == expected


@linux_only
def test_peak_memory_counts_what_was_freed_again() -> None:
    memory = PeakMemory()
    np.ones(64 << 20, np.uint8)
    assert 60e6 < memory.growth_bytes() < 80e6
    assert PeakMemory().growth_bytes() < 5e6
    with pytest.raises(OSError, match="expected a /proc"):
        PeakMemory("no-such-process")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", *arguments])
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def test_bench_json(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "-p 8,16 -n 4 -d 0,30 --threads 1,2 --repetitions 2 --kv-dtype f32 --json"
    code, out, err = run(capsys, folder, *flags.split())
    facts = json.loads(out)
    assert (code, facts["kv_dtype"], err) == (0, "f32", "measuring\n")
    names = ["pp8", "pp16", "tg4", "pp8 @ d30", "pp16 @ d30", "tg4 @ d30"]
    assert [(t["name"], t["threads"]) for t in facts["tests"]] == [
        (name, threads) for threads in (1, 2) for name in names
    ]
    for test in facts["tests"]:
        assert test["n"] == 2
        assert test["tokens_per_s"] > 0
        rate = test["weight_gb_per_s"]
        if test["name"].startswith("tg"):
            expected = facts["weight_bytes_per_token"] * test["tokens_per_s"] / 1e9
            assert rate == pytest.approx(expected)
        else:
            assert rate is None
    if sys.platform == "linux":
        assert facts["peak_memory_growth_bytes"] > 0


def test_bench_prints_a_table(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, folder, "-p", "8", "-n", "0", "-t", "1", "-r", "1")
    lines = out.splitlines()
    assert code == 0
    (line,) = [line.split() for line in lines if line.startswith("pp8")]
    assert line[1] == "1"
    assert not [line for line in lines if line.startswith("tg")]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("-n 32,x", "expected --generated N or N,N,..."),
        ("-p -5", "expected --prompt"),
        ("-t 0", "expected --threads N or N,N,... of at least 1"),
        ("-p 601 -n 0", "of at most 600, the model's context, got 0 + 601; take shorter ones"),
        ("-n 32 -d 590 -p 0", "got 590 + 32"),
        ("-n 0 -p 0", "at least one test"),
        ("--kv-dtype f8", "expected kv_dtype"),
    ],
)
def test_bench_refuses(
    folder: str, capsys: pytest.CaptureFixture[str], flags: str, reason: str
) -> None:
    code, out, err = run(capsys, folder, *flags.split())
    assert (code, out) == (2, "")
    assert reason in err.replace("\n", " ")


def test_a_model_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, str(tmp_path))
    assert (code, out) == (1, "")
    assert "config.json" in err
