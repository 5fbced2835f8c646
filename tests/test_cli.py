"""The command `bitnet`: what it prints, where, and its exit codes."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_decoder, make_tensors, write_folder
from tiny_tokenizer import CORPUS, write_byte_level

import bitnet_py
from bitnet_py import cli
from bitnet_py.chat import ChatSession
from bitnet_py.evaluate import evaluate_text
from bitnet_py.tokenizer import load_tokenizer

CHAT = "{{ bos_token }}{% for m in messages %}{{ m.content }}\n{% endfor %}"
GREEDY = ["--max-new-tokens", "12", "--threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_byte_level(tmp_path_factory.mktemp("model"))
    tokenizer = load_tokenizer(path)
    assert tokenizer is not None
    decoder = make_decoder(vocab_size=tokenizer.vocab_size, max_position_embeddings=128)
    write_folder(path, decoder, make_tensors(decoder, embedding="int8"))
    (path / "chat_template.jinja").write_text(CHAT)
    (path / "bytes.txt").write_bytes(b"a\xff")
    return str(path)


class Run:
    """One command in this process: exit code, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        self.code = ended.value.code or 0
        self.out, self.err = capsys.readouterr()


def test_generate_prints_the_text(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "generate", folder, "-p", "the cat", *GREEDY)
    expected = bitnet_py.generate(folder, "the cat", max_new_tokens=12)
    assert (run.code, run.out, run.err) == (0, f"{expected}\n", "")


def test_generate_passes_every_option(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {
        "temperature": 1.3, "top_k": 50, "top_p": 0.95, "min_p": 0.001, "seed": 5,
        "repetition_penalty": 1.2, "no_repeat_ngram_size": 4, "max_new_tokens": 30,
    }  # fmt: skip
    flags = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", str(v))]
    expected = bitnet_py.generate(folder, "the cat", **options)
    assert Run(capsys, "generate", folder, "-p", "the cat", *flags).out == f"{expected}\n"
    stop = str(expected)[8:10]
    run = Run(capsys, "generate", folder, "-p", "the cat", *flags, "--stop", stop, "--stop", "zzzz")
    assert run.out == f"{str(expected)[: str(expected).index(stop)]}\n"


def test_generate_reads_stdin(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Run(capsys, "generate", folder, "-p", "the cat", *GREEDY).out
    for flags in ([], ["-p", "-"]):
        monkeypatch.setattr(sys, "stdin", io.StringIO("the cat\n"))
        assert Run(capsys, "generate", folder, *flags, *GREEDY).out == expected


def test_generate_json(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "generate", folder, "-p", "the cat", "--json", "--verbose", *GREEDY)
    result = json.loads(run.out)
    model = bitnet_py.load(folder)
    (expected,) = model.generate_results("the cat", max_new_tokens=12)
    assert result["text"] == expected.text
    assert result["token_ids"] == expected.token_ids
    assert result["finish_reason"] == expected.finish_reason
    assert result["prompt_tokens"] == len(model.encode_prompts("the cat")[0])
    assert result["new_tokens"] == len(expected.token_ids)
    assert min(result["prompt_tokens_per_s"], result["new_tokens_per_s"], result["load_s"]) > 0
    assert f"new {len(expected.token_ids)} tokens" in run.err
    assert "1 threads" in run.err


def test_eval(folder: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("<|endoftext|>".join(CORPUS))
    expected = evaluate_text(bitnet_py.load(folder), text.read_text(), context=20, stride=5)
    flags = ["--text", str(text), "--context", "20", "--stride", "5"]
    run = Run(capsys, "eval", folder, *flags, "--json")
    assert json.loads(run.out) == {
        "perplexity": expected.perplexity,
        "bits_per_byte": expected.bits_per_byte,
        "tokens": expected.tokens,
    }
    shown = Run(capsys, "eval", folder, *flags).out.split()
    assert f"{expected.perplexity:.4f}" in shown
    assert str(expected.tokens) in shown


def test_info(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(Run(capsys, "info", folder, "--json").out)
    tensors = bitnet_py.load(folder).tensors.values()
    n_bytes = sum(t.data.nbytes + (t.scale.nbytes if t.scale is not None else 0) for t in tensors)
    assert facts["bytes"] == n_bytes
    sizes = facts["decoder"]
    linear = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160)
    other = 2 * sizes["vocab_size"] * 64 + 5 * 64
    assert facts["parameters"] == linear + other
    assert facts["bits_per_weight"] == pytest.approx(8 * n_bytes / (linear + other))
    assert facts["linear_bits_per_weight"] == pytest.approx(2 + 14 * 32 / linear)
    assert facts["context_length"] == 128
    assert facts["tokenizer"] == {
        "vocab_size": sizes["vocab_size"], "bos_token": "<s>", "eos_token": "</s>",
    }  # fmt: skip
    groups = {g["pattern"]: (g["format"], g["scale"], g["count"]) for g in facts["tensors"]}
    assert groups["model.layers.*.self_attn.q_proj.weight"] == ("ternary2", "tensor", 2)
    assert groups["lm_head.weight"] == ("int8", "row", 1)
    shown = Run(capsys, "info", folder).out
    assert "ternary2" in shown
    assert f"{linear + other:,}" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "--version")
    assert (run.code, run.out) == (0, f"{bitnet_py.__version__}\n")


def test_chat_over_a_pipe(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["the cat", "", "and then", "/what", "/clear", "the cat", "/exit", "never read"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    run = Run(capsys, "chat", folder, "--system", "be a cat", *GREEDY)
    session = bitnet_py.load(folder, threads=1).chat("be a cat")
    answers = [session.send(line, max_new_tokens=12) for line in ("the cat", "and then")]
    assert (run.code, run.out) == (0, "".join(f"{a}\n" for a in [*answers, answers[0]]))
    assert "no command /what" in run.err


def test_chat_goes_on_when_the_context_is_full(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{'water ' * 200}\nthe cat\n"))
    run = Run(capsys, "chat", folder, *GREEDY)
    expected = bitnet_py.load(folder).chat().send("the cat", max_new_tokens=12)
    assert (run.code, run.out) == (0, f"\n{expected}\n")
    assert "/clear forgets the conversation" in run.err


def test_ctrl_c_stops_an_answer_only(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = ChatSession.stream

    def interrupted(self: ChatSession, text: str, **options: Any) -> Any:
        chunks = stream(self, text, **options)
        if text != "stop":
            yield from chunks
            return
        yield next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(ChatSession, "stream", interrupted)
    monkeypatch.setattr(sys, "stdin", io.StringIO("stop\nthe cat\n"))
    run = Run(capsys, "chat", folder, *GREEDY)
    assert run.code == 0
    assert " [stopped]\n" in run.out
    assert len(run.out.splitlines()) >= 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["generate", "absent", "-p", "x"], 1, "bitnet: absent: no such folder"),
        (["generate", "{folder}", "-p", "water " * 200], 2, "bitnet: [generate] expected a prompt"),
        (["generate", "{folder}", "-p", "x", "--device", "cuda"], 2, "this build has no CUDA"),
        (["generate", "{folder}", "-p", "x", "--top-p", "0"], 2, "expected top_p to be a number"),
        (["chat", "{folder}", "--top-p", "0"], 2, "expected top_p to be a number"),
        (["generate", "{folder}", "-p", "\udcff"], 2, "expected a text of Unicode characters"),
        (["generate", "{folder}", "-p", "x", "--top-k", "9" * 20], 2, "expected top_k to be a"),
        (["eval", "{folder}", "--text", "{folder}/bytes.txt"], 1, "bytes.txt: not UTF-8"),
        (["eval", "{folder}", "--text", "absent.txt"], 1, "absent.txt"),
        (["info", "{folder}/chat_templates"], 1, "no such folder"),
        (["generate", "{folder}", "-p", "x", "--top-p", "2"], 2, "--top-p"),
        (["generate", "{folder}", "-p", "x", "--temperature", "-1"], 2, "--temperature"),
        (["generate", "{folder}", "-p", "x", "--threads", "0"], 2, "--threads"),
        (["generate", "{folder}", "-p", "x", "--seed", "many"], 2, "--seed"),
        (["generate", "-p", "x"], 2, "MODEL"),
        (["eval", "{folder}"], 2, "--text"),
        (["sing"], 2, "sing"),
        ([], 2, ""),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_exit_codes(
    folder: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    run = Run(capsys, *(argument.format(folder=folder) for argument in arguments))
    assert run.code == code
    assert message in run.err
    assert "Traceback" not in run.err
    if run.err.startswith("bitnet: "):
        assert run.err.count("\n") == 1
        assert run.out == ""


def test_a_bug_is_a_traceback(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(bitnet_py.Model, "stream", fail)
    with pytest.raises(RuntimeError):
        cli.main(["generate", folder, "-p", "x"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("can't start new thread"), "the system starts no more threads"),
        (RuntimeError(os.strerror(errno.EAGAIN)), "the system starts no more threads"),
    ],
    ids=repr,
)
def test_what_the_system_refuses_is_one_line(
    folder: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(bitnet_py.Model, "stream", fail)
    run = Run(capsys, "generate", folder, "-p", "x")
    assert run.code == 1
    assert run.err.startswith(f"bitnet: {message}")
    assert run.err.count("\n") == 1


def test_json_is_strict(
    folder: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "text.txt").write_text("the cat and the dog")
    monkeypatch.setattr("bitnet_py.evaluate._exp", lambda _: float("inf"))
    run = Run(capsys, "eval", folder, "--text", str(tmp_path / "text.txt"), "--json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(run.out, parse_constant=refuse)["perplexity"] is None


def test_names_are_no_markup(
    folder: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "my[q4]m"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text()) | {"model_type": "[/x]"}
    (other / "config.json").write_text(json.dumps(config))
    shown = "".join(Run(capsys, "info", str(other)).out.split())
    assert "my[q4]m" in shown
    assert "modeltype[/x]" in shown


def start(*arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
    code = "from bitnet_py.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_ctrl_c_ends_quietly(folder: str) -> None:
    with start("chat", folder, "--max-tokens", "1", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"the cat\n")
        process.stdin.flush()
        process.stdout.readline()  # the answer
        time.sleep(0.2)  # now it waits for the next line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")


def test_a_reader_that_leaves(folder: str) -> None:
    with start("info", folder) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
    assert process.returncode == 1
    assert b"Traceback" not in err
