"""A packed folder, read: the decoder's config and every tensor as a view of the mapped file.

Owns: the rules of docs/format.md that need no look at the codes. Does not own: the codes and scales
themselves (`_core.Model` validates them), what a decoder is (`_core.tensor_specs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from bitnet_py import _core
from bitnet_py.errors import FormatError
from bitnet_py.json_file import read_json_object
from bitnet_py.safetensors_file import SafetensorsFolder

__all__ = ["FORMAT_VERSION", "QUANT_METHOD", "Checkpoint", "read_checkpoint"]

QUANT_METHOD: Final = "bitnet_py"
FORMAT_VERSION: Final = 1
BLOCK_FIELDS: Final = {"quant_method", "format_version", "decoder", "tensors", "conversion"}
RULE_FIELDS: Final = {"pattern", "format", "scale"}
DENSE_FORMATS: Final = {"F32": "f32", "F16": "f16", "BF16": "bf16"}  # by safetensors dtype
DENSE_DTYPES: Final = {format: dtype for dtype, format in DENSE_FORMATS.items()}


class Checkpoint(NamedTuple):
    """A packed folder's content.

    Attributes:
        config: config.json, the source's own fields with it.
        decoder: the fields that `_core.Model` takes.
        tensors: by name, as `_core.Model` takes them; arrays are read-only views of the files.
        files: by name, the file that each tensor lies in.
    """

    config: dict[str, Any]
    decoder: dict[str, Any]
    tensors: dict[str, _core.PackedTensor]
    files: dict[str, Path]


class Rule(NamedTuple):
    """One line of the config's `tensors`."""

    pattern: str
    format: str
    scale_kind: str


def read_checkpoint(folder: Path) -> Checkpoint:
    """Reads a packed folder. Tensors are mapped, not loaded.

    Raises:
        FileNotFoundError: there is no such folder.
        FormatError: not a packed folder, or one that breaks a rule of the format; the message says
            which.
    """
    config_path = folder / "config.json"
    if not config_path.is_file():
        _refuse(folder, "no config.json; a model's folder has one")
    config = read_json_object(config_path)
    block = _read_block(config_path, config)
    rules = _read_rules(config_path, block["tensors"])
    decoder = block["decoder"]
    with SafetensorsFolder(folder) as source:
        specs = _read_specs(config_path, decoder, len(source.entries))
        tensors = {spec.name: _read_tensor(source, spec, rules) for spec in specs}
        expected = tensors.keys() | {
            f"{name}_scale" for name, tensor in tensors.items() if tensor.scale is not None
        }
        for name in source.entries:
            if name not in expected:
                _refuse(source.path_of(name), f"{name}: no tensor of this decoder")
        return Checkpoint(config, decoder, tensors, {n: source.path_of(n) for n in tensors})


def _read_block(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The block quantization_config, with the right method, version and fields."""
    block = config.get("quantization_config")
    method = block.get("quant_method") if isinstance(block, dict) else None
    if not isinstance(block, dict) or method != QUANT_METHOD:
        found = "no quantization_config" if block is None else f"quant_method {method!r}"
        _refuse(path, f"not a packed folder ({found}); make one with: bitnet-convert SRC -o OUT")
    version = block.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        _refuse(
            path,
            f"format_version {version!r}, this bitnet_py reads {FORMAT_VERSION}; "
            "upgrade bitnet_py, or convert again",
        )
    if unknown := block.keys() - BLOCK_FIELDS:
        _refuse(path, f"quantization_config: unknown field {min(unknown)!r}")
    if not isinstance(block.get("decoder"), dict):
        _refuse(path, "quantization_config: decoder must be an object")
    if not isinstance(block.get("tensors"), list):
        _refuse(path, "quantization_config: tensors must be a list")
    return block


def _read_rules(path: Path, lines: list[Any]) -> list[Rule]:
    kinds = {info.name: info.scale_kinds or ("none",) for info in _core.formats()}
    rules = []
    for i, line in enumerate(lines):
        where = f"quantization_config: tensors[{i}]"
        if not isinstance(line, dict) or not isinstance(line.get("pattern"), str):
            _refuse(path, f"{where}: expected an object with a pattern")
        if unknown := line.keys() - RULE_FIELDS:
            _refuse(path, f"{where}: unknown field {min(unknown)!r}")
        format_name, kind = line.get("format"), line.get("scale", "none")
        if not isinstance(format_name, str) or format_name not in kinds:
            _refuse(path, f"{where}: unknown format {format_name!r}; known are {', '.join(kinds)}")
        if kind not in kinds[format_name]:
            _refuse(
                path,
                f"{where}: {format_name} takes scale {' or '.join(kinds[format_name])}, "
                f"got {kind!r}",
            )
        rules.append(Rule(line["pattern"], format_name, kind))
    return rules


def _read_specs(path: Path, decoder: Mapping[str, Any], n_tensors: int) -> list[_core.TensorSpec]:
    """The decoder's tensors. A config can not ask for more layers than the files have tensors."""
    layers = decoder.get("num_hidden_layers")
    if isinstance(layers, int) and layers > n_tensors:
        _refuse(path, f"decoder: {layers} layers, but the files hold {n_tensors} tensors")
    try:
        return _core.tensor_specs(decoder)
    except ValueError as error:
        _refuse(path, f"decoder: {error}")


def _read_tensor(
    source: SafetensorsFolder, spec: _core.TensorSpec, rules: list[Rule]
) -> _core.PackedTensor:
    name = spec.name
    if name not in source.entries:
        _refuse(source.folder, f"{name}: missing")
    path, entry = source.path_of(name), source.entries[name]
    rule = next((rule for rule in rules if fnmatchcase(name, rule.pattern)), None)
    format_name = rule.format if rule else DENSE_FORMATS.get(entry.dtype)
    if format_name is None:
        _refuse(path, f"{name}: {entry.dtype}, and no pattern of the config gives its format")
    kind = rule.scale_kind if rule else "none"
    is_matrix = len(spec.shape) == 2
    if not is_matrix and format_name != "f32":
        _refuse(path, f"{name}: norms and biases are f32, got {format_name}")

    dtype = DENSE_DTYPES.get(format_name, "U8")
    shape = _core.packed_shape(format_name, *spec.shape) if is_matrix else spec.shape
    if entry.dtype != dtype or entry.shape != tuple(shape):
        _refuse(
            path,
            f"{name}: {format_name} of {list(spec.shape)} is {dtype} {list(shape)}, "
            f"got {entry.dtype} {list(entry.shape)}",
        )
    if kind == "none":
        return _core.PackedTensor(format_name, source.view(name), None, kind)
    _check_scale(source, spec, format_name, kind)
    return _core.PackedTensor(format_name, source.view(name), source.view(f"{name}_scale"), kind)


def _check_scale(
    source: SafetensorsFolder, spec: _core.TensorSpec, format_name: str, kind: str
) -> None:
    name = f"{spec.name}_scale"
    if name not in source.entries:
        _refuse(source.folder, f"{name}: missing; {format_name} takes a scale per {kind}")
    path, entry = source.path_of(name), source.entries[name]
    dtypes = ("F16", "F32") if kind == "group" else ("F32",)
    shape = _core.scale_shape(format_name, kind, *spec.shape)
    if entry.dtype not in dtypes or entry.shape != tuple(shape):
        _refuse(
            path,
            f"{name}: a scale per {kind} is {' or '.join(dtypes)} {list(shape)}, "
            f"got {entry.dtype} {list(entry.shape)}",
        )


def _refuse(path: Path, rule: str) -> NoReturn:
    message = f"{path}: {rule}"
    raise FormatError(message)
