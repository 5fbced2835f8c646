"""The direction of dependencies, read from the includes and imports themselves."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Layer -> the layers that it may use besides itself.
CPP_LAYERS = {
    "base": set(),
    "packing": {"base"},
    "kernels": {"base", "packing"},
    "engine": {"base", "packing", "kernels"},
    "cuda": {"base", "packing", "kernels", "engine"},
    "bindings": {"base", "packing", "kernels", "engine", "cuda"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)
CPP_FILES = sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in {".h", ".cpp", ".cu"})

# Modules of the runtime that may import torch (DESIGN: folders).
TORCH_MODULES = ("torch_ops.py", "nn/", "train/", "finetune/", "integrations/")
HEAVY = {"torch", "transformers", "peft", "trl", "accelerate", "datasets"}
PYTHON_FILES = sorted(
    p
    for folder in ("bitnet_py", "convert")
    for p in (ROOT / folder).rglob("*.py")
    if not any(part == "convert" for part in p.relative_to(ROOT).parts[1:])
)


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in it."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)
    if package[0] == "convert":
        package = ["bitnet_py", *package]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", CPP_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_includes_point_down(path: Path) -> None:
    layer = path.relative_to(ROOT / "csrc").parts[0]
    for kind, name in INCLUDE.findall(path.read_text()):
        if kind == '"' and "/" in name:
            target = name.split("/")[0]
            assert target == layer or target in CPP_LAYERS[layer], f"{layer} includes {name}"
        if name.startswith("pybind11"):
            assert layer == "bindings", f"pybind11 in {layer}"
        assert not name.startswith(("torch/", "ATen/", "c10/")), f"torch header {name}"


@pytest.mark.parametrize(
    "path", [p for p in CPP_FILES if p.name.startswith("isa_")], ids=lambda p: p.name
)
def test_isa_files_use_no_standard_containers(path: Path) -> None:
    """They would leave weak symbols compiled with the ISA's flags."""
    allowed = {"math.h", "string.h", "cstdint", "cstddef", "cstring", "immintrin.h", "arm_neon.h"}
    included = {name for kind, name in INCLUDE.findall(path.read_text()) if kind == "<"}
    assert included <= allowed


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    names = imports(path)
    if relative.startswith("bitnet_py/"):
        inside = relative.removeprefix("bitnet_py/")
        upper = {n for n in names if re.match(r"bitnet_py\.(convert|train|finetune)\b", n)}
        if not inside.startswith(("cli", "train/", "finetune/", "integrations/", "__init__")):
            assert not upper, f"{relative} imports {upper}"
        if not inside.startswith(TORCH_MODULES):
            assert not {n.split(".")[0] for n in names} & HEAVY, f"{relative} imports torch's world"
    assert not {n for n in names if n.split(".")[0] in {"tests", "bench", "convert"}}


def test_the_scan_sees_the_tree() -> None:
    """A scan of nothing would pass."""
    assert len(CPP_FILES) > 20
    assert len(PYTHON_FILES) > 10
    assert "bitnet_py.errors" in imports(ROOT / "bitnet_py" / "safetensors_file.py") | imports(
        ROOT / "bitnet_py" / "safetensors_header.py"
    )
