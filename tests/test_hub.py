"""Folders and ids: which is which, and what is fetched of an id."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from bitnet_py.hub import resolve_folder


def test_folders_are_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_folder("owner/name") == Path("owner/name")
    assert resolve_folder(tmp_path) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_folder("~/owner") == tmp_path / "owner"


def test_an_id_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def fetch(repo_id: str, **options: Any) -> str:
        calls.append((repo_id, options))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert resolve_folder("owner/name-1.58b", "v2") == tmp_path
    ((repo_id, options),) = calls
    assert (repo_id, options["revision"]) == ("owner/name-1.58b", "v2")
    patterns = options["allow_patterns"]
    for name in ("config.json", "model-1.safetensors", "tokenizer.model", "chat_templates/a.jinja"):
        assert any(fnmatchcase(name, pattern) for pattern in patterns)
    for name in ("pytorch_model.bin", "modeling.py", "train_log.json"):
        assert not any(fnmatchcase(name, pattern) for pattern in patterns)
    assert not any("bin" in pattern or "py" in pattern for pattern in options["allow_patterns"])


@pytest.mark.parametrize(
    "path", ["absent", "./a/b", "/a/b", "a/b/c", "../a", "a\\b", "~/absent", "owner/", Path("a/b")]
)
def test_paths_that_are_not_there(path: str | Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder \(and not a Hugging Face id"):
        resolve_folder(path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(NotADirectoryError, match=r"model\.gguf: a folder is expected"):
        resolve_folder(tmp_path / "model.gguf")


def test_an_id_that_can_not_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tests run offline: what is not in the cache is not there."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match="owner/no-such-model: no such folder here, and not"
    ):
        resolve_folder("owner/no-such-model")
