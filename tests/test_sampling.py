"""Options of generation, and the C++ sampler against numpy and transformers' processors."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet_py import _core
from bitnet_py.errors import FormatError
from bitnet_py.sampling import GenerationConfig

VOCAB = 50


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [VOCAB] and a context int32 that repeats itself."""
    rng = np.random.default_rng(seed)
    logits = (3 * rng.standard_normal(VOCAB)).astype(np.float32)
    return logits, rng.integers(0, 12, 40).astype(np.int32)


def expected_probabilities(
    logits: np.ndarray,
    context: np.ndarray,
    *,
    do_sample: bool = True,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
) -> np.ndarray:
    """What the options mean, in float64 and in the order of Hugging Face's processors."""
    scores = logits.astype(np.float64)
    seen = np.unique(context)
    scores[seen] = np.where(
        scores[seen] < 0, scores[seen] * repetition_penalty, scores[seen] / repetition_penalty
    )
    n = no_repeat_ngram_size
    if n:
        grams = [tuple(context[i : i + n]) for i in range(len(context) - n + 1)]
        tail = tuple(context[len(context) - n + 1 :])
        scores[[gram[-1] for gram in grams if gram[:-1] == tail]] = -np.inf
    if not do_sample:
        return np.eye(len(scores))[scores.argmax()]
    scores /= temperature
    if top_k:
        scores[scores < np.sort(scores)[-min(top_k, len(scores))]] = -np.inf
    if top_p < 1:
        order = np.argsort(scores, kind="stable")
        mass = np.cumsum(softmax(scores)[order])
        dropped = order[:-1][mass[:-1] <= 1 - top_p]
        scores[dropped] = -np.inf
    p = softmax(scores)
    if min_p:
        scores[p < min_p * p.max()] = -np.inf
    return softmax(scores)


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max())
    return e / e.sum()


OPTIONS = [
    {},
    {"do_sample": False},
    {"do_sample": False, "repetition_penalty": 3.0, "no_repeat_ngram_size": 1},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 500},
    {"top_p": 0.01},
    {"top_p": 0.6},
    {"top_p": 0.999},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.5},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"no_repeat_ngram_size": 60},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2},
    {"temperature": 1.5, "top_k": 5, "top_p": 0.5, "no_repeat_ngram_size": 2},
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_probabilities_equal_the_oracle(options: dict[str, Any], seed: int) -> None:
    logits, context = random_case(seed)
    options = {"do_sample": True, **options}
    p = _core.Sampler(**options).probabilities(logits, context)
    expected = expected_probabilities(logits, context, **options)
    assert ((p > 0) == (expected > 0)).all()
    np.testing.assert_allclose(p, expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_probabilities_equal_transformers(options: dict[str, Any], seed: int) -> None:
    torch = pytest.importorskip("torch")
    t = pytest.importorskip("transformers.generation.logits_process")
    logits, context = random_case(seed)
    makers = {
        "repetition_penalty": t.RepetitionPenaltyLogitsProcessor,
        "no_repeat_ngram_size": t.NoRepeatNGramLogitsProcessor,
        "temperature": t.TemperatureLogitsWarper,
        "top_k": t.TopKLogitsWarper,
        "top_p": t.TopPLogitsWarper,
        "min_p": t.MinPLogitsWarper,
    }
    scores = torch.from_numpy(logits.copy())[None]
    ids = torch.from_numpy(context.astype(np.int64))[None]
    for name, maker in makers.items():
        if name in options:
            scores = maker(options[name])(ids, scores)
    do_sample = options.get("do_sample", True)
    p = _core.Sampler(**{"do_sample": True, **options}).probabilities(logits, context)
    if not do_sample:
        assert p.argmax() == int(scores.argmax())
        return
    expected = torch.softmax(scores, -1)[0].numpy()
    assert ((p > 0) == (expected > 0)).all()
    np.testing.assert_allclose(p, expected, rtol=1e-4)


LARGE_OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 3.0},
    {"top_k": 50},
    {"top_k": 3000},
    {"top_p": 0.9},
    {"top_p": 0.95, "top_k": 40},
    {"min_p": 0.01, "temperature": 2.0},
    {"top_p": 0.99, "min_p": 0.001, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
]


def large_case(spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits over a vocabulary that is no multiple of a block, with ties and -inf among them."""
    rng = np.random.default_rng(3)
    logits = (spread * rng.standard_normal(20_011)).astype(np.float32)
    logits[::7] = logits[0]
    logits[5::1001] = -np.inf
    return logits, rng.integers(0, 40, 100).astype(np.int32)


@pytest.mark.parametrize("spread", [0.01, 1.0, 8.0])
@pytest.mark.parametrize("options", LARGE_OPTIONS, ids=str)
def test_large_vocabularies(options: dict[str, Any], spread: float) -> None:
    logits, context = large_case(spread)
    p = _core.Sampler(do_sample=True, **options).probabilities(logits, context)
    expected = expected_probabilities(logits, context, **options)
    differs = (p > 0) != (expected > 1e-45)
    # Where a sum of 20,011 float32 exponentials reaches top_p, the last bits decide.
    assert differs.sum() <= (4 if "top_p" in options else 0)
    np.testing.assert_allclose(p[~differs], expected[~differs], rtol=2e-4, atol=1e-44)


@pytest.mark.parametrize("spread", [0.01, 1.0, 8.0])
@pytest.mark.parametrize("options", LARGE_OPTIONS, ids=str)
def test_a_draw_inverts_the_distribution(options: dict[str, Any], spread: float) -> None:
    """The token where the sum, most probable first, passes the uniform number of SplitMix64."""
    logits, context = large_case(spread)
    seed, mask = 12345, (1 << 64) - 1
    sampler = _core.Sampler(do_sample=True, seed=seed, **options)
    p = sampler.probabilities(logits, context).astype(np.float64)
    scores = np.where(p > 0, -p, np.inf)
    order = np.lexsort((np.arange(len(p)), scores))
    sums = np.cumsum(p[order])
    for _ in range(40):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        u = ((z ^ (z >> 31)) >> 11) * 2.0**-53
        rank = int(np.searchsorted(sums, u, side="right"))
        near = order[max(rank - 2, 0) : rank + 3]  # rounding of sums
        assert sampler.sample(logits, context)[0] in near


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 63, 20_010])
def test_broken_logits_are_refused(wrong: float, at: int) -> None:
    logits, context = large_case(1.0)
    logits[at] = wrong
    for do_sample in (False, True):
        with pytest.raises(ValueError, match="the weights are broken"):
            _core.Sampler(do_sample=do_sample).sample(logits, context)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 20_011])
def test_greedy_and_logprob_at_every_size(size: int) -> None:
    logits = large_case(4.0)[0][:size].copy()
    logits[0] = 1.0
    token_id, logprob = _core.Sampler().sample(logits, np.int32([]))
    assert token_id == logits.argmax()
    expected = np.log(softmax(logits.astype(np.float64))[token_id])
    # Terms of the sum are within 3 ulp, and the result is a float32.
    eps = float(np.finfo(np.float32).eps)
    assert logprob == pytest.approx(expected, abs=3 * eps, rel=eps)


@pytest.mark.parametrize("temperature", [1e-45, 2e-39, 1e-20])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"min_p": 0.1}, {"top_k": 2}], ids=str)
def test_a_temperature_next_to_zero_takes_the_best(
    temperature: float, options: dict[str, Any]
) -> None:
    logits = np.float32([1, 3, 2.5, 3])
    sampler = _core.Sampler(do_sample=True, temperature=temperature, **options)
    np.testing.assert_array_equal(sampler.probabilities(logits, np.int32([])), [0, 0.5, 0, 0.5])


def test_tokens_that_tie_with_the_kth_are_kept() -> None:
    logits = np.float32([2, 1, 1, 1, 0])
    p = _core.Sampler(do_sample=True, top_k=2).probabilities(logits, np.int32([]))
    np.testing.assert_array_equal(p > 0, [True, True, True, True, False])


def test_greedy_takes_the_first_of_equals() -> None:
    assert _core.Sampler().sample(np.float32([0, 5, 5]), np.int32([]))[0] == 1


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "temperature": 0.5, "top_k": 3}])
def test_logprob_is_of_the_raw_logits(options: dict[str, Any]) -> None:
    logits, context = random_case(0)
    token_id, logprob = _core.Sampler(repetition_penalty=2.0, **options).sample(logits, context)
    assert logprob == pytest.approx(np.log(softmax(logits.astype(np.float64)))[token_id], rel=1e-5)


def test_draws_follow_the_distribution() -> None:
    """Chi-squared over 20,000 draws; the bound is its 99.9th percentile for 8 degrees."""
    logits, context = np.float32([0, 1, 2, 0.5, -1, 1.5, 0.2, -0.3, 0.9]), np.int32([])
    sampler = _core.Sampler(do_sample=True, seed=7)
    counts = np.zeros(9)
    for _ in range(20_000):
        counts[sampler.sample(logits, context)[0]] += 1
    expected = 20_000 * softmax(logits.astype(np.float64))
    assert ((counts - expected) ** 2 / expected).sum() < 26.12


def test_seeds() -> None:
    logits, context = random_case(1)

    def draws(seed: int) -> list[int]:
        sampler = _core.Sampler(do_sample=True, seed=seed)
        return [sampler.sample(logits, context)[0] for _ in range(50)]

    assert draws(3) == draws(3)
    for a, b in itertools.combinations((0, 1, 2, 2**64 - 1), 2):
        assert draws(a) != draws(b)


# ---- GenerationConfig ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "do_sample"),
    [
        ({}, False),
        ({"max_new_tokens": 5, "seed": 1, "repetition_penalty": 1.1}, False),
        ({"temperature": 0.5}, True),
        ({"top_k": 5}, True),
        ({"top_p": 0.5}, True),
        ({"min_p": 0.5}, True),
        ({"temperature": 0.5, "do_sample": False}, False),
        ({"temperature": 0}, False),
        ({"temperature": 0.0, "do_sample": True, "top_k": 3}, False),
        ({"do_sample": True}, True),
        ({"temperature": None, "top_k": None}, False),
    ],
    ids=str,
)
def test_what_turns_sampling_on(options: dict[str, Any], do_sample: bool) -> None:
    assert GenerationConfig().with_options(options).do_sample is do_sample


def test_defaults_of_a_model_and_options_on_top(tmp_path: Path) -> None:
    written = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
        "eos_token_id": [3, 4],
        "bos_token_id": None,
        "transformers_version": "4.57.0",
        "cache_implementation": "static",
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(written))
    (tmp_path / "config.json").write_text('{"eos_token_id": 9, "bos_token_id": 1}')
    config = GenerationConfig.from_folder(tmp_path)
    assert (config.do_sample, config.temperature, config.top_p) == (True, 0.6, 0.9)
    assert (config.eos_token_ids, config.bos_token_id) == ((3, 4), 1)
    greedy = config.with_options({"do_sample": False, "eos_token_id": 7, "stop": "x"})
    assert (greedy.do_sample, greedy.eos_token_ids) == (False, (7,))
    assert greedy.stop_strings == ("x",)
    assert GenerationConfig.from_folder(tmp_path / "absent") == GenerationConfig()


def test_aliases() -> None:
    config = GenerationConfig().with_options({"max_tokens": 5, "stop": ["a", "b"]})
    assert (config.max_new_tokens, config.stop_strings) == (5, ("a", "b"))
    with pytest.raises(ValueError, match="max_tokens and max_new_tokens are the same option"):
        GenerationConfig().with_options({"max_new_tokens": 5, "max_tokens": 6})
    with pytest.raises(ValueError, match=r"unknown option 'max_length'; known are max_new_tokens"):
        GenerationConfig().with_options({"max_length": 5})


@pytest.mark.parametrize(
    ("name", "wrong", "expected"),
    [
        ("max_new_tokens", 0, "a whole number of at least 1"),
        ("max_new_tokens", 2.5, "a whole number of at least 1"),
        ("max_new_tokens", True, "a whole number of at least 1"),
        ("num_return_sequences", 0, "a whole number of at least 1"),
        ("do_sample", 1, "True or False"),
        ("temperature", -0.1, "a number of at least 0"),
        ("temperature", float("nan"), "a number of at least 0"),
        ("temperature", "hot", "a number of at least 0"),
        ("temperature", 10**400, "a number of at least 0"),
        ("top_k", -1, "a whole number of at least 0"),
        ("top_p", 0, r"a number in \(0, 1\]"),
        ("top_p", 1.1, r"a number in \(0, 1\]"),
        ("min_p", -0.1, r"a number in \[0, 1\]"),
        ("min_p", float("inf"), r"a number in \[0, 1\]"),
        ("repetition_penalty", 0, "a number above 0"),
        ("no_repeat_ngram_size", -1, "a whole number of at least 0"),
        ("eos_token_id", -1, "a token id or several"),
        ("eos_token_id", "</s>", "a token id or several"),
        ("eos_token_id", [1, None], "a token id or several"),
        ("bos_token_id", -1, "a whole number of at least 0"),
        ("stop_strings", "", "strings, none of them empty"),
        ("stop_strings", ["a", ""], "strings, none of them empty"),
        ("stop_strings", [1], "strings, none of them empty"),
        ("stop_strings", 5, "strings, none of them empty"),
        ("seed", -1, "a whole number of at least 0"),
        ("seed", 2**64, "a whole number of at least 0 and at most 18446744073709551615"),
        *(
            (name, 2**70, "a whole number of at least . and at most 2147483647")
            for name in ("max_new_tokens", "top_k", "no_repeat_ngram_size", "pad_token_id")
        ),
        ("num_return_sequences", 1025, "a whole number of at least 1 and at most 1024"),
        ("eos_token_id", [2**70], "a token id or several"),
    ],
)
def test_options_out_of_range(name: str, wrong: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"\[generate\] expected {name} to be {expected}.*, got"):
        GenerationConfig(**{name: wrong})


def test_several_greedy_outputs_make_no_sense() -> None:
    with pytest.raises(ValueError, match="greedy outputs would all be equal"):
        GenerationConfig(num_return_sequences=2)
    GenerationConfig(num_return_sequences=2, do_sample=True)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"top_p": 7}')
    with pytest.raises(FormatError, match=r"generation_config\.json: .*expected top_p to be"):
        GenerationConfig.from_folder(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"top_k": 99999999999999999999}')
    with pytest.raises(FormatError, match=r"generation_config\.json: .*expected top_k to be"):
        GenerationConfig.from_folder(tmp_path)
    (tmp_path / "generation_config.json").write_text(" " * (1 << 24) + "{}")
    with pytest.raises(FormatError, match="a JSON file here has at most 16777216"):
        GenerationConfig.from_folder(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"stop_strings": "\\ud800"}')
    with pytest.raises(FormatError, match="half of a surrogate pair"):
        GenerationConfig.from_folder(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"stop_strings": "\\ud83d\\ude00"}')
    assert GenerationConfig.from_folder(tmp_path).stop_strings == ("\U0001f600",)


def test_numpy_numbers_are_numbers() -> None:
    config = GenerationConfig(max_new_tokens=np.int64(3), top_p=np.float32(0.5), do_sample=True)
    assert config.sampler(0, 1).probabilities(np.float32([1, 2]), np.int32([])).sum() == 1
