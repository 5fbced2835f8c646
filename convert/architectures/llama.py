"""`LlamaForCausalLM`, and 1bitLLM's BitNet b1.58 models, which carry the same model_type.

The latter have two more norms per layer, which a stock Llama drops without a word: `inner_attn_ln`
in front of o_proj and `ffn_layernorm` in front of down_proj (SubLN, arXiv 2210.06423). Their
weights are masters, made ternary by absmean at load (arXiv 2402.17764).
"""

from ..config_reader import ConfigReader
from ..decoder_fields import decoder_fields
from ..sources import Source
from ..tied_embeddings import tied_embeddings
from . import Architecture

SUB_NORMS = {  # the decoder's name -> 1bitLLM's
    "self_attn.attn_sub_norm": "self_attn.inner_attn_ln",
    "mlp.ffn_sub_norm": "mlp.ffn_layernorm",
}


def describe(source: Source) -> Architecture:
    """See Architecture."""
    config = ConfigReader(source.config, source.config_name)
    fields = decoder_fields(config, rms_norm_eps=1e-6, rope_theta=10000.0, hidden_act="silu")
    tied = tied_embeddings(source, config)
    has_sub_norms = any(
        f"model.layers.0.{name}.weight" in source.tensor_names for name in SUB_NORMS.values()
    )
    source_names = dict(tied.source_names)
    notes = list(tied.notes)
    if has_sub_norms:
        for layer in range(fields["num_hidden_layers"]):
            for ours, theirs in SUB_NORMS.items():
                prefix = f"model.layers.{layer}."
                source_names[f"{prefix}{ours}.weight"] = f"{prefix}{theirs}.weight"
        notes.append("a BitNet b1.58 model of 1bitLLM: sub-norms and absmean per tensor")
    return Architecture(
        decoder={
            **fields,
            "tie_word_embeddings": tied.is_tied,
            "mlp_bias": config.flag("mlp_bias", default=False),
            "attn_sub_norm": has_sub_norms,
            "ffn_sub_norm": has_sub_norms,
        },
        source_names=source_names,
        useless=("*.rotary_emb.inv_freq", *tied.useless),
        has_masters=has_sub_norms,
        notes=tuple(notes),
    )
