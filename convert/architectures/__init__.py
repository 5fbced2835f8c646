"""Foreign architectures, one file each: the file's name is Hugging Face's `model_type`.

A file has `describe(source) -> Architecture`. To add an architecture, add its file; nothing else
registers it.
"""

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Any

from ..config_reader import ConfigReader
from ..refusal import refuse
from ..sources import Source

__all__ = ["Architecture", "describe", "known_model_types"]


@dataclass(frozen=True)
class Architecture:
    """How the tensors of a source make a decoder.

    Attributes:
        decoder: the decoder's fields, those of `_core.config_fields()`.
        source_names: where a tensor of the decoder has another name in the source.
        useless: fnmatch patterns of tensors that a reader does not need.
        has_masters: linear weights are masters of a BitNet-trained model, to be quantized by
            absmean per tensor, although no quantization_config says so.
        notes: what a user should know.
    """

    decoder: dict[str, Any]
    source_names: dict[str, str] = field(default_factory=dict)
    useless: tuple[str, ...] = ()
    has_masters: bool = False
    notes: tuple[str, ...] = ()


def known_model_types() -> list[str]:
    """Every model_type that there is a file for, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def describe(source: Source) -> Architecture:
    """Reads a source's config by the rules of its model_type.

    Raises:
        FormatError: an unknown model_type, or a config that asks for what the decoder cannot do.
    """
    config = ConfigReader(source.config, source.config_name)
    model_type = config.text("model_type")
    known = known_model_types()
    if model_type not in known:  # nothing else is ever imported
        refuse(
            source.config_name,
            f"model_type {model_type!r} is not supported; those that are: {', '.join(known)}",
        )
    layers = config.integer("num_hidden_layers")
    if layers > len(source.tensor_names):  # so that no config can make a reader loop for hours
        refuse(
            source.config_name,
            f"num_hidden_layers is {layers}, but there are {len(source.tensor_names)} tensors",
        )
    module = importlib.import_module(f"{__name__}.{model_type}")
    architecture: Architecture = module.describe(source)
    return architecture
