"""Prompt caches: what is restored is what was read, and other files are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tiny_model import make_decoder, make_model, make_tensors

from bitnet_py import _core, generation
from bitnet_py.errors import FormatError
from bitnet_py.generation import collect_results
from bitnet_py.model import Model
from bitnet_py.prompt_cache import PromptCache

PROMPT = np.random.default_rng(2).integers(3, 96, 40).tolist()


@pytest.fixture(params=_core.KV_DTYPES)
def model(request: pytest.FixtureRequest) -> Model:
    return make_model(kv_dtype=request.param, threads=1)


def make_cache(model: Model, ids: list[int]) -> PromptCache:
    session = model.session()
    session.forward(ids, logits="none")
    return PromptCache.from_session(model, session, ids)


@pytest.mark.parametrize("n_cached", [1, 25, 40])
@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:20] + [7] * 5, [9, 9]], ids=len)
def test_a_restored_prompt_continues_as_if_it_was_read(
    model: Model,
    tmp_path: Path,
    prompt: list[int],
    n_cached: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = model.generate_results(prompt, max_new_tokens=8)
    make_cache(model, PROMPT[:n_cached]).save(tmp_path / "cache")
    cache = PromptCache.load(tmp_path / "cache", model)
    n_read: list[int] = []
    forward_batch = generation._core.forward_batch

    def spy(sessions: Any, ids: list[Any], *logits: str) -> Any:
        n_read.append(sum(map(len, ids)))
        return forward_batch(sessions, ids, *logits)

    monkeypatch.setattr(generation._core, "forward_batch", spy)
    chunks = model.stream(prompt, prompt_cache=cache, max_new_tokens=8)
    assert collect_results(chunks, 1) == expected
    n_common = next(
        (i for i, (a, b) in enumerate(zip(prompt, PROMPT[:n_cached], strict=False)) if a != b),
        min(len(prompt), n_cached),
    )
    assert n_read[0] == len(prompt) - min(n_common, len(prompt) - 1)


def test_several_prompts_share_one_cache(model: Model) -> None:
    prompts = [PROMPT, PROMPT[:10], [5, 6]]
    chunks = model.stream(prompts, prompt_cache=make_cache(model, PROMPT[:30]), max_new_tokens=5)
    assert collect_results(chunks, 3) == model.generate_results(prompts, max_new_tokens=5)


def test_ids_must_be_those_of_the_session(model: Model) -> None:
    session = model.session()
    session.forward([1, 2, 3], logits="none")
    with pytest.raises(ValueError, match="expected the 3 token ids of the session"):
        PromptCache.from_session(model, session, [1, 2])


def test_saving_replaces_whole_files_only(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache"
    make_cache(model, PROMPT).save(path)
    before = path.read_bytes()

    def fail(_: Path, __: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError):  # noqa: PT011 (raised above)
        make_cache(model, PROMPT[:5]).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_a_folder_that_is_not_there(model: Model, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent/cache: not written"):
        make_cache(model, PROMPT).save(tmp_path / "absent" / "cache")


def edit(path: Path, change: Callable[[dict[str, Any], dict[str, str]], Any]) -> None:
    with safe_open(path, "np") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, m: m.update(format="other"), "not a prompt cache"),
        (lambda _, m: m.pop("format"), "not a prompt cache"),
        (lambda t, _: t.pop("k"), "not a prompt cache"),
        (lambda t, _: t.update(x=np.zeros(1, np.uint8)), "not a prompt cache"),
        (lambda t, _: t.update(k=t["k"].view(np.int8)), "not a prompt cache"),
        (lambda _, m: m.update(model="0"), "made with another model"),
        (lambda t, _: t.update(token_ids=t["token_ids"][:-1].copy()), "k and v must be"),
        (lambda t, _: t.update(v=t["v"][..., :-2].copy()), "k and v must be"),
        (lambda t, _: t.update(token_ids=t["token_ids"][None]), "k and v must be"),
    ],
)
def test_hostile_caches(
    model: Model, tmp_path: Path, change: Callable[..., Any], message: str
) -> None:
    make_cache(model, PROMPT).save(tmp_path / "cache")
    edit(tmp_path / "cache", change)
    with pytest.raises(FormatError, match=rf"cache: {message}"):
        PromptCache.load(tmp_path / "cache", model)


@pytest.mark.parametrize(
    "other",
    [
        lambda: make_model(seed=1, kv_dtype="f16", threads=1),
        lambda: make_model(make_decoder(rope_theta=5e5), kv_dtype="f16", threads=1),
        lambda: make_model(kv_dtype="f32", threads=1),
    ],
    ids=["weights", "config", "kv_dtype"],
)
def test_other_models_are_refused(tmp_path: Path, other: Callable[[], Model]) -> None:
    make_cache(make_model(kv_dtype="f16", threads=1), PROMPT).save(tmp_path / "cache")
    with pytest.raises(FormatError, match="made with another model, or with another kv_dtype"):
        PromptCache.load(tmp_path / "cache", other())


def test_one_changed_weight_is_another_model(tmp_path: Path) -> None:
    """Also one that no sample would see."""
    decoder = make_decoder()
    tensors = make_tensors(decoder, embedding="f16")
    model = Model.from_tensors(decoder, tensors, threads=1)
    make_cache(model, PROMPT).save(tmp_path / "cache")
    name = "model.embed_tokens.weight"
    data = tensors[name].data.copy()
    data[50, 31] += 1
    tensors[name] = _core.PackedTensor("f16", data, None, "none")
    with pytest.raises(FormatError, match="made with another model"):
        PromptCache.load(tmp_path / "cache", Model.from_tensors(decoder, tensors, threads=1))
    PromptCache.load(tmp_path / "cache", model)


def test_files_that_are_none(model: Model, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PromptCache.load(tmp_path / "absent", model)
    (tmp_path / "cache").write_bytes(b"?")
    with pytest.raises(FormatError, match="too short"):
        PromptCache.load(tmp_path / "cache", model)
