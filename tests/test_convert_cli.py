"""`bitnet-convert` as a user meets it: options, exit codes, JSON, what it prints."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import BITNET, make_checkpoint

import bitnet_py
from bitnet_py.convert import convert
from bitnet_py.convert.cli import main

DATA = os.environ.get("BITNET_TEST_DATA")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "src")


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_json_is_the_report(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, "-o", tmp_path / "out", "--method", "absmean", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    report = convert(source, tmp_path / "again", method="absmean").to_json()
    for field in ("out", "seconds"):
        printed.pop(field)
        report.pop(field)
    assert printed == json.loads(json.dumps(report))
    data = tmp_path / "out" / "model.safetensors"
    header_bytes = 8 + int.from_bytes(data.read_bytes()[:8], "little")
    assert printed["n_bytes"] == data.stat().st_size - header_bytes
    assert printed["bits_per_weight"] == 8 * printed["n_bytes"] / printed["n_parameters"]
    assert 0.4 < printed["weight_error"] < 0.6


def test_dry_run_writes_nothing(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, "-o", tmp_path / "deep" / "out", "--dry-run", "--json") == 0
    dry = json.loads(capsys.readouterr().out)
    assert [path.name for path in tmp_path.iterdir()] == ["src"]
    assert run(source, "-o", tmp_path / "deep" / "out", "--json") == 0
    wet = json.loads(capsys.readouterr().out)
    assert dry["dry_run"]
    assert dry["weight_error"] is None
    for field in ("n_bytes", "n_parameters", "bits_per_weight", "matrices", "out"):
        assert dry[field] == wet[field]


def test_trits5_is_planned_as_it_is_written(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (source, "-o", tmp_path / "out", "--ternary-store", "trits5", "--head", "ternary")
    assert run(*command, "--json", "--dry-run") == 0
    dry = json.loads(capsys.readouterr().out)
    assert run(*command, "--json") == 0
    wet = json.loads(capsys.readouterr().out)
    assert dry["n_bytes"] == wet["n_bytes"]
    assert wet["head"] == "trits5"
    data = tmp_path / "out" / "model.safetensors"
    header_bytes = 8 + int.from_bytes(data.read_bytes()[:8], "little")
    assert wet["n_bytes"] == data.stat().st_size - header_bytes
    linears = [matrix for matrix in wet["matrices"] if matrix["role"] == "linear"]
    assert {matrix["format"] for matrix in linears} == {"trits5"}
    assert {matrix["origin"] for matrix in linears} == {"absmean"}
    assert (
        wet["linear_bits_per_weight"]
        < 0.9 * convert(source, tmp_path / "two", head="ternary").linear_bits_per_weight
    )


def test_the_table_and_the_warning(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, "-o", tmp_path / "out") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "ternary by absmean, scale per tensor: 14" in printed
    assert re.search(r"bits per weight \d\.\d\d with everything, 2\.\d+ in the linear", printed)
    assert re.search(r"WARNING: 14 of 14 ternary matrices were not ternary.*--method bf16", printed)


def test_progress_is_plain_lines_away_from_a_terminal(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, "-o", tmp_path / "out", "--json") == 0
    error = capsys.readouterr().err
    assert re.fullmatch(r"converting [\d,]+ weights\n", error)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--method", "gptq"], 2, "method to be one of absmean, auto, bf16, dense, f16, f32"),
        (["--method", "ptq"], 2, "got 'ptq'"),
        (["--scale", "block"], 2, "expected one of tensor, row, group, got scale 'block'"),
        (["--method", "f32", "--scale", "row"], 2, "expected no scale with method f32"),
        (
            ["--head", "int4"],
            2,
            "head to be one of bf16, f16, f32, int6, int8, ternary, got 'int4'",
        ),
        (["--ternary-store", "i2_s"], 2, "ternary_store to be one of ternary2, trits5, got 'i2_s'"),
        (["--format", "gguf"], 2, "format to be one of bitnet_py, got 'gguf'"),
        (["--verify", "nowhere.txt"], 1, "nowhere.txt: no such text"),
        (["--verify", __file__, "--dry-run"], 2, "expected verify or dry_run, got both"),
        (["--modules-to-not-convert", "k_prj"], 2, "got 'k_prj', which is none; there are model."),
        (["--modules-to-not-convert", "(x|y)"], 2, "modules_to_not_convert: '(x|y)' is not"),
        (["--unknown"], 2, "No such option"),
        ([], 2, "Missing option"),
    ],
)
def test_wrong_use(
    tmp_path: Path,
    source: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    out = ["-o", str(tmp_path / "out")] if arguments else []
    assert run(source, *out, *arguments) == code
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"{bitnet_py.__version__}\n"


def test_names_are_no_markup(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("my[q4]m", "o[", "m\udcff"):
        source = source.rename(tmp_path / name)
        out = tmp_path / "deep" / f"{name}[" / "b]"
        assert run(source, "-o", out, "--method", "f16") == 0
        printed = "".join(capsys.readouterr().out.split())
        assert name.replace("\udcff", "\\udcff") + "[/b]" in printed


def test_memory_that_is_not_there(
    tmp_path: Path,
    source: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("bitnet_py.convert.pipeline.make_plan", fail)
    assert run(source, "-o", tmp_path / "out") == 1
    assert capsys.readouterr().err == "bitnet-convert: not enough memory\n"


def test_failures_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "src").mkdir()
    assert run(tmp_path / "src", "-o", tmp_path / "out") == 1
    assert run(tmp_path / "nowhere", "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no config.json" in lines[0]
    assert "no such folder" in lines[1]


def test_modules_to_not_convert_in_both_spellings(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = "--modules-to-not-convert"
    for name, arguments in (
        ("commas", [flag, "k_proj,v_proj"]),
        ("repeated", [flag, "k_proj", flag, "v_proj"]),
    ):
        assert run(source, "-o", tmp_path / name, *arguments, "--json") == 0
        matrices = json.loads(capsys.readouterr().out)["matrices"]
        dense = [m["name"] for m in matrices if m["role"] == "linear" and m["origin"] == "float"]
        assert len(dense) == 4


def test_help_lists_what_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    printed = capsys.readouterr().out
    for word in ("--method", "absmean", "--head", "ternary", "--verify", "--force", "bitnet_py"):
        assert word in printed


def test_it_starts_without_torch(tmp_path: Path, source: Path) -> None:
    code = (
        "import sys; from bitnet_py.convert import convert; "
        f"convert({str(source)!r}, {str(tmp_path / 'out')!r}); "
        "print(sorted({'torch', 'transformers', 'rich', 'typer'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert printed.strip() == b"[]"


@pytest.fixture
def with_tokenizer(tmp_path: Path) -> Path:
    """A random BitNet whose vocabulary is that of a real tokenizer."""
    if not DATA:
        pytest.skip("BITNET_TEST_DATA is not set")
    source = make_checkpoint(tmp_path / "src", BITNET, vocab_size=512)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(Path(DATA) / "models" / "stories260K" / name, source / name)
    return source


def test_verify(tmp_path: Path, with_tokenizer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a cat.<|endoftext|>The dog ran home. " * 4)
    arguments = (with_tokenizer, "-o", tmp_path / "out", "--verify", text)
    assert run(*arguments, "--method", "f32", "--json") == 0
    found = json.loads(capsys.readouterr().out)["verification"]
    assert found["perplexity"] == found["source_perplexity"]
    assert found["perplexity_ratio"] == 1
    assert found["top1_agreement"] == 1
    assert found["tokens"] > 50
    assert found["text"] == "text.txt"
    assert found["verdict"] == "as good as the source"

    assert run(*arguments, "--method", "absmean", "--force") == 0
    printed = capsys.readouterr().out
    assert "verified with text.txt" in printed
    assert "verdict:" in printed
    assert "--verify" not in printed
    assert printed.count("what to do") <= 1
    assert {path.name for path in tmp_path.iterdir()} == {"src", "out", "text.txt"}


def test_verify_needs_a_tokenizer(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("words")
    assert run(source, "-o", tmp_path / "out", "--verify", text) != 0
    assert "tokenizer" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"src", "text.txt"}


@pytest.mark.parametrize(("content", "message"), [(b" \n", "nothing but"), (b"\xff", "not UTF-8")])
def test_verify_refuses_a_bad_text_at_once(
    tmp_path: Path,
    source: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    message: str,
) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    assert run(source, "-o", tmp_path / "out", "--verify", text) == 1
    captured = capsys.readouterr().err
    assert message in captured
    assert "converting" not in captured
