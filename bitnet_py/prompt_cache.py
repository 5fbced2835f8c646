"""Keys and values of a prompt that was read once, for later prompts that begin with it.

Owns: the file (safetensors: `k`, `v` uint8 [layers, kv_heads, tokens, bytes], `token_ids` int32
[tokens], and whose model's they are). Does not own: the cache in use (`_core.Session`).
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from bitnet_py import _core
from bitnet_py.chat import common_prefix_length
from bitnet_py.errors import FormatError
from bitnet_py.safetensors_file import SafetensorsFile

if TYPE_CHECKING:
    from bitnet_py.model import Model

__all__ = ["PromptCache"]

FORMAT: Final = "bitnet_py prompt cache 1"
_fingerprints: WeakKeyDictionary[Model, str] = WeakKeyDictionary()
DTYPES: Final = {"k": "U8", "v": "U8", "token_ids": "I32"}


class PromptCache(NamedTuple):
    """What a model knows after it has read some tokens.

    Attributes:
        k: uint8 [layers, kv_heads, tokens, bytes], keys as `_core.Session.export_kv` gives them.
        v: values, likewise.
        token_ids: int32 [tokens].
        fingerprint: of the model, see `fingerprint_of`.
    """

    k: NDArray[np.uint8]
    v: NDArray[np.uint8]
    token_ids: NDArray[np.int32]
    fingerprint: str

    @classmethod
    def from_session(cls, model: Model, session: _core.Session, token_ids: Any) -> PromptCache:
        """Copies what a session holds.

        Args:
            model: the session's.
            session: with at least one token.
            token_ids: the tokens that the session has read, in order.

        Raises:
            ValueError: not as many ids as the session has tokens.
        """
        ids = np.asarray(token_ids, np.int32)
        if ids.shape != (session.length,):
            message = (
                f"[prompt_cache] expected the {session.length} token ids of the session, "
                f"got {list(ids.shape)}"
            )
            raise ValueError(message)
        return cls(*session.export_kv(), ids, fingerprint_of(model))

    @classmethod
    def load(cls, path: str | Path, model: Model) -> PromptCache:
        """Maps a file that `save` wrote with the same model.

        Raises:
            FileNotFoundError: there is no such file.
            FormatError: not a prompt cache, or another model's.
        """
        with SafetensorsFile(path) as file:
            dtypes = {name: entry.dtype for name, entry in file.entries.items()}
            if file.metadata.get("format") != FORMAT or dtypes != DTYPES:
                message = f"{path}: not a prompt cache that this bitnet_py reads"
                raise FormatError(message)
            fingerprint = file.metadata.get("model", "")
            cache = cls(file.view("k"), file.view("v"), file.view("token_ids"), fingerprint)
        if cache.fingerprint != fingerprint_of(model):
            message = (
                f"{path}: made with another model, or with another kv_dtype; delete it and read "
                "the prompt again"
            )
            raise FormatError(message)
        config = model.config
        shape = (
            config["num_hidden_layers"],
            config["num_key_value_heads"],
            cache.token_ids.size,
            _core.kv_row_bytes(config["head_dim"], model.kv_dtype),
        )
        if cache.k.shape != shape or cache.v.shape != shape or cache.token_ids.ndim != 1:
            message = f"{path}: k and v must be {list(shape)} for token_ids of this length"
            raise FormatError(message)
        return cache

    def save(self, path: str | Path) -> None:
        """Writes the file beside its place and then moves it there, so it is whole or absent.

        Raises:
            OSError: it cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        path = Path(path)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        tensors: dict[str, NDArray[Any]] = {"k": self.k, "v": self.v, "token_ids": self.token_ids}
        try:
            save_file(tensors, part, metadata={"format": FORMAT, "model": self.fingerprint})
            part.replace(path)
        except SafetensorError as error:  # how the library says that a file cannot be written
            message = f"{path}: not written: {error}"
            raise OSError(message) from None
        finally:
            part.unlink(missing_ok=True)

    def fill(self, session: _core.Session, prompt_ids: list[int]) -> int:
        """Puts into an empty session what the prompt and the cache begin with alike.

        Returns:
            How many tokens that is; the rest of the prompt has to be read.
        """
        n = min(common_prefix_length(self.token_ids.tolist(), prompt_ids), session.max_seq_len)
        if n > 0:
            parts = (np.ascontiguousarray(part[:, :, :n]) for part in (self.k, self.v))
            session.import_kv(*parts)
        return n


def fingerprint_of(model: Model) -> str:
    """Tells a model from every other: a hash of config, kv_dtype and all bytes of all tensors.

    All bytes, not samples: a model that was trained a little further may differ anywhere. A GB
    takes about a second on one thread, once per model.
    """
    if model not in _fingerprints:
        facts = [model.config, model.kv_dtype]
        digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=32)
        with ThreadPoolExecutor(model.core.threads) as pool:  # hashing lets go of the GIL
            ordered = sorted(model.tensors.items())
            parts = pool.map(_tensor_digest, (tensor for _, tensor in ordered))
            for (name, tensor), part in zip(ordered, parts, strict=True):
                digest.update(f"{name} {tensor.format} {tensor.scale_kind} ".encode() + part)
        _fingerprints[model] = digest.hexdigest()
    return _fingerprints[model]


def _tensor_digest(tensor: _core.PackedTensor) -> bytes:
    digest = hashlib.blake2b()
    for array in (tensor.data, tensor.scale):
        if array is not None:
            digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.digest()
