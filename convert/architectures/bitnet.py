"""`BitNetForCausalLM` (arXiv 2504.12285): Llama with a norm in front of o_proj and of down_proj."""

from ..config_reader import ConfigReader
from ..decoder_fields import decoder_fields
from ..sources import Source
from ..tied_embeddings import tied_embeddings
from . import Architecture


def describe(source: Source) -> Architecture:
    """See Architecture."""
    config = ConfigReader(source.config, source.config_name)
    fields = decoder_fields(config, rms_norm_eps=1e-5, rope_theta=500000.0, hidden_act="relu2")
    tied = tied_embeddings(source, config)
    return Architecture(
        decoder={
            **fields,
            "tie_word_embeddings": tied.is_tied,
            "mlp_bias": False,
            "attn_sub_norm": True,
            "ffn_sub_norm": True,
        },
        source_names=tied.source_names,
        useless=("*.rotary_emb.inv_freq", *tied.useless),
        notes=tied.notes,
    )
