"""Random models in the peers' file format, one for each shape and type that the benches name.

Owns: GGUF files (arch `llama`, embedding and output head Q6_K, F16 beside F16) whose blocks are
drawn at random: speed does not depend on the values, so no float model is made and nothing is
quantized. F16 linears hold exact ternary values, for other programs to quantize. Does not own: the
sizes (`shapes.py`), running the files (`engine_llama_cpp.py`), nor converting real models
(`bitnet_py.convert`). A shape's sub-norms and activation are left out: the products are the same.

    python -m bench.peer_models 700M 2B4T --type TQ2_0 --cache DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from bench.shapes import SHAPES, decoder_config

__all__ = ["TYPES", "model_path", "write_gguf"]

BLOCK_SIZE: Final = 256  # weights; a whole number of any type's own blocks
POOL_BLOCKS: Final = 1 << 16  # what is drawn: 4 to 33 MB; the files repeat it

Blocks: TypeAlias = NDArray[np.uint8]  # [blocks, bytes of a block]


def random_ternary_f16(rng: np.random.Generator, blocks: int, columns: int) -> Blocks:
    """Draws 256 exact ternary values as float16."""
    values = np.array([-1, 0, 1], np.float32) * ternary_scale(columns)
    picked = values.astype(np.float16)[rng.integers(0, 3, (blocks, BLOCK_SIZE))]
    return picked.view(np.uint8)


def random_f16(rng: np.random.Generator, blocks: int, columns: int) -> Blocks:
    """Draws 256 normal values as float16."""
    del columns
    return rng.normal(0, 0.08, (blocks, BLOCK_SIZE)).astype(np.float16).view(np.uint8)


def random_tq2_0(rng: np.random.Generator, blocks: int, columns: int) -> Blocks:
    """Draws codes 0..2 four to a byte, 64 bytes, then a float16 scale, the same in all blocks."""
    digits = np.indices((3, 3, 3, 3), dtype=np.uint8).reshape(4, 81)
    valid = digits[0] | digits[1] << 2 | digits[2] << 4 | digits[3] << 6
    codes = valid[rng.integers(0, 81, (blocks, 64), np.uint8)]
    return with_scale(codes, ternary_scale(columns), is_first=False)


def random_tq1_0(rng: np.random.Generator, blocks: int, columns: int) -> Blocks:
    """Draws 48 bytes of five trits and 4 bytes of four, each byte ceil(number * 256 / 243)."""
    numbers = rng.integers(0, 243, (blocks, 52), np.uint16)
    numbers[:, 48:] -= numbers[:, 48:] % 3  # the fifth trit is not used
    return with_scale(
        ((numbers * 256 + 242) // 243).astype(np.uint8), ternary_scale(columns), is_first=False
    )


def random_q4_0(rng: np.random.Generator, blocks: int, columns: int) -> Blocks:
    """Draws eight blocks of 32: a float16 scale, then 16 bytes of two codes, 8 being zero."""
    codes = rng.integers(0, 256, (blocks * 8, 16), np.uint8)
    return with_scale(codes, columns**-0.5 / 4.6, is_first=True).reshape(blocks, -1)


def random_q8_0(rng: np.random.Generator, blocks: int, columns: int) -> Blocks:
    """Draws eight blocks of 32: a float16 scale, then 32 int8."""
    codes = rng.integers(-127, 128, (blocks * 8, 32), np.int8).view(np.uint8)
    return with_scale(codes, columns**-0.5 / 74, is_first=True).reshape(blocks, -1)


def random_q6_k(rng: np.random.Generator, blocks: int, columns: int) -> Blocks:
    """Draws 192 bytes of 6-bit codes and 16 int8 scales (any byte is valid), a float16 scale.

    The weights' standard deviation is about 0.08.
    """
    del columns
    return with_scale(rng.integers(0, 256, (blocks, 208), np.uint8), 2.0**-14, is_first=False)


def ternary_scale(columns: int) -> float:
    """Two thirds of the weights are not zero: this keeps the variance of what goes through."""
    return float((1.5 / columns) ** 0.5)


def with_scale(codes: Blocks, scale: float, *, is_first: bool) -> Blocks:
    """Blocks of bytes with one float16 before or behind each."""
    scales = np.tile(np.array([scale], np.float16).view(np.uint8), (len(codes), 1))
    return np.hstack([scales, codes] if is_first else [codes, scales])


class WeightType(NamedTuple):
    """How weights of a type are drawn.

    Attributes:
        kind: as GGUF names it.
        draw: gives uint8 [blocks, bytes of 256 weights] for so many columns.
        head: the type of embedding and output beside it.
    """

    kind: GGMLQuantizationType
    draw: Callable[[np.random.Generator, int, int], Blocks]
    head: str = "Q6_K"


TYPES: Final[Mapping[str, WeightType]] = {
    "TQ2_0": WeightType(GGMLQuantizationType.TQ2_0, random_tq2_0),
    "TQ1_0": WeightType(GGMLQuantizationType.TQ1_0, random_tq1_0),
    "Q4_0": WeightType(GGMLQuantizationType.Q4_0, random_q4_0),
    "Q8_0": WeightType(GGMLQuantizationType.Q8_0, random_q8_0),
    "F16": WeightType(GGMLQuantizationType.F16, random_ternary_f16, head="F16 table"),
}
HEADS: Final[Mapping[str, WeightType]] = {
    "Q6_K": WeightType(GGMLQuantizationType.Q6_K, random_q6_k),
    "F16 table": WeightType(GGMLQuantizationType.F16, random_f16),
}


class Tensor(NamedTuple):
    """A tensor of a GGUF; rows is 0 and stored is None for a vector of float32."""

    name: str
    rows: int
    columns: int
    stored: WeightType | None


def tensors(config: Mapping[str, Any], linear: WeightType) -> Iterator[Tensor]:
    """Lists the tensors of a llama GGUF."""
    head = HEADS[linear.head]
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    q_width = config["num_attention_heads"] * config["head_dim"]
    kv_width = config["num_key_value_heads"] * config["head_dim"]
    yield Tensor("token_embd.weight", config["vocab_size"], hidden, head)
    for layer in range(config["num_hidden_layers"]):
        for name, rows, columns in (
            ("attn_norm", 0, hidden),
            ("attn_q", q_width, hidden),
            ("attn_k", kv_width, hidden),
            ("attn_v", kv_width, hidden),
            ("attn_output", hidden, q_width),
            ("ffn_norm", 0, hidden),
            ("ffn_gate", intermediate, hidden),
            ("ffn_up", intermediate, hidden),
            ("ffn_down", hidden, intermediate),
        ):
            yield Tensor(f"blk.{layer}.{name}.weight", rows, columns, linear if rows else None)
    yield Tensor("output_norm.weight", 0, hidden, None)
    if not config.get("tie_word_embeddings"):
        yield Tensor("output.weight", config["vocab_size"], hidden, head)


def add_vocabulary(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    """Adds a SentencePiece-like vocabulary: three control tokens, 256 bytes, numbered words."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    words = vocab_size - len(tokens)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens + [f"\u2581w{index}" for index in range(words)])
    writer.add_token_scores([0.0] * len(tokens) + [-float(index) for index in range(words)])
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * words)


def write_gguf(
    path: Path, config: Mapping[str, Any], weight_type: str = "TQ2_0", seed: int = 0
) -> None:
    """Writes a model of random blocks, streaming: only a pool of them is in memory, and repeated.

    Args:
        path: file to make; written beside it first and renamed when complete.
        config: decoder config; the widths must be multiples of 256.
        weight_type: of the linears, a name of `TYPES`.
        seed: of the random blocks.
    """
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_name(path.stem)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{weight_type}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config.get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(config["vocab_size"])
    add_vocabulary(writer, config["vocab_size"])
    listed = list(tensors(config, TYPES[weight_type]))
    for name, rows, columns, stored in listed:
        if stored is None:
            writer.add_tensor_info(name, (columns,), np.dtype(np.float32), 4 * columns)
            continue
        row_bytes = columns // BLOCK_SIZE * block_bytes(stored)
        if stored.kind == GGMLQuantizationType.F16:  # it gives its shape in elements
            writer.add_tensor_info(name, (rows, columns), np.dtype(np.float16), rows * row_bytes)
        else:
            shape, dtype, size = (rows, row_bytes), np.dtype(np.uint8), rows * row_bytes
            writer.add_tensor_info(name, shape, dtype, size, stored.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()

    # GGUFWriter takes a tensor as one array; appending slices keeps 13B's head out of memory.
    rng = np.random.default_rng(seed)
    pools: dict[tuple[WeightType, int], Blocks] = {}
    with part.open("ab") as file:
        for _, rows, columns, stored in listed:
            file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
            if stored is None:
                file.write(np.ones(columns, np.float32).tobytes())
                continue
            if (stored, columns) not in pools:
                pools[stored, columns] = stored.draw(rng, POOL_BLOCKS, columns)
            pool, left = pools[stored, columns], rows * columns // BLOCK_SIZE
            first = int(rng.integers(POOL_BLOCKS))  # tensors begin at different blocks
            while left:
                written = pool[first : first + left]
                file.write(written.tobytes())
                left, first = left - len(written), 0
        file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
    part.replace(path)


def block_bytes(stored: WeightType) -> int:
    """Bytes of 256 weights."""
    weights, size = gguf.GGML_QUANT_SIZES[stored.kind]
    return BLOCK_SIZE // weights * size


def model_path(shape: str, weight_type: str, cache: Path) -> Path:
    """Finds the GGUF of a named shape in a cache folder, and makes it if it is not there yet.

    Args:
        shape: a name of `shapes.py`.
        weight_type: of the linears, a name of `TYPES`.
        cache: folder of the files.

    Returns:
        Path of the file.
    """
    path = cache / f"random-{shape}-{weight_type}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(path, decoder_config(shape), weight_type)
    return path


def main() -> None:
    """Makes the files named on the command line and prints where they are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("shapes", nargs="+", choices=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--type", default="TQ2_0", choices=list(TYPES), help="of the linears")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    for shape in arguments.shapes:
        print(model_path(shape, arguments.type, arguments.cache))


if __name__ == "__main__":
    main()
