"""The compiled engine. Arrays are numpy, C-contiguous; bf16 travels as uint16.

Every function releases the GIL while it works. ValueError: the caller's fault, "[op] expected X,
got Y"; RuntimeError: a bug in the engine.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__version__: Final[str]
__compiler__: Final[str]
GROUP_SIZE: Final[int]
KEY_BLOCK: Final[int]

# ---- packing -------------------------------------------------------------------------------------

class FormatInfo(NamedTuple):
    name: str
    panel_rows: int
    k_multiple: int
    packed: bool
    int8_activations: bool
    scale_kinds: tuple[str, ...]
    group_size: int

def formats() -> list[FormatInfo]: ...
def packed_shape(format: str, n: int, k: int) -> tuple[int, ...]:
    """Shape of the stored codes: [N_pad/rows, tiles, bytes of a tile] when packed, else [n, k]."""

def scale_shape(format: str, scale_kind: str, n: int, k: int) -> tuple[int, ...]:
    """Shape of the stored scale: (), [1], [N_pad], [ceil(K/128), N_pad]; docs/format.md."""

def absmean_row_sums(w: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of |w| of each row of w [N, K], in float64."""

def absmean_scale(abs_sum: float, count: int) -> float:
    """gamma = max(abs_sum / count, 1e-5) as float32."""

def absmean_quantize(
    w: NDArray[np.float32], gamma: NDArray[np.float32] | float
) -> NDArray[np.int8]:
    """t = clip(rint(w * (1/gamma)), -1, 1) of w [N, K]; gamma: one number or one per row [N]."""

def absmean_quantize_groups(
    w: NDArray[np.float32], *, round_f16: bool = True
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Groups of 128 along K: t int8 [N, K], gamma float32 [N, ceil(K/128)]."""

def pack_ternary2(t: NDArray[np.int8]) -> NDArray[np.uint8]:
    """t [N, K] in {-1, 0, 1} -> uint8 [N_pad/32, K_pad/4, 32]."""

def unpack_ternary2(packed: NDArray[np.uint8], n: int, k: int) -> NDArray[np.int8]: ...
def pack_trits5(t: NDArray[np.int8]) -> NDArray[np.uint8]:
    """t [N, K] in {-1, 0, 1} -> uint8 [N_pad/32, T, 32]: five tiles of ternary2 in four."""

def unpack_trits5(packed: NDArray[np.uint8], n: int, k: int) -> NDArray[np.int8]: ...
def quantize_int8_rows(
    w: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric absmax per row: codes int8 [N, K] in [-127, 127], scale float32 [N]."""

def pack_int8(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """codes [N, K] -> uint8 [N_pad/8, K_pad/4, 32]."""

def unpack_int8(packed: NDArray[np.uint8], n: int, k: int) -> NDArray[np.int8]: ...
def quantize_int6_groups(
    w: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Groups of 32 along K: codes int8 [N, K] in [-32, 31], scale float32 [N, ceil(K/32)] that
    float16 holds."""

def pack_int6(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """codes [N, K] in [-32, 31] -> uint8 [N_pad/32, K_pad/4, 96]."""

def unpack_int6(packed: NDArray[np.uint8], n: int, k: int) -> NDArray[np.int8]: ...

# ---- kernels -------------------------------------------------------------------------------------

def available_isas() -> list[str]:
    """Kernel tables that run on this CPU, best first; the last is always "generic"."""

def compiled_isas() -> list[str]: ...
def cpu_features() -> list[str]: ...
def cpu_brand() -> str: ...

class Kernels:
    """One kernel table, for tests and benches. `threads` splits the work; results do not change."""

    def __init__(self, isa: str = "", threads: int = 1) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def products(self) -> list[str]:
        """The formats that `linear` takes; a Model expands the others (trits5) to ternary2."""

    def quantize_act(
        self, x: NDArray[np.float32]
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32]]:
        """x [T, K] -> q int8 [T, K_pad8], scale float32 [T], group_sum int32 [T, ceil(K/128)]."""

    def dot(
        self, format: str, weight: NDArray[np.uint8], n: int, k: int, q: NDArray[np.int8]
    ) -> NDArray[np.int32]:
        """Integers: packed codes times q int8 [T, K] -> int32 [T, N].

        Raises:
            ValueError: a format that is not packed, or not among `products`.
        """

    def linear(
        self,
        format: str,
        weight: NDArray[Any],
        scale: NDArray[Any] | None,
        scale_kind: str,
        n: int,
        k: int,
        x: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """x [T, K] times a stored weight [N, K] -> [T, N]; int8 activations if the format asks."""

    def expand_trits5(
        self, packed: NDArray[np.uint8], n: int, k: int
    ) -> tuple[NDArray[np.uint8], bool]:
        """The same weight as ternary2, and whether every code was valid."""

    def rms_norm(
        self, x: NDArray[np.float32], weight: NDArray[np.float32], eps: float
    ) -> NDArray[np.float32]: ...
    def rope(
        self, x: NDArray[np.float32], cos: NDArray[np.float32], sin: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """x [heads, head_dim], cos and sin [head_dim / 2]."""

    def gated_activation(
        self, act: str, gate: NDArray[np.float32], up: NDArray[np.float32]
    ) -> NDArray[np.float32]: ...
    def attend(
        self,
        q: NDArray[np.float32],
        k: NDArray[np.float32],
        v: NDArray[np.float32],
        n_keys: Sequence[int],
        *,
        kv_dtype: str = "f32",
    ) -> NDArray[np.float32]:
        """q [Q, D] over k, v [S, D], stored as kv_dtype; query i sees n_keys[i] keys -> [Q, D]."""

# ---- engine --------------------------------------------------------------------------------------

class TensorSpec(NamedTuple):
    name: str
    role: str  # "embedding", "linear", "head", "norm", "bias"
    shape: tuple[int, ...]  # [N, K] or [N]

def config_fields() -> dict[str, Any]:
    """Every field of the decoder's config with its default; required fields hold None."""

def tensor_specs(config: Mapping[str, Any]) -> list[TensorSpec]:
    """The tensors that a decoder of this config needs, in order of use."""

class PackedTensor(NamedTuple):
    """What Model takes per tensor: format name, codes, scale or None, scale kind."""

    format: str
    data: NDArray[Any]
    scale: NDArray[Any] | None
    scale_kind: str

class Model:
    """Weights viewed in place (the arrays are kept alive), a kernel table and a thread pool.

    trits5 is expanded to ternary2 on tables that have no product of it (`Kernels.products`).
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: Mapping[str, tuple[str, NDArray[Any], NDArray[Any] | None, str]],
        *,
        isa: str = "",
        threads: int = 0,
        validate: bool = True,
        on_expanded: Callable[[str], object] | None = None,
    ) -> None:
        """threads 0: as many as the process may use. validate: one pass over codes and scales.

        on_expanded is called with the name of each tensor that was expanded: its array will not be
        read again.
        """

    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...

KV_DTYPES: tuple[str, ...]
"""How a KV cache may store its elements: int8 with one float32 scale per token and head."""

def kv_row_bytes(head_dim: int, kv_dtype: str) -> int:
    """Bytes of one token's key, or value, of one head, its scale included."""

class Session:
    """One sequence: its KV cache and position."""

    def __init__(self, model: Model, max_seq_len: int, kv_dtype: str = "f16") -> None: ...
    @property
    def length(self) -> int: ...
    @property
    def max_seq_len(self) -> int: ...
    @property
    def kv_bytes(self) -> int: ...
    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on."""

    def forward(
        self, token_ids: NDArray[np.int32] | Sequence[int], logits: str = "last"
    ) -> NDArray[np.float32]:
        """Appends tokens. logits: "none" -> [0, vocab], "last" -> [1, vocab], "all" -> [T, vocab].

        Ctrl-C stops it between layers; the session is then as it was before the call.

        Raises:
            ValueError: an empty call, an id outside the vocabulary, more tokens than there is room.
        """

    def export_kv(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Raw K and V of the tokens so far, uint8 [layers, kv_heads, length, kv_row_bytes]."""

    def import_kv(self, k: NDArray[np.uint8], v: NDArray[np.uint8]) -> None:
        """Replaces the content with what export_kv gave for the same model and kv_dtype."""

def forward_batch(
    sessions: Sequence[Session],
    token_ids: Sequence[NDArray[np.int32] | Sequence[int]],
    logits: str = "last",
) -> NDArray[np.float32]:
    """Appends token_ids[i] to sessions[i], all in one pass over the weights (no padding).

    Returns the rows in order: "last" -> [len(sessions), vocab], "all" -> [sum of lengths, vocab].
    """

class Sampler:
    """Picks a token from logits, in the order of Hugging Face's processors:

    repetition penalty, no-repeat n-grams, then (do_sample) temperature, top-k, top-p, min-p.
    """

    def __init__(
        self,
        *,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        no_repeat_ngram_size: int = 0,
        seed: int = 0,
    ) -> None: ...
    def probabilities(
        self, logits: NDArray[np.float32], context: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """The distribution that sample() draws from, [vocab] (one-hot when greedy)."""

    def sample(self, logits: NDArray[np.float32], context: NDArray[np.int32]) -> tuple[int, float]:
        """(token id, its log-probability under the raw logits). context: prompt + generated."""

def log_softmax_at(logits: NDArray[np.float32], ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """log softmax(logits[t])[ids[t]] per row: logits [T, vocab] -> float32 [T]."""
