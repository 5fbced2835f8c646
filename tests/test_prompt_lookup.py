"""Guessed tokens (prompt lookup) change the number of passes, and nothing else."""

from typing import Any

import numpy as np
import pytest
from tiny_model import make_decoder, make_model

import bitnet_py
from bitnet_py import _core, generation
from bitnet_py.convert import convert
from bitnet_py.generation import SequenceState, look_up
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


def test_a_pass_has_so_many_guesses_at_most(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has logits over the vocabulary: 32 sequences of 256 guesses would take gigabytes."""
    prompts = [[7 + i] * 10 for i in range(32)]
    options: dict[str, Any] = {"max_new_tokens": 60, **NEVER}
    expected = model.generate_results(prompts, **options)
    most = 0
    forward_batch = _core.forward_batch

    def spy(sessions: Any, ids: Any, *logits: str) -> Any:
        nonlocal most
        most = max(most, sum(map(len, ids)) if logits else 0)
        return forward_batch(sessions, ids, *logits)

    monkeypatch.setattr(generation._core, "forward_batch", spy)
    monkeypatch.setattr(generation, "STEP_TOKENS", 100)
    assert model.generate_results(prompts, **options, prompt_lookup_num_tokens=30) == expected
    assert 32 < most <= 100


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


@pytest.fixture(scope="module")
def teller(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that tells tales, in which names and phrases come again."""
    folder = tmp_path_factory.mktemp("demo") / "packed"
    convert(bitnet_py.DEMO_CHECKPOINT, folder)
    return bitnet_py.load(folder, threads=1)


TALE = "Wren met a mole. Wren met a mole. Wren met a"
GREEDY = {"do_sample": False, "max_new_tokens": 80}


def test_an_end_among_right_guesses(teller: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the guesses behind a stop string or an end of text nothing is shown."""
    n_inside = 0
    pick_all = SequenceState.pick_all

    def spy(state: SequenceState, rows: np.ndarray) -> Any:
        nonlocal n_inside
        chunks = pick_all(state, rows)
        n_inside += 1 < len(chunks) < len(rows) and state.finish_reason == "stop"
        return chunks

    monkeypatch.setattr(SequenceState, "pick_all", spy)
    free = list(teller.stream(TALE, **GREEDY))
    ends: list[dict[str, Any]] = [{"stop_strings": [chunk.text]} for chunk in free if chunk.text]
    ends += [{"eos_token_id": chunk.token_id} for chunk in free]
    for end in ends:
        expected = list(teller.stream(TALE, **GREEDY, **end))
        assert list(teller.stream(TALE, **GREEDY, **end, prompt_lookup_num_tokens=6)) == expected
    assert n_inside > 0


@pytest.mark.parametrize("n_read", [2, 5, 9])
def test_an_answer_that_is_left_leaves_a_right_cache(teller: Model, n_read: int) -> None:
    """Several chunks are ready at once where guesses were right; some of them are never read."""
    chat = teller.chat()
    for _ in range(3):
        answer = chat.stream(TALE, **GREEDY, prompt_lookup_num_tokens=6)
        assert [next(answer) for _ in range(n_read)]
        answer.close()  # type: ignore[attr-defined]
        fresh = teller.session()
        fresh.forward(chat._cached_ids)
        for ours, theirs in zip(chat._session.export_kv(), fresh.export_kv(), strict=True):
            np.testing.assert_array_equal(ours[:, :, : fresh.length], theirs)


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
