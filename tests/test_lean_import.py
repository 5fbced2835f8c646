"""What an import loads: nothing that is not needed. Its time is measured in bench/."""

import subprocess
import sys

import pytest

HEAVY = {
    "torch", "transformers", "tokenizers", "sentencepiece", "huggingface_hub", "jinja2", "typer",
    "rich", "safetensors",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after this code."""
    code += "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-W", "error", "-c", code]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import bitnet_py", set()),
        ("from bitnet_py import FormatError, __version__", set()),
        ("from bitnet_py import Model, load, generate, ops", set()),
        ("import bitnet_py.cli", {"typer", "rich"}),
        ("import bitnet_py.chat_template", {"jinja2"}),
    ],
)
def test_only_what_is_needed(code: str, allowed: set[str]) -> None:
    loaded = loaded_by(code)
    assert "bitnet_py" in loaded
    assert not loaded & HEAVY - allowed


def test_the_package_alone_loads_not_even_numpy() -> None:
    assert "numpy" not in loaded_by("import bitnet_py")


def test_public_names() -> None:
    import bitnet_py

    assert set(bitnet_py.__all__) == set(dir(bitnet_py))
    for name in bitnet_py.__all__:
        assert getattr(bitnet_py, name) is not None
    assert callable(bitnet_py.generate)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = bitnet_py.absent
