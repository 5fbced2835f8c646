"""Conversations: turns are what a fresh session would say, and most of them is not read again."""

from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_decoder, make_model
from tiny_tokenizer import write_byte_level

from bitnet_py import generation
from bitnet_py.chat import ChatSession, common_prefix_length
from bitnet_py.model import Model
from bitnet_py.tokenizer import load_tokenizer

CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
OPTIONS = {"max_new_tokens": 12, "eos_token_id": ()}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    folder = write_byte_level(tmp_path)
    (folder / "chat_template.jinja").write_text(CHAT)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    decoder = make_decoder(vocab_size=tokenizer.vocab_size, max_position_embeddings=256)
    return make_model(decoder, tokenizer=tokenizer, folder=folder, threads=1)


def fresh_answer(model: Model, messages: list[dict[str, Any]]) -> str:
    """The answer without any cache."""
    assert model.tokenizer is not None
    assert model.chat_template is not None
    text = model.chat_template.render(messages)
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    return model.generate_results(ids, **OPTIONS)[0].text


def test_turns_are_what_a_fresh_session_would_say(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_read: list[int] = []
    forward_batch = generation._core.forward_batch

    def spy(sessions: Any, ids: list[Any], *logits: str) -> Any:
        n_read.append(sum(map(len, ids)))
        return forward_batch(sessions, ids, *logits)

    session = model.chat("You are a cat.")
    for text in ("the cat went", "and the rain", "there was water"):
        messages = [*session.messages, {"role": "user", "content": text}]
        expected = fresh_answer(model, messages)
        with monkeypatch.context() as patch:
            patch.setattr(generation._core, "forward_batch", spy)
            n_read.clear()
            assert session.send(text, **OPTIONS) == expected
        assert session.messages == [*messages, {"role": "assistant", "content": expected.strip()}]
        if len(messages) > 2:
            n_known = len(fresh_ids(model, messages[:-2]))  # up to where the last answer began
            assert n_read[0] <= len(fresh_ids(model, messages)) - n_known + 2


def fresh_ids(model: Model, messages: list[dict[str, Any]]) -> list[int]:
    assert model.tokenizer is not None
    assert model.chat_template is not None
    return model.tokenizer.encode(model.chat_template.render(messages), add_special_tokens=False)


def test_edited_messages_are_read_again(model: Model) -> None:
    session = model.chat()
    session.send("the cat went there", **OPTIONS)
    session.messages[0]["content"] = "another thing"
    messages = [*session.messages, {"role": "user", "content": "why"}]
    assert session.send("why", **OPTIONS) == fresh_answer(model, messages)


def test_an_answer_that_is_cut_off_is_kept_as_far_as_it_came(model: Model) -> None:
    session = model.chat()
    chunks = session.stream("the cat went there", **OPTIONS)
    said = "".join(next(chunks).text for _ in range(4))
    chunks.close()  # type: ignore[attr-defined]
    assert session.messages[-1] == {"role": "assistant", "content": said.strip()}
    messages = [*session.messages, {"role": "user", "content": "go on"}]
    assert session.send("go on", **OPTIONS) == fresh_answer(model, messages)


def test_chunks_that_nobody_asks_for_change_nothing(model: Model) -> None:
    session = model.chat("system")
    session.stream("the cat", **OPTIONS)
    assert [message["role"] for message in session.messages] == ["system"]


def test_clear_keeps_the_system_prompt(model: Model) -> None:
    session = model.chat("Be a cat.")
    first = session.send("the cat", **OPTIONS)
    session.clear()
    assert session.messages == [{"role": "system", "content": "Be a cat."}]
    assert session.send("the cat", **OPTIONS) == first
    bare = model.chat()
    bare.send("the cat", **OPTIONS)
    bare.clear()
    assert bare.messages == []


def test_a_full_context_leaves_the_conversation_as_it_was(model: Model) -> None:
    session = model.chat()
    session.send("the cat", **OPTIONS)
    before = list(session.messages)
    with pytest.raises(ValueError, match="prompt of 1 to 255 tokens"):
        session.send("water " * 300, **OPTIONS)
    with pytest.raises(ValueError, match="expected one answer, got 2"):
        session.send("the cat", num_return_sequences=2, temperature=1)
    assert session.messages == before


def test_models_that_can_not_chat(model: Model) -> None:
    decoder = make_decoder()
    with pytest.raises(ValueError, match="no tokenizer"):
        ChatSession(make_model(decoder, threads=1))
    with pytest.raises(ValueError, match="no chat template; use generate"):
        make_model(decoder, tokenizer=model.tokenizer, threads=1).chat()


@pytest.mark.parametrize(
    ("a", "b", "n"), [([], [], 0), ([1], [], 0), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2)]
)
def test_common_prefix_length(a: list[int], b: list[int], n: int) -> None:
    assert common_prefix_length(a, b) == common_prefix_length(b, a) == n
