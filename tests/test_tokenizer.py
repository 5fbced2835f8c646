"""Tokenizers against transformers and sentencepiece, and text that comes token by token."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_tokenizer import NASTY_TEXTS, SPECIAL_TOKENS, WRITERS, write_config

from bitnet_py.errors import FormatError
from bitnet_py.text_stream import TextStream
from bitnet_py.tokenizer import Tokenizer, load_tokenizer

DATA = Path(os.environ.get("BITNET_TEST_DATA", ""))
REAL = ("models/stories260K", "models/babyllama361", "models/bitllama1M", "tokenizers/llama2-32000")
needs_data = pytest.mark.skipif(
    not os.environ.get("BITNET_TEST_DATA"), reason="BITNET_TEST_DATA names no folder of checkpoints"
)
TEXTS_WITH_SPECIALS = (*NASTY_TEXTS, "a</s>b", "<s> begins", "x </s> y <unk>", "<s><s></s>")


@pytest.fixture(params=WRITERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return WRITERS[request.param](tmp_path / request.param)


def load(folder: Path) -> Tokenizer:
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    return tokenizer


def assert_same_as_transformers(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), load(folder)
    assert ours.bos_token_id == theirs.bos_token_id
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.special_ids >= set(theirs.all_special_ids)
    assert ours.vocab_size == len(theirs)
    for text in TEXTS_WITH_SPECIALS:
        for special in (True, False):
            ids = theirs(text, add_special_tokens=special)["input_ids"]
            assert ours.encode(text, add_special_tokens=special) == ids, text
            for skip in (True, False):
                assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
                    ids, skip_special_tokens=skip
                ), text


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_real_folders_equal_transformers(name: str) -> None:
    assert_same_as_transformers(DATA / name)


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"add_bos_token": False},
        {"add_bos_token": True, "add_eos_token": True},
        {"add_eos_token": True},
        {"add_bos_token": True, "bos_token": None},
        {"bos_token": {"content": "<s>", "__type": "AddedToken"}},
    ],
    ids=str,
)
def test_bos_and_eos_equal_transformers(tmp_path: Path, kind: str, fields: dict[str, bool]) -> None:
    folder = WRITERS[kind](tmp_path)
    write_config(folder, **fields)
    assert_same_as_transformers(folder)


@needs_data
def test_sentencepiece_equals_the_fast_form_of_the_same_model(tmp_path: Path) -> None:
    """tokenizer.json was built from the same table; transformers reads it."""
    transformers = pytest.importorskip("transformers")
    source = DATA / "tokenizers/llama2-32000"
    theirs = transformers.AutoTokenizer.from_pretrained(source)
    shutil.copy(source / "tokenizer.model", tmp_path)
    ours = load(tmp_path)
    for text in TEXTS_WITH_SPECIALS:
        ids = theirs(text)["input_ids"]
        if text == " ":  # the fast form makes no dummy prefix before a lone space
            continue
        assert ours.encode(text) == ids, text
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True), text


@pytest.mark.parametrize(
    ("fields", "first", "last"),
    [({}, [1], []), ({"add_bos_token": False}, [], []), ({"add_eos_token": True}, [1], [2])],
)
def test_sentencepiece_adds_bos_unless_told_otherwise(
    tmp_path: Path, fields: dict[str, bool], first: list[int], last: list[int]
) -> None:
    folder = WRITERS["sentencepiece"](tmp_path)
    write_config(folder, **fields)
    tokenizer = load(folder)
    inner = tokenizer.encode("the cat", add_special_tokens=False)
    assert tokenizer.encode("the cat") == first + inner + last
    assert not {1, 2} & set(inner)


def test_sentencepiece_added_tokens(tmp_path: Path) -> None:
    folder = WRITERS["sentencepiece"](tmp_path)
    write_config(folder, added_tokens_decoder={"340": {"content": "<|user|>"}})
    (folder / "added_tokens.json").write_text('{"<|end|>": 341, "<|user|>s": 342}')
    tokenizer = load(folder)
    ids = tokenizer.encode("<|user|>the<|end|>", add_special_tokens=False)
    assert (ids[0], ids[-1]) == (340, 341)
    assert tokenizer.vocab_size == 343
    assert tokenizer.encode("<|user|>s", add_special_tokens=False) == [342]  # the longest
    assert tokenizer.token_to_id("<|end|>") == 341
    assert tokenizer.id_to_token(340) == "<|user|>"
    assert tokenizer.decode(ids) == "the"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|user|>the<|end|>"


def test_special_tokens_from_each_place(tmp_path: Path) -> None:
    """tokenizer_config.json, then special_tokens_map.json, then the ids of config.json."""
    folder = WRITERS["byte_level"](tmp_path)
    (folder / "tokenizer_config.json").write_text('{"bos_token": null, "eos_token": "</s>"}')
    (folder / "config.json").write_text('{"bos_token_id": 1, "eos_token_id": [0, 2]}')
    assert load(folder).special_tokens == {"eos_token": "</s>"}  # null says: there is none
    (folder / "tokenizer_config.json").write_text("{}")
    assert load(folder).special_tokens == {"bos_token": "<s>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL_TOKENS))
    assert load(folder).special_tokens == SPECIAL_TOKENS


def test_truncation_and_padding_of_the_file_are_off(tmp_path: Path) -> None:
    """They are for training batches; transformers turns them off too."""
    folder = WRITERS["byte_level"](tmp_path)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["truncation"] = {
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    content["padding"] = {
        "strategy": {"Fixed": 30}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<unk>",
    }  # fmt: skip
    path.write_text(json.dumps(content))
    tokenizer = load(folder)
    assert tokenizer.decode(tokenizer.encode("the cat and the rain")) == "the cat and the rain"
    assert len(tokenizer.encode("the")) < 5


def test_unknown_ids_and_tokens(folder: Path) -> None:
    tokenizer = load(folder)
    assert tokenizer.token_to_id("no such token") is None
    assert tokenizer.id_to_token(tokenizer.vocab_size) is None
    ids = tokenizer.encode("the cat", add_special_tokens=False)
    assert tokenizer.decode([*ids, tokenizer.vocab_size + 5]) == "the cat"
    assert [tokenizer.token_to_id(tokenizer.id_to_token(i) or "") for i in ids] == ids


def test_no_tokenizer(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("tokenizer.json", b"{}", "not a tokenizer that the library tokenizers reads"),
        ("tokenizer.json", b"\xff", "not a tokenizer"),
        ("tokenizer.model", b"\xff\x00garbage", "not a SentencePiece model"),
        ("tokenizer_config.json", b"[]", "expected a JSON object, got list"),
        ("special_tokens_map.json", b"{", "not JSON"),
    ],
)
def test_hostile_files(tmp_path: Path, name: str, content: bytes, rule: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=rf"{name}: .*{rule}"):
        load_tokenizer(tmp_path)


# ---- text that comes token by token --------------------------------------------------------------


def stream_text(
    tokenizer: Tokenizer, ids: list[int], prompt_ids: list[int], stops: tuple[str, ...] = ()
) -> list[str]:
    stream = TextStream(tokenizer, prompt_ids, stops)
    return [*(stream.push(i) for i in ids), stream.finish()]


@pytest.mark.parametrize("text", NASTY_TEXTS)
@pytest.mark.parametrize("n_prompt", [0, 1, 3, 9])
def test_pieces_are_the_text_behind_the_prompt(folder: Path, text: str, n_prompt: int) -> None:
    tokenizer = load(folder)
    prompt = "there the cat and the water"
    prompt_ids = [1, *tokenizer.encode(prompt, add_special_tokens=False)][:n_prompt]
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = stream_text(tokenizer, ids, prompt_ids)
    assert tokenizer.decode(prompt_ids) + "".join(pieces) == tokenizer.decode(prompt_ids + ids)


@pytest.mark.parametrize("n", range(1, 5))
def test_prompts_that_end_in_many_bytes(folder: Path, n: int) -> None:
    tokenizer = load(folder)
    prompt_ids = tokenizer.encode("\U0001f600" * n)
    ids = tokenizer.encode("x\u20ac", add_special_tokens=False)[-3:]  # the bytes of one character
    assert "".join(stream_text(tokenizer, ids, prompt_ids)) == "\u20ac"


def test_special_tokens_do_not_hide_the_prompt(folder: Path) -> None:
    """A first token's space is kept however many special tokens are before it."""
    tokenizer = load(folder)
    ids = tokenizer.encode("the cat and", add_special_tokens=False)
    for n in range(1, len(ids)):
        if tokenizer.decode(ids).startswith(tokenizer.decode(ids[:n]) + " "):
            text = "".join(stream_text(tokenizer, ids[n:], [*ids[:n], *[2] * 10]))
            assert tokenizer.decode(ids[:n]) + text == "the cat and"


def test_pieces_never_hold_half_a_character(folder: Path) -> None:
    tokenizer = load(folder)
    text = "\U0001f600\u20ac\u00e9" * 5
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) > len(text)  # each character is several tokens
    pieces = stream_text(tokenizer, ids, [1])
    assert "\ufffd" not in "".join(pieces)
    assert sum(piece != "" for piece in pieces) > 5  # and it does not wait for the end


def test_bytes_that_never_become_text(folder: Path) -> None:
    """Broken bytes are shown as such, and soon enough."""
    tokenizer = load(folder)
    lead_byte = tokenizer.encode("\u20ac", add_special_tokens=False)[-3]
    ids = [lead_byte] * 200
    pieces = stream_text(tokenizer, ids, [1])
    assert "".join(pieces) == tokenizer.decode(ids)
    assert any(pieces[:100])


def test_special_tokens_have_no_text(folder: Path) -> None:
    tokenizer = load(folder)
    cat = tokenizer.encode(" cat", add_special_tokens=False)
    assert "".join(stream_text(tokenizer, [*cat, 1, 2, 0, *cat], [1])) == tokenizer.decode(cat * 2)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_random_ids(folder: Path, seed: int) -> None:
    """Broken characters included; of byte tokens only, decoders differ in how many they show."""
    tokenizer = load(folder)
    ids = np.random.default_rng(seed).integers(0, tokenizer.vocab_size, 300).tolist()
    ids = [i for i in ids if not (tokenizer.id_to_token(i) or "").startswith("<0x")]
    assert len(ids) > 30
    assert "".join(stream_text(tokenizer, ids, [1])) == tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        (("animal",), "the cat and the other "),
        (("mal",), "the cat and the other ani"),
        (("the other", "cat"), "the "),
        (("cat and",), "the "),
        (("t",), ""),
        (("he", "the"), ""),
        (("animals",), "the cat and the other animal"),
        (("thx", "andy", "catt"), "the cat and the other animal"),
        (("he other animal",), "the cat and t"),
    ],
)
def test_stop_strings(folder: Path, stops: tuple[str, ...], expected: str) -> None:
    tokenizer = load(folder)
    ids = tokenizer.encode("the cat and the other animal", add_special_tokens=False)
    stream = TextStream(tokenizer, [1], stops)
    text = ""
    for token_id in ids:
        assert not stream.stopped or not stream.push(token_id)
        text += stream.push(token_id) if not stream.stopped else ""
    text += stream.finish()
    assert text == expected
    assert stream.stopped == (expected != "the cat and the other animal")


def test_what_may_become_a_stop_string_is_held_back(folder: Path) -> None:
    tokenizer = load(folder)
    stream = TextStream(tokenizer, [1], ("cat and a dog",))
    shown = ""
    for token_id in tokenizer.encode("the cat and the dog", add_special_tokens=False):
        shown += stream.push(token_id)
        assert "the cat and the dog".startswith(shown)
        assert not shown.endswith("cat an")
    assert shown + stream.finish() == "the cat and the dog"
