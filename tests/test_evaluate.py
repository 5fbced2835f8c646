"""Perplexity against its definition, window by window, and against numbers of transformers."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import make_decoder, make_model
from tiny_tokenizer import CORPUS, write_byte_level

import bitnet_py
from bitnet_py import evaluate
from bitnet_py.evaluate import evaluate_text
from bitnet_py.model import Model
from bitnet_py.tokenizer import load_tokenizer

TEXT = f"{CORPUS[0]}\n<|endoftext|>\n  {CORPUS[1]} caf\u00e9 <|endoftext|><|endoftext|> the\n"
SEGMENTS = [CORPUS[0], f"{CORPUS[1]} caf\u00e9", "the"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    tokenizer = load_tokenizer(write_byte_level(tmp_path_factory.mktemp("tokenizer")))
    assert tokenizer is not None
    decoder = make_decoder(vocab_size=tokenizer.vocab_size)
    return make_model(decoder, tokenizer=tokenizer, threads=1)


def by_definition(model: Model, context: int, stride: int) -> tuple[list[float], list[int]]:
    """Negative log-likelihoods and best tokens, one evaluation per token, in float64."""
    assert model.tokenizer is not None
    nll, best = [], []
    for segment in SEGMENTS:
        ids = [1, *model.tokenizer.encode(segment, add_special_tokens=False)]
        for i in range(1, len(ids)):
            # The first window that predicts token i: it begins at a multiple of the stride.
            begin = max(0, math.ceil((i - context + 1) / stride)) * stride
            logits = model.logits(ids[begin:i])[-1].astype(np.float64)
            nll.append(float(np.log(np.exp(logits - logits.max()).sum()) + logits.max()))
            nll[-1] -= logits[ids[i]]
            best.append(int(logits.argmax()))
    return nll, best


@pytest.mark.parametrize(
    ("context", "stride"), [(64, 63), (10, 9), (10, 4), (10, 1), (2, 1), (7, 3)]
)
@pytest.mark.parametrize("logits_bytes", [1, 5 * 4 * 320, 1 << 20])
def test_by_definition(
    model: Model, monkeypatch: pytest.MonkeyPatch, context: int, stride: int, logits_bytes: int
) -> None:
    monkeypatch.setattr(evaluate, "LOGITS_BYTES", logits_bytes)
    nll, best = by_definition(model, context, stride)
    result = evaluate_text(model, TEXT, context=context, stride=stride)
    np.testing.assert_allclose(result.nll, nll, rtol=1e-5)
    assert result.argmax.tolist() == best
    assert result.tokens == len(nll)
    n_bytes = sum(len(segment.encode()) for segment in SEGMENTS)
    assert result.perplexity == pytest.approx(math.exp(sum(nll) / len(nll)), rel=1e-5)
    assert result.bits_per_byte == pytest.approx(sum(nll) / math.log(2) / n_bytes, rel=1e-5)


def test_defaults_are_the_whole_context_and_no_overlap(model: Model) -> None:
    assert model.perplexity(TEXT) == evaluate_text(model, TEXT, context=64, stride=63).perplexity
    assert model.perplexity(TEXT, 10) == evaluate_text(model, TEXT, context=10, stride=9).perplexity


def test_progress_ends_at_the_number_of_tokens(model: Model) -> None:
    steps: list[tuple[int, int]] = []
    result = evaluate_text(
        model, TEXT, context=10, stride=4, on_progress=lambda *step: steps.append(step)
    )
    assert {total for _, total in steps} == {result.tokens}
    done = [done for done, _ in steps]
    assert done == sorted(set(done))
    assert done[-1] == result.tokens


def test_without_bos_the_first_token_is_given(model: Model) -> None:
    assert model.tokenizer is not None
    special_tokens = model.tokenizer.special_tokens
    expected = evaluate_text(model, TEXT).tokens - len(SEGMENTS)
    model.tokenizer.special_tokens = {"eos_token": "</s>"}
    try:
        assert evaluate_text(model, TEXT).tokens == expected
    finally:
        model.tokenizer.special_tokens = special_tokens


def test_a_perplexity_that_no_float_holds(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate._core, "log_softmax_at", lambda _, ids: np.float32(-1e6 * ids))
    assert evaluate_text(model, TEXT).perplexity == math.inf


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "expected a text of at least one token behind the first"),
        ("\n <|endoftext|> ", {}, "expected a text of at least one token"),
        (TEXT, {"context": 1}, r"expected a context in \[2, 64\], got 1"),
        (TEXT, {"context": 65}, r"expected a context in \[2, 64\], got 65"),
        (TEXT, {"stride": 0}, r"expected a stride in \[1, 63\], got 0"),
        (TEXT, {"context": 10, "stride": 10}, r"expected a stride in \[1, 9\], got 10"),
    ],
)
def test_wrong_arguments(model: Model, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_text(model, text, **options)


def test_a_model_without_tokenizer() -> None:
    with pytest.raises(ValueError, match="this model has no tokenizer"):
        evaluate_text(make_model(threads=1), TEXT)


@pytest.mark.skipif(not os.environ.get("BITNET_TEST_DATA"), reason="BITNET_TEST_DATA is not set")
@pytest.mark.parametrize(
    ("name", "options", "tokens", "perplexity", "bits_per_byte"),
    [
        ("stories260K", {"method": "f32"}, 27_983, 3.458, 0.844),
        ("bitllama1M", {"head": "f32"}, 27_983, 3.687, 0.888),
        ("babyllama361", {"method": "f32"}, 59_327, 1.911, 0.934),
    ],
)
def test_real_models_as_transformers_measures_them(
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    tokens: int,
    perplexity: float,
    bits_per_byte: float,
) -> None:
    """The first 80 stories of TinyStories' validation split; bitllama1M with int8 activations."""
    data = Path(os.environ["BITNET_TEST_DATA"])
    text = (data / "text/tinystories_valid.txt").read_text("utf-8")
    stories = "<|endoftext|>".join(text.split("<|endoftext|>")[:80])
    bitnet_py.convert.convert(data / "models" / name, tmp_path / "packed", **options)
    result = evaluate_text(bitnet_py.load(tmp_path / "packed"), stories)
    assert result.tokens == tokens
    # 3 decimals are known; int8 activations that round the other way move it by 0.02 % at most
    assert result.perplexity == pytest.approx(perplexity, abs=0.00051 + 2e-4 * perplexity)
    assert result.bits_per_byte == pytest.approx(bits_per_byte, abs=0.00051)
