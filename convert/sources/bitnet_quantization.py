"""Hugging Face's `quantization_config` with `quant_method: "bitnet"`.

Owns: its fields and the one rule that bites, the meaning of `weight_scale`:
`linear_class: "autobitlinear"` multiplies the output by it; "bitlinear" (also when absent: Falcon,
HF1BitLLM) divides, so there it is an inverse. It is inverted in packed_weight.py and nowhere else.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..config_reader import ConfigReader
from ..module_patterns import check_patterns, matches_module
from ..refusal import refuse

__all__ = ["BitNetQuantization", "read_quantization"]

DEFAULT_DENSE = ("lm_head",)  # what transformers leaves out when the config names nothing


class BitNetQuantization(NamedTuple):
    """How a source stores its linear layers.

    Attributes:
        has_inverse_scales: `weight_scale` divides.
        is_online: the weights are float masters, made ternary by absmean per tensor at load.
        dense_modules: patterns of the modules that are not quantized.
        scales_bias: the output is multiplied after the bias was added (autobitlinear offline).
        fields: the block as it stands in config.json.
    """

    has_inverse_scales: bool
    is_online: bool
    dense_modules: tuple[str, ...]
    scales_bias: bool
    fields: Mapping[str, Any]

    def keeps_dense(self, module: str) -> bool:
        """Whether a module is excluded from the quantization."""
        return matches_module(module, self.dense_modules)


def read_quantization(config: ConfigReader) -> BitNetQuantization | None:
    """The block of a config.json, None when there is none.

    Raises:
        FormatError: a quantization that is not read here, or a variant that the decoder lacks.
    """
    block = config.block("quantization_config")
    if block is None:
        return None
    method = block.text("quant_method")
    if method == "bitnet_py":
        refuse(block.where, "this is a converted model already; convert its source instead")
    if method != "bitnet":
        refuse(
            block.where,
            f"quant_method {method!r} is not read; only 'bitnet' or unquantized checkpoints are. "
            "Look for the model's unquantized weights",
        )
    linear_class = block.text("linear_class", "bitlinear")
    if linear_class not in ("bitlinear", "autobitlinear"):
        refuse(
            block.where, f"linear_class must be bitlinear or autobitlinear, got {linear_class!r}"
        )
    mode = block.text("quantization_mode", "offline")
    if mode not in ("online", "offline"):
        refuse(block.where, f"quantization_mode must be online or offline, got {mode!r}")
    if block.flag("use_rms_norm", default=False):
        refuse(block.where, "use_rms_norm (a norm in front of every linear) is not supported")
    dense = block.strings("modules_to_not_convert")
    if dense is not None:
        try:
            check_patterns(dense)
        except ValueError as error:
            refuse(block.where, str(error))
    is_auto = linear_class == "autobitlinear"
    return BitNetQuantization(
        has_inverse_scales=not is_auto,
        is_online=is_auto and mode == "online",
        dense_modules=DEFAULT_DENSE if dense is None else tuple(dense),
        scales_bias=is_auto and mode == "offline",
        fields=dict(block.fields),
    )
