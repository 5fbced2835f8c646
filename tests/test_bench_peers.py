"""Engines beside each other: the workers' protocol, groups, variants, and what a failure leaves."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Behind all else, so that bitnet_py is the installed one.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from bench import contest, engine_worker, engines, llama_bench, peers, shapes
from bench.engine_process import EngineError, EngineProcess
from bench.engines import Contestant, Where, parse_contestants
from bench.llama_bench import LlamaBench
from bench.report import Report

FAKE = """
import json, sys, time
print(json.dumps({"version": "fake 1", "system": "s", "variants": VARIANTS}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if order.get("tokens") == 9:
        sys.exit("out of memory")
    if order.get("tokens") == 7:
        print(json.dumps({"error": "no"}), flush=True)
    else:
        seconds = 0.002 if order.get("variant") == "slow" else 0.001
        print(json.dumps({"seconds": seconds * order.get("tokens", 1)}), flush=True)
"""
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is Linux's")


def fake_command(*variants: str) -> list[str]:
    return [sys.executable, "-c", FAKE.replace("VARIANTS", json.dumps(variants))]


@pytest.fixture
def where(tmp_path: Path) -> Where:
    cache, scratch = tmp_path / "cache", tmp_path / "scratch"
    cache.mkdir()
    scratch.mkdir()
    return Where({"": sys.executable}, cache, scratch)


# ---- processes


def test_a_worker_answers_refuses_and_dies_by_name() -> None:
    with EngineProcess(fake_command()) as process:
        assert process.ready["version"] == "fake 1"
        assert process.ask(do="run", tokens=2)["seconds"] == 0.002
        with pytest.raises(EngineError, match=r"^no$"):
            process.ask(do="run", tokens=7)
        assert process.ask(do="run", tokens=3)["seconds"] == 0.003  # a refusal is not an end
        with pytest.raises(EngineError, match="ended with code 1: out of memory"):
            process.ask(do="run", tokens=9)
    with pytest.raises(EngineError, match="ended with code 3: no message"):
        EngineProcess([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(EngineError, match="No such file"):
        EngineProcess(["no-such-program"])


@linux_only
def test_a_worker_stands_still_between_its_turns() -> None:
    spinning = FAKE.replace("VARIANTS", "[]") + "    import threading\n"
    spinning += (
        "    threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()"
    )
    with EngineProcess([sys.executable, "-c", spinning]) as process:
        process.ask(do="load")
        status = Path("/proc", str(process._process.pid), "stat")
        for _ in range(1000):
            if status.read_text().rsplit(")", 1)[1].split()[0] == "T":
                break
        else:
            pytest.fail("it runs on")


class Recorder:
    """An engine that writes down what it is told."""

    version, system = "1", "s"
    variants = ("a", "b")

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def load(self, threads: int) -> None:
        self.calls.append(("load", threads))

    def configure(self, threads: int, variant: str) -> None:
        self.calls.append((threads, variant))

    def run(self, tokens: int, at_once: int) -> None:
        self.calls.append(tokens // at_once)


def test_orders_reach_the_engine_and_settings_only_when_they_change() -> None:
    engine, state = Recorder(), {"threads": 1, "variant": "a"}
    run = {"do": "run", "tokens": 8, "at_once": 2}
    for order in (
        {"do": "load", "threads": 2},
        run,
        {**run, "variant": "b"},
        {**run, "threads": 1},
    ):
        assert engine_worker.obey(engine, order, state)["seconds"] >= 0
    assert engine.calls == [("load", 2), 4, (2, "b"), 4, (1, "b"), 4]
    for order in ({"do": "jump"}, {**run, "tokens": 513}, {**run, "at_once": 9}):
        with pytest.raises(ValueError, match="expected"):
            engine_worker.obey(engine, order, state)


def test_this_engine_obeys(where: Where) -> None:
    with Contestant("bitnet_py", "ternary2").start("tiny", where) as process:
        assert process.ask(do="load", threads=1)["seconds"] > 0
        assert process.ask(do="run", tokens=16, at_once=16, threads=2)["seconds"] > 0
        assert process.ask(do="run", tokens=2, at_once=1)["seconds"] > 0
        if sys.platform == "linux":
            assert process.growth_bytes() > 100_000


def test_a_worker_needs_only_its_engine() -> None:
    source = Path(engine_worker.__file__).read_text()
    assert not [line for line in source.splitlines() if line.startswith(("import numpy", "from b"))]


# ---- who takes part


def test_peers_are_named_with_or_without_a_format() -> None:
    names = ["llama-cpp-python:F16", "transformers", "llama-cpp-python:F16"]
    assert [c.label for c in parse_contestants(names)] == [
        "llama.cpp F16", "transformers fp32", "transformers bf16",
    ]  # fmt: skip
    for name in ("vllm", "bitnet_py", "transformers:int3"):
        with pytest.raises(ValueError, match=r"\[peers\] expected"):
            parse_contestants([name])


def test_memory_is_estimated_from_bits() -> None:
    """3B in F16 is 6.5 GB of weights; the notes of llama.cpp say the file has 6.9."""
    sizes = {
        c.label: c.needed_bytes("3B")
        for c in parse_contestants(engines.KINDS.keys() - {"bitnet_py"})
    }
    assert 6.5e9 < sizes["llama.cpp F16"] < 7.3e9
    assert sizes["transformers fp32"] > 1.8 * sizes["transformers bf16"]
    assert sizes["llama.cpp TQ2_0"] < 1.5e9


def test_groups_fit_in_memory_and_each_has_ours() -> None:
    ours, *others = (Contestant("bitnet_py", "ternary2"), *parse_contestants(["llama-cpp-python"]))
    one = max(other.needed_bytes("3B") for other in others) + ours.needed_bytes("3B")
    groups = list(contest.groups_that_fit(ours, others, "3B", one))
    assert [group[0] for group in groups] == [ours] * len(groups)
    assert [peer for group in groups for peer in group[1:]] == others
    assert len(groups) > 1
    for group in groups:
        assert len(group) == 2 or sum(each.needed_bytes("3B") for each in group) <= one
    assert list(contest.groups_that_fit(ours, [], "3B", 0)) == [[ours]]


def test_pythons_by_engine(tmp_path: Path) -> None:
    options = ["--peer-python", "all9", "--peer-python", "transformers=one9"]
    where = peers.read_where(peers.parse(options), str(tmp_path))
    assert where.python("transformers") == "one9"
    assert where.python("llama-cpp-python") == "all9"
    assert where.python("bitnet_py") == sys.executable
    with pytest.raises(ValueError, match="got 'vllm'"):
        peers.read_where(peers.parse(["--peer-python", "vllm=x"]), str(tmp_path))


# ---- measuring


@pytest.fixture
def fake_peers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Lets every peer of this process be a fake, with these variants."""
    start = Contestant.start

    def use(*variants: str) -> None:
        def fake(self: Contestant, shape: str, where: Where) -> EngineProcess:
            if self.engine == "bitnet_py":
                return start(self, shape, where)
            if self.engine == "litespark":
                message = "No module named 'litespark_inference'"
                raise EngineError(message)
            return EngineProcess(fake_command(*variants))

        monkeypatch.setattr(Contestant, "start", fake)
        monkeypatch.setattr(contest, "SETTLE_S", 0)

    return use


def run(path: Path, options: str) -> dict[str, Any]:
    assert peers.main([*options.split(), "--shape", "tiny", "--json", str(path)]) == 0
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_peers_beside_ours(fake_peers: Callable[..., None], tmp_path: Path) -> None:
    fake_peers("slow", "quick")
    content = run(
        tmp_path / "peers.json",
        "--threads 1 --phase decode --phase pp7 --phase pp9 --rounds 2 "
        "--peers llama-cpp-python:TQ2_0,litespark",
    )
    ours, theirs = content["rows"][:2]
    assert ours["name"] == "tiny decode 1T bitnet_py ternary2 / llama.cpp TQ2_0"
    assert (ours["reference"], ours["n"]) == ("llama.cpp TQ2_0", 2)
    assert theirs["name"] == "tiny decode 1T llama.cpp TQ2_0, quick"
    assert theirs["value"] == pytest.approx(1000)
    assert ours["ratio"] == pytest.approx(ours["value"] / 1000, rel=0.5)
    assert (theirs["engine"], theirs["format"], theirs["ratio"]) == ("llama.cpp", "TQ2_0", None)
    assert content["header"]["peers"] == {"llama.cpp": {"version": "fake 1", "system": "s"}}
    # Ours goes on when a peer refuses, and when it dies.
    assert [r["name"] for r in content["rows"][2:]] == [
        "tiny pp7 1T bitnet_py ternary2", "tiny pp9 1T bitnet_py ternary2",
    ]  # fmt: skip
    reasons = {skip["name"]: skip["reason"] for skip in content["skipped"]}
    assert reasons["tiny litespark-inference 2-bit"] == "No module named 'litespark_inference'"
    assert reasons["tiny pp7 1T llama.cpp TQ2_0"] == "no"
    assert reasons["tiny pp9 1T llama.cpp TQ2_0"].endswith("out of memory")


@linux_only
def test_memory_and_first_token(fake_peers: Callable[..., None], tmp_path: Path) -> None:
    fake_peers()
    options = "--threads 1 --phase memory --rounds 1 --peers transformers:bf16,llama-cpp-python:F16"
    content = run(tmp_path / "peers.json", options)
    assert {row["phase"] for row in content["rows"]} == {"memory"}
    options = [*options.split(), "--phase", "first token", "--rounds", "2", "--shape", "tiny"]
    assert peers.main([*options, "--json", str(tmp_path / "both.json")]) == 0
    content = json.loads((tmp_path / "both.json").read_text())
    rows = {row["name"]: row for row in content["rows"]}
    ours = rows["tiny memory 1T bitnet_py ternary2 / llama.cpp F16"]
    assert (ours["unit"], ours["reference"]) == ("MB", "llama.cpp F16")
    assert ours["value"] > 0.5
    first = rows["tiny first token 1T llama.cpp F16"]
    assert (first["unit"], first["value"], first["n"]) == ("s", pytest.approx(0.009), 2)
    assert [skip["name"] for skip in content["skipped"]] == ["tiny first token transformers bf16"]


class LaterFailing:
    """A process that fails in its third turn."""

    ready: Any = {"variants": []}  # noqa: RUF012

    def __init__(self) -> None:
        self.turns = 0

    def ask(self, **_: Any) -> dict[str, Any]:
        self.turns += 1
        if self.turns == 3:
            message = "no more"
            raise EngineError(message)
        return {"seconds": 0.001}


@pytest.mark.parametrize("is_ours", [False, True])
def test_a_failure_in_a_later_round(monkeypatch: pytest.MonkeyPatch, is_ours: bool) -> None:
    """A peer's is a line that names it, ours ends the run."""
    monkeypatch.setattr(contest, "SETTLE_S", 0)
    entrant = contest.own_contestant() if is_ours else Contestant("transformers", "bf16")
    report = Report("peers", None, [])
    processes: Any = [(entrant, LaterFailing())]
    if is_ours:
        with pytest.raises(EngineError, match="no more"):
            contest.measure_phase(report, "tiny", "decode", 1, processes, rounds=3)
        return
    contest.measure_phase(report, "tiny", "decode", 1, processes, rounds=3)
    skipped = {"name": "tiny decode 1T, transformers bf16", "reason": "no more"}
    assert (report.rows, report.skipped) == ([], [skipped])


def test_what_does_not_fit_says_so(where: Where) -> None:
    report = Report("peers", None, [])
    contest.measure_shape(
        report,
        "70B",
        parse_contestants(["transformers:fp32"]),
        where,
        phases=[],
        threads=[1],
        rounds=1,
        usable_bytes=lambda: 20e9,
    )
    assert report.skipped[0]["reason"] == "needs 276 GB, 20 may be used"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        *((f"--phase {p}", "expected decode, pp1 to pp512, memory") for p in ("pp0", "pp513", "x")),
        ("--peers vllm", "expected one of llama-cpp-python, transformers, litespark, got 'vllm'"),
        ("--peers transformers:fp8", "expected transformers with one of fp32, bf16"),
    ],
)
def test_wrong_use_is_said_in_a_line(
    options: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        peers.main(options.split())
    assert reason in capsys.readouterr().err


# ---- another llama.cpp by its path

PROGRAM = """#!{python}
import json, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open({log!r}, "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if arguments["-p"] == "7":
    sys.exit("unknown type")
print(json.dumps([{{"avg_ts": 50.0, "build_commit": "abc", "build_number": 7, "cpu_info": "x"}}]))
"""


@pytest.mark.skipif(os.name != "posix", reason="a program is a script here")
def test_a_llama_bench(where: Where, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    program = tmp_path / "llama-bench"
    program.write_text(PROGRAM.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    monkeypatch.setattr(llama_bench, "gguf_path", lambda *_: tmp_path / "m.gguf")
    entrant = LlamaBench(program, "ik_llama.cpp", "TQ2_0")
    assert (entrant.label, entrant.needed_bytes("7B")) == ("ik_llama.cpp TQ2_0", 0)
    with entrant.start("tiny", where) as process:
        assert process.ready["version"] == "llama-bench abc (7)"
        assert process.ask(do="load", threads=2) == {"seconds": 0}
        order = {"do": "run", "tokens": 32, "threads": 2, "variant": "flash attention on"}
        assert process.ask(**order, at_once=1)["seconds"] == 32 / 50
        assert "-p 0 -n 32 -t 2 -fa 1" in log.read_text().splitlines()[-1]
        process.ask(**order, at_once=32)
        assert "-p 32 -n 0 -t 2 -fa 1" in log.read_text().splitlines()[-1]
        assert process.growth_bytes() > 1e6
        with pytest.raises(EngineError, match="llama-bench ended with code 1: unknown type"):
            process.ask(do="run", tokens=7, at_once=7)
    with pytest.raises(EngineError, match="No such file"):
        LlamaBench(tmp_path / "none", "x", "TQ2_0").start("tiny", where)


# ---- real peers


@pytest.mark.peers
@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")
@pytest.mark.parametrize("kind", ["TQ2_0", "TQ1_0", "Q4_0", "Q8_0", "F16"])
def test_random_ggufs_are_what_they_say(kind: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from bench.peer_models import write_gguf

    write_gguf(tmp_path / "x.gguf", shapes.decoder_config("tiny"), kind)
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "x.gguf").tensors}
    assert len(tensors) == 3 + 9 * 2
    up = tensors["blk.1.ffn_up.weight"]
    values = gguf.dequantize(up.data, up.tensor_type)
    assert (up.tensor_type.name, values.shape) == (kind, (512, 256))
    assert values.std() == pytest.approx(256**-0.5, rel=0.1)
    if kind in ("TQ2_0", "TQ1_0", "F16"):
        assert len(set(values.ravel().tolist())) == 3
    head = tensors["output.weight"].tensor_type.name
    assert head == ("F16" if kind == "F16" else "Q6_K")


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("llama-cpp-python:TQ2_0", "llama_cpp"),
        ("transformers:bf16", "transformers"),
        ("litespark", "litespark_inference"),
    ],
)
def test_a_real_peer_at_a_tiny_size(name: str, module: str, where: Where) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    (peer,) = parse_contestants([name])
    with peer.start("tiny", where) as process:
        process.ask(do="load", threads=2)
        assert process.ask(do="run", tokens=70, at_once=70)["seconds"] > 0
        assert process.ask(do="run", tokens=2, at_once=1, threads=1)["seconds"] > 0
