"""The decoder's RoPE fields from a Hugging Face config.

transformers 5 writes one block `rope_parameters`; before it was `rope_theta` with `rope_scaling`.
Where both stand, `rope_scaling` wins, as in transformers.

Owns: reading both spellings. Refuses by name the RoPE types that the decoder does not have.
"""

from typing import Any, Final

from .config_reader import ConfigReader
from .refusal import refuse

__all__ = ["rope_fields"]

ROPE_TYPES: Final = ("default", "linear", "llama3")


def rope_fields(config: ConfigReader, *, default_theta: float) -> dict[str, Any]:
    """rope_theta, rope_type and the parameters of the type, in the decoder's names.

    Raises:
        FormatError: another RoPE type, one RoPE per kind of layer, a partial rotation, or a
            parameter that is missing or of the wrong kind.
    """
    theta = config.number("rope_theta", default_theta)
    block = config.block("rope_scaling") or config.block("rope_parameters")
    if block is None:
        block = ConfigReader({}, config.where)
    if block.get("full_attention") is not None or block.get("sliding_attention") is not None:
        refuse(block.where, "one RoPE per kind of layer is not supported")
    rope_type = block.text("rope_type", block.text("type", "default"))
    if rope_type not in ROPE_TYPES:
        refuse(
            block.where,
            f"rope_type {rope_type!r} is not supported; those that are: {', '.join(ROPE_TYPES)}",
        )
    for reader in (config, block):
        partial = reader.number("partial_rotary_factor", 1.0)
        if partial != 1.0:
            refuse(reader.where, f"partial_rotary_factor {partial} is not supported, only 1")
    fields: dict[str, Any] = {
        "rope_theta": block.number("rope_theta", theta),
        "rope_type": rope_type,
    }
    if rope_type != "default":
        fields["rope_factor"] = block.number("factor")
    if rope_type == "llama3":
        fields["rope_low_freq_factor"] = block.number("low_freq_factor")
        fields["rope_high_freq_factor"] = block.number("high_freq_factor")
        fields["rope_original_max_position_embeddings"] = config.integer(
            "original_max_position_embeddings",
            block.integer(
                "original_max_position_embeddings", config.integer("max_position_embeddings")
            ),
        )
    return fields
