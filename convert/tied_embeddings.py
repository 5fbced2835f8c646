"""Whether a source's head is its embedding.

Owns: what config.json and the tensors say together. As in transformers: with tie_word_embeddings
one of the two tensors may be absent, and a head of other values than the embedding is not tied.
"""

from typing import NamedTuple

from .config_reader import ConfigReader
from .sources import Source

__all__ = ["EMBEDDING", "HEAD", "TiedEmbeddings", "tied_embeddings"]

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


class TiedEmbeddings(NamedTuple):
    """What was found.

    Attributes:
        is_tied: one tensor serves both uses.
        source_names: of the decoder's tensors that have another name in the source.
        useless: tensors that need not be read.
        notes: what to tell the user.
    """

    is_tied: bool
    source_names: dict[str, str]
    useless: tuple[str, ...]
    notes: tuple[str, ...]


def tied_embeddings(source: Source, config: ConfigReader) -> TiedEmbeddings:
    """Compares the two tensors where both are there and the config ties them."""
    if not config.flag("tie_word_embeddings", default=False):
        return TiedEmbeddings(is_tied=False, source_names={}, useless=(), notes=())
    notes: tuple[str, ...] = ()
    if source.quantization is not None and not source.keeps_dense("lm_head"):
        notes = ("the source quantizes its tied head as well; here --head says how it is stored",)
    if HEAD not in source.tensor_names:
        return TiedEmbeddings(is_tied=True, source_names={}, useless=(), notes=notes)
    if EMBEDDING not in source.tensor_names:
        names = {EMBEDDING: HEAD}
        return TiedEmbeddings(is_tied=True, source_names=names, useless=(), notes=notes)
    if source.is_same_tensor(EMBEDDING, HEAD):
        return TiedEmbeddings(is_tied=True, source_names={}, useless=(HEAD,), notes=notes)
    note = (
        f"config.json ties the embeddings, but {HEAD} differs from {EMBEDDING}: kept as two, "
        "as transformers does"
    )
    return TiedEmbeddings(is_tied=False, source_names={}, useless=(), notes=(note,))
