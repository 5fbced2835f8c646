"""The loop: batches, ends, stop strings, what a prompt may be."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import make_decoder, make_model, make_tensors, write_folder
from tiny_tokenizer import WRITERS

import bitnet_py
from bitnet_py import _core, generation
from bitnet_py.errors import FormatError
from bitnet_py.model import Model
from bitnet_py.sampling import GenerationConfig
from bitnet_py.tokenizer import Tokenizer, load_tokenizer

RNG = np.random.default_rng(5)
PROMPTS = [RNG.integers(3, 96, n).tolist() for n in (1, 2, 7, 30, 31, 3, 50)]
NEVER = {"eos_token_id": ()}  # no token ends the text


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model(threads=2)


@pytest.fixture(scope="module", params=WRITERS)
def text_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model with a tokenizer; what it says is random, but it says it in text."""
    folder = WRITERS[request.param](tmp_path_factory.mktemp("tokenizer"))
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    decoder = make_decoder(vocab_size=tokenizer.vocab_size, max_position_embeddings=128)
    return make_model(decoder, threads=1, tokenizer=tokenizer)


def tokenizer_of(model: Model) -> Tokenizer:
    assert model.tokenizer is not None
    return model.tokenizer


def greedy_by_hand(model: Model, prompt: list[int], n: int) -> list[int]:
    """One token at a time, each from a fresh evaluation of everything before it."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(model.logits(ids)[-1].argmax()))
    return ids[len(prompt) :]


def test_greedy_is_the_argmax_each_time(model: Model) -> None:
    for prompt in PROMPTS[:4]:
        (result,) = model.generate_results(prompt, max_new_tokens=10, **NEVER)
        assert result.token_ids == greedy_by_hand(model, prompt, 10)
        assert result.finish_reason == "length"
        logits = model.logits(prompt + result.token_ids)[len(prompt) - 1 : -1]
        expected = _core.log_softmax_at(logits, np.int32(result.token_ids))
        np.testing.assert_array_equal(np.float32(result.logprobs), expected)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.9, "seed": 4, "repetition_penalty": 1.3}]
)
def test_a_batch_gives_what_one_by_one_gives(model: Model, options: dict[str, Any]) -> None:
    together = model.generate_results(PROMPTS, max_new_tokens=12, **options)
    for i, prompt in enumerate(PROMPTS):
        alone = dict(options)
        if "seed" in options:
            alone["seed"] += i  # sequence i of a call draws with seed + i
        assert model.generate_results(prompt, max_new_tokens=12, **alone) == [together[i]]


def test_more_prompts_than_places(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = model.generate_results(PROMPTS, max_new_tokens=6)
    monkeypatch.setattr(generation, "MAX_BATCH", 2)
    assert model.generate_results(PROMPTS, max_new_tokens=6) == expected


@pytest.mark.parametrize("slice_tokens", [1, 7, 64])
def test_prompts_are_read_in_slices(
    model: Model, monkeypatch: pytest.MonkeyPatch, slice_tokens: int
) -> None:
    expected = model.generate_results(PROMPTS, max_new_tokens=4)
    monkeypatch.setattr(generation, "PREFILL_TOKENS", slice_tokens)
    steps: list[tuple[int, int]] = []
    chunks = model.stream(PROMPTS, max_new_tokens=4, on_prefill=lambda *step: steps.append(step))
    assert generation.collect_results(chunks, len(PROMPTS)) == expected
    total = sum(map(len, PROMPTS))
    assert [done for done, _ in steps] == [
        min(n, total) for n in range(slice_tokens, total + slice_tokens, slice_tokens)
    ]
    assert {of for _, of in steps} == {total}


def test_finished_sequences_leave_the_batch(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [PROMPTS[0], PROMPTS[6]]  # 1 and 50 tokens; the context ends at 64
    sizes = []
    forward_batch = _core.forward_batch

    def spy(sessions: list[Any], ids: list[Any], *logits: str) -> Any:
        sizes.append(len(sessions))
        return forward_batch(sessions, ids, *logits)

    monkeypatch.setattr(generation._core, "forward_batch", spy)
    results = model.generate_results(prompts, max_new_tokens=20, **NEVER)
    assert [len(result.token_ids) for result in results] == [20, 14]
    assert sizes == [2] * 14 + [1] * 6  # prefill and 13 steps together, then one alone


def test_several_outputs_read_their_prompt_once(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_read = []
    forward_batch = _core.forward_batch

    def spy(sessions: list[Any], ids: list[Any], *logits: str) -> Any:
        n_read.append(sum(map(len, ids)))
        return forward_batch(sessions, ids, *logits)

    monkeypatch.setattr(generation._core, "forward_batch", spy)
    options = {"num_return_sequences": 3, "temperature": 1.5, "max_new_tokens": 3, **NEVER}
    model.generate_results(PROMPTS[:4], **options)
    assert n_read == [sum(map(len, PROMPTS[:4])), 12, 12]


@pytest.mark.parametrize("n_places", [1, 2, 4, 5])
def test_more_outputs_than_places(
    model: Model, monkeypatch: pytest.MonkeyPatch, n_places: int
) -> None:
    options = {"num_return_sequences": 3, "temperature": 1.5, "seed": 9, "max_new_tokens": 6}
    expected = model.generate_results(PROMPTS[:4], **options)
    sizes: list[int] = []
    n_read: list[int] = []
    forward_batch = _core.forward_batch

    def spy(sessions: list[Any], ids: list[Any], *logits: str) -> Any:
        sizes.append(len(sessions))
        n_read.extend(len(part) for part in ids if len(part) > 1)
        return forward_batch(sessions, ids, *logits)

    monkeypatch.setattr(generation._core, "forward_batch", spy)
    monkeypatch.setattr(generation, "MAX_BATCH", n_places)
    assert model.generate_results(PROMPTS[:4], **options) == expected
    assert max(sizes) <= n_places
    assert sorted(n_read) == sorted(len(prompt) for prompt in PROMPTS[:4] if len(prompt) > 1)


def test_several_outputs_of_one_prompt(model: Model) -> None:
    options = {"num_return_sequences": 3, "temperature": 1.5, "seed": 9, "max_new_tokens": 8}
    results = model.generate_results(PROMPTS[:2], **options)
    assert len(results) == 6
    tokens = [tuple(result.token_ids) for result in results]
    assert len(set(tokens)) == 6
    for i, prompt in enumerate(p for p in PROMPTS[:2] for _ in range(3)):
        alone = {"temperature": 1.5, "seed": 9 + i, "max_new_tokens": 8}
        assert model.generate_results(prompt, **alone) == [results[i]]


def test_seeds(model: Model) -> None:
    def draw(**options: Any) -> list[int]:
        return model.generate_results(PROMPTS[2], temperature=2.0, **options)[0].token_ids

    assert draw(seed=1) == draw(seed=1)
    assert draw(seed=1) != draw(seed=2)
    assert draw() != draw()


def test_every_eos_id_ends_the_text(model: Model) -> None:
    free = model.generate_results(PROMPTS[2], max_new_tokens=12, **NEVER)[0].token_ids
    first_of = {token: free.index(token) for token in free}
    late, early = sorted(first_of, key=lambda token: -first_of[token])[:2]
    for eos, n in [(late, first_of[late]), ([late, early], first_of[early])]:
        (result,) = model.generate_results(PROMPTS[2], max_new_tokens=12, eos_token_id=eos)
        assert result.token_ids == free[: n + 1]
        assert result.finish_reason == "stop"


def test_the_context_is_the_end(model: Model) -> None:
    (result,) = model.generate_results(PROMPTS[6], max_new_tokens=1000, **NEVER)
    assert (len(result.token_ids), result.finish_reason) == (64 - 50, "length")
    with pytest.raises(ValueError, match=r"prompt of 1 to 63 tokens .*, got 64"):
        model.stream([5] * 64)  # before the first chunk is asked for
    assert len(model.generate_results([5] * 63, max_new_tokens=9, **NEVER)[0].token_ids) == 1


def test_chunks_tell_where_they_belong(model: Model) -> None:
    chunks = list(model.stream(PROMPTS[:3], max_new_tokens=3, **NEVER))
    assert [chunk.index for chunk in chunks] == [0, 1, 2] * 3
    assert [chunk.finish_reason for chunk in chunks] == [None] * 6 + ["length"] * 3
    assert {chunk.text for chunk in chunks} == {""}  # no tokenizer, no text


# ---- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", "the cat", "the cat ", "caf\u00e9 \U0001f600"])
@pytest.mark.parametrize("seed", range(3))
def test_prompt_and_output_are_one_text(text_model: Model, prompt: str, seed: int) -> None:
    tokenizer = tokenizer_of(text_model)
    options = {"max_new_tokens": 40, "temperature": 1.0, "seed": seed}
    (result,) = text_model.generate_results(prompt, **options)
    ids = tokenizer.encode(prompt)
    kept = [i for i in result.token_ids if "<0x" not in (tokenizer.id_to_token(i) or "")]
    if kept == result.token_ids:  # decoders differ in broken runs of byte tokens
        assert tokenizer.decode(ids) + result.text == tokenizer.decode(ids + result.token_ids)
    assert result.text == text_model.generate(prompt, **options)
    assert result.text == "".join(chunk.text for chunk in text_model.stream(prompt, **options))


def test_stop_strings_end_the_text(text_model: Model) -> None:
    free = text_model.generate("the cat", max_new_tokens=60, temperature=1.0, seed=3)
    assert isinstance(free, str)
    for begin in (3, len(free) // 2):
        stop = free[begin : begin + 4]
        for stops in (stop, [stop, "no such text"]):
            options = {"max_new_tokens": 60, "temperature": 1.0, "seed": 3, "stop_strings": stops}
            (result,) = text_model.generate_results("the cat", **options)
            assert result.text == free[: free.index(stop)]
            assert result.finish_reason == "stop"


def test_what_generate_returns(text_model: Model) -> None:
    one = bitnet_py.generate(text_model, "the cat", max_new_tokens=5)
    assert isinstance(one, str)
    assert bitnet_py.generate(text_model, ["the cat"], max_new_tokens=5) == [one]
    assert bitnet_py.generate(text_model, ["the cat", "and"], max_tokens=5)[0] == one
    ids = tokenizer_of(text_model).encode("the cat")
    assert text_model.generate(ids, max_new_tokens=5) == one
    assert text_model.generate(np.array(ids), max_new_tokens=5) == one
    assert text_model.generate(np.array([ids, ids]), max_new_tokens=5) == [one, one]
    assert text_model.generate([ids, "the cat"], max_new_tokens=5) == [one, one]
    several = text_model.generate("the", temperature=1, num_return_sequences=2, max_new_tokens=5)
    assert isinstance(several, list)
    assert len(several) == 2


def test_an_empty_text_is_a_lone_bos(tmp_path: Path) -> None:
    """Also where the tokenizer adds none by itself; without BOS there is nothing to begin with."""
    folder = WRITERS["byte_level"](tmp_path)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    assert tokenizer.encode("") == []
    decoder = make_decoder(vocab_size=tokenizer.vocab_size)
    model = make_model(decoder, tokenizer=tokenizer, threads=1)
    assert model.encode_prompts(["", "the"]) == [[1], tokenizer.encode("the")]
    tokenizer.special_tokens.clear()
    with pytest.raises(ValueError, match=r"prompt of 1 to 63 tokens .*, got 0"):
        model.generate("")


def test_defaults_come_from_the_model(text_model: Model) -> None:
    tokenizer = tokenizer_of(text_model)
    assert text_model.generation_config.eos_token_ids == (tokenizer.eos_token_id,)
    config = GenerationConfig(max_new_tokens=3, eos_token_id=0)
    decoder = make_decoder(vocab_size=tokenizer.vocab_size)
    other = make_model(decoder, tokenizer=tokenizer, generation_config=config, threads=1)
    assert other.generation_config.eos_token_ids == (0,)
    assert len(other.generate_results("the cat", eos_token_id=())[0].token_ids) == 3


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("text", {}, "this model has no tokenizer: give token ids"),
        (["text"], {}, "this model has no tokenizer"),
        ([], {}, "prompt of 1 to 63 tokens .*, got 0"),
        ([[]], {}, "prompt of 1 to 63 tokens .*, got 0"),
        ([[1], []], {}, "prompt of 1 to 63 tokens .*, got 0"),
        ([1, 96], {}, r"token ids in \[0, 96\), got 96"),
        ([-1], {}, r"token ids in \[0, 96\), got -1"),
        ([2**40], {}, r"token ids in \[0, 96\), got 1099511627776"),
        ([0.5], {}, r"a sequence of token ids, got float64"),
        ([2**70], {}, r"a sequence of token ids, got object"),
        (5, {}, "expected a text, token ids, or several of them, got int"),
        (None, {}, "expected a text, token ids, or several of them, got NoneType"),
        ({1, 2}, {}, "expected a text, token ids, or several of them, got set"),
        (b"text", {}, "expected a text, token ids, or several of them, got bytes"),
        (np.int64(3), {}, "expected a text, token ids, or several of them, got int64"),
        ([[1], 5], {}, "expected a sequence of token ids, got int"),
        ([5] * 64, {}, "shorten it, or take a model with a larger context"),
        (np.zeros((1, 2, 2), int), {}, r"a sequence of token ids, got int64 \[2, 2\]"),
        ([1], {"stop_strings": "x"}, "stop strings need a tokenizer"),
        ([1], {"temperature": -1}, "expected temperature"),
        ([1], {"length": 3}, "unknown option 'length'"),
    ],
    ids=str,
)
def test_wrong_prompts_and_options(
    model: Model, prompt: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.stream(prompt, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cuda"}, "expected device auto or cpu, got 'cuda': this build has no CUDA"),
        ({"threads": 0}, "expected threads to be a whole number of at least 1, got 0"),
        ({"threads": "2"}, "expected threads to be a whole number of at least 1, got '2'"),
        ({"isa": "avx1024"}, "expected isa to be one of .*generic.*, got 'avx1024'"),
        ({"kv_dtype": "f8"}, "expected kv_dtype to be one of auto, f32, f16, int8, got 'f8'"),
    ],
)
def test_wrong_arguments_of_load(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    folder = write_folder(tmp_path, make_decoder(), make_tensors(make_decoder()))
    with pytest.raises(ValueError, match=message) as caught:
        bitnet_py.load(folder, **arguments)
    assert not isinstance(caught.value, FormatError)


def test_arguments_of_other_types(text_model: Model) -> None:
    with pytest.raises(ValueError, match=r"\[load\] expected a folder, .*, got NoneType"):
        bitnet_py.load(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[evaluate\] expected a text, got int"):
        text_model.perplexity(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[evaluate\] expected a context in .*, got '5'"):
        text_model.perplexity("the cat", context="5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[session\] expected max_seq_len in .*, got 2.5"):
        text_model.session(2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["the \ud800 cat", "\udcff"])
def test_half_a_surrogate_pair(text_model: Model, text: str) -> None:
    """What Python makes of bytes of a command line that are not UTF-8."""
    with pytest.raises(ValueError, match=r"\[tokenizer\] .* got '\\ud.* at character [04] "):
        text_model.generate(text)
    with pytest.raises(ValueError, match=r"\[tokenizer\] expected a text of Unicode"):
        text_model.perplexity(text)


def test_kv_dtype_follows_the_weights() -> None:
    assert make_model(linear="f32", threads=1).kv_dtype == "f32"
    assert make_model(linear="bf16", threads=1).kv_dtype == "f16"
    assert make_model(linear="f32", kv_dtype="f16", threads=1).kv_dtype == "f16"


def test_logits(model: Model) -> None:
    logits = model.logits(PROMPTS[3])
    assert (logits.shape, logits.dtype) == ((30, 96), np.float32)
    np.testing.assert_array_equal(logits[:7], model.logits(PROMPTS[3][:7]))
    for wrong in ([], [1] * 65):
        with pytest.raises(ValueError, match=rf"expected 1 to 64 tokens, got {len(wrong)}"):
            model.logits(wrong)


def test_sessions(model: Model) -> None:
    assert model.session().max_seq_len == 64
    for wrong in (0, 65):
        with pytest.raises(ValueError, match=r"expected max_seq_len in \[1, 64\]"):
            model.session(wrong)


# ---- a real model --------------------------------------------------------------------------------


@pytest.mark.skipif(not os.environ.get("BITNET_TEST_DATA"), reason="BITNET_TEST_DATA is not set")
def test_golden_text_of_a_real_model(tmp_path: Path) -> None:
    """What llama2.c's run prints for stories260K from BOS, temperature 0, 200 steps."""
    source = Path(os.environ["BITNET_TEST_DATA"]) / "models/stories260K"
    bitnet_py.convert.convert(source, tmp_path / "packed", method="f32")
    model = bitnet_py.load(tmp_path / "packed")
    golden = (source / "golden_greedy_200.txt").read_text("utf-8")
    assert golden.strip() == str(model.generate("", max_new_tokens=200)).strip()
