"""Guessed tokens (prompt lookup) change the number of passes, and nothing else."""

from typing import Any

import numpy as np
import pytest
from tiny_model import make_decoder, make_model

from bitnet_py import _core, generation
from bitnet_py.generation import look_up
from bitnet_py.model import Model

RNG = np.random.default_rng(6)
REPEATED = RNG.integers(3, 96, 5).tolist() * 4
PROMPTS = [REPEATED, REPEATED[:7], [9], RNG.integers(3, 96, 20).tolist(), [7] * 10]
NEVER = {"eos_token_id": ()}  # no token ends the text
OPTIONS: list[dict[str, Any]] = [
    {},
    {"eos_token_id": list(range(3, 40, 3))},
    {"temperature": 0.3, "seed": 1},
    {"temperature": 0.3, "seed": 2, "top_k": 4, "num_return_sequences": 3},
    {"repetition_penalty": 1.2},
    {"no_repeat_ngram_size": 3},
]


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model(make_decoder(max_position_embeddings=96), threads=2)


@pytest.mark.parametrize(("n", "ngram_size"), [(1, 1), (2, 2), (10, 2), (10, 3), (256, 1)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_output_is_the_same(model: Model, options: dict[str, Any], n: int, ngram_size: int) -> None:
    expected = model.generate_results(PROMPTS, max_new_tokens=60, **options)
    lookup = {"prompt_lookup_num_tokens": n, "max_matching_ngram_size": ngram_size}
    assert model.generate_results(PROMPTS, max_new_tokens=60, **options, **lookup) == expected


def test_right_guesses_save_passes(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model that talks greedily soon repeats itself."""
    n_passes = 0
    forward_batch = _core.forward_batch

    def spy(*args: Any) -> Any:
        nonlocal n_passes
        n_passes += 1
        return forward_batch(*args)

    monkeypatch.setattr(generation._core, "forward_batch", spy)
    passes = []
    for options in ({}, {"prompt_lookup_num_tokens": 8}):
        n_passes = 0
        model.generate_results([7] * 10, max_new_tokens=60, **NEVER, **options)
        passes.append(n_passes)
    assert passes[0] == 60
    assert passes[1] <= 45


def test_a_session_goes_on_after_guesses(model: Model) -> None:
    """What a session holds after guessed tokens were refused is what it would hold anyway."""
    session = _core.Session(model.core, 96, model.kv_dtype)
    config = model.generation_config.with_options(
        {"max_new_tokens": 30, "prompt_lookup_num_tokens": 5, **NEVER}
    )
    chunks = generation.generate_chunks([REPEATED], config, None, lambda *_: session, 96)
    ids = REPEATED + [chunk.token_id for chunk in chunks]
    assert session.length == len(ids) - 1
    fresh = _core.Session(model.core, 96, model.kv_dtype)
    np.testing.assert_array_equal(session.forward(ids[-1:]), fresh.forward(ids))
    for ours, theirs in zip(session.export_kv(), fresh.export_kv(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("ids", "ngram_size", "n_most", "expected"),
    [
        ([], 2, 3, []),
        ([1], 2, 3, []),
        ([1, 2, 3], 2, 3, []),
        ([1, 2, 3, 1], 2, 2, [2, 3]),  # the bigram is new, the last token is not
        ([1, 2, 3, 1], 2, 9, [2, 3, 1]),
        ([5, 1, 2, 3, 4, 9, 1, 2, 7, 8, 6, 1, 2], 2, 3, [7, 8, 6]),  # the latest occurrence
        ([5, 1, 2, 3, 4, 9, 1, 2, 7, 1, 2], 2, 4, [3, 4, 9, 1]),  # that enough tokens follow
        ([4, 1, 2, 8, 5, 1, 2, 9, 4, 1, 2], 3, 1, [8]),  # the longest n-gram
        ([3, 3, 3, 3], 2, 5, [3, 3]),
    ],
)
def test_look_up(ids: list[int], ngram_size: int, n_most: int, expected: list[int]) -> None:
    assert look_up(np.int32(ids), ngram_size, n_most).tolist() == expected
