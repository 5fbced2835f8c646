"""The decoder's fields from the names that Llama-like Hugging Face configs share.

Owns: the fields that more than one architecture reads the same way. What only one has stands in its
file under architectures/.
"""

from typing import Any, Final

from .config_reader import ConfigReader
from .refusal import refuse
from .rope_fields import rope_fields

__all__ = ["decoder_fields"]

ACTIVATIONS: Final = {  # Hugging Face's name -> the decoder's
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}


def decoder_fields(
    config: ConfigReader, *, rms_norm_eps: float, rope_theta: float, hidden_act: str
) -> dict[str, Any]:
    """Sizes, activation, biases of attention and RoPE; the arguments are the defaults of the type.

    Raises:
        FormatError: a field is missing, of the wrong kind, or asks for what the decoder cannot do;
            names it.
    """
    if config.get("sliding_window") is not None and config.get("use_sliding_window") is not False:
        refuse(config.where, f"sliding_window {config.get('sliding_window')} is not supported")
    heads = config.integer("num_attention_heads")
    hidden_size = config.integer("hidden_size")
    if config.get("head_dim") is None and hidden_size % heads:
        refuse(
            config.where,
            f"hidden_size {hidden_size} is no multiple of num_attention_heads {heads}, "
            "and there is no head_dim",
        )
    activation = config.text("hidden_act", hidden_act)
    if activation not in ACTIVATIONS:
        refuse(
            config.where,
            f"hidden_act {activation!r} is not supported; those that are: {', '.join(ACTIVATIONS)}",
        )
    attention_bias = config.flag("attention_bias", default=False)
    return {
        "vocab_size": config.integer("vocab_size"),
        "hidden_size": hidden_size,
        "intermediate_size": config.integer("intermediate_size"),
        "num_hidden_layers": config.integer("num_hidden_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": config.integer("num_key_value_heads", heads),
        "head_dim": config.integer("head_dim", hidden_size // heads),
        "max_position_embeddings": config.integer("max_position_embeddings", 2048),
        "rms_norm_eps": config.number("rms_norm_eps", rms_norm_eps),
        "hidden_act": ACTIVATIONS[activation],
        "attention_bias": attention_bias,
        "attention_output_bias": attention_bias,  # Hugging Face's attention_bias covers o_proj too
        **rope_fields(config, default_theta=rope_theta),
    }
