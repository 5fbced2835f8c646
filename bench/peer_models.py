"""Random ternary models in the peers' file format, one for each shape that the benches name.

Owns: GGUF files (arch `llama`, linears TQ2_0, embedding and output head Q6_K) whose blocks are
drawn at random: speed does not depend on the values, so no float model is made and nothing is
quantized. Does not own: the sizes (`shapes.py`), running the files (`peer_llama_cpp.py`), nor
converting real models (`bitnet_py.convert`). A shape's sub-norms and activation are left out:
the products are the same.

    python -m bench.peer_models 700M 2B4T --cache DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from bench.shapes import SHAPES, decoder_config

__all__ = ["DEFAULT_CACHE", "model_path", "write_gguf"]

DEFAULT_CACHE: Final = Path("~/.cache/bitnet_py/bench")
BLOCK_SIZE: Final = 256  # weights in a block of TQ2_0 and of Q6_K
ROWS_AT_ONCE: Final = 4096  # what is drawn at a time: 23 MB at 7B's width
TQ2_0: Final = GGMLQuantizationType.TQ2_0
Q6_K: Final = GGMLQuantizationType.Q6_K


def random_tq2_0(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    """Draws TQ2_0 blocks: codes 0..2 four to a byte, then a float16 scale, the same in all blocks.

    Args:
        rng: source of the codes.
        rows: output features.
        columns: input features, a multiple of 256.

    Returns:
        uint8 [rows, columns / 256 * 66].
    """
    digits = np.indices((3, 3, 3, 3), dtype=np.uint8).reshape(4, 81)
    valid = digits[0] | digits[1] << 2 | digits[2] << 4 | digits[3] << 6
    blocks = np.empty((rows, columns // BLOCK_SIZE, 66), np.uint8)
    blocks[..., :64] = valid[rng.integers(0, 81, blocks[..., :64].shape, np.uint8)]
    # Two thirds of the weights are not zero: this scale keeps the variance of what goes through.
    blocks[..., 64:] = np.array([(1.5 / columns) ** 0.5], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def random_q6_k(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    """Draws Q6_K blocks: 192 bytes of 6-bit codes, 16 int8 scales, a float16 scale.

    Args:
        rng: source of codes and int8 scales (any byte is valid).
        rows: vocabulary entries.
        columns: hidden size, a multiple of 256.

    Returns:
        uint8 [rows, columns / 256 * 210]; the weights' standard deviation is about 0.08.
    """
    shape = (rows, columns // BLOCK_SIZE, 210)
    blocks = np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape).copy()
    blocks[..., 208:] = np.array([2.0**-14], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, int, int, GGMLQuantizationType]]:
    """Lists the tensors of a llama GGUF as (name, rows, columns, type); rows is 0 for vectors."""
    f32 = GGMLQuantizationType.F32
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    q_width = config["num_attention_heads"] * config["head_dim"]
    kv_width = config["num_key_value_heads"] * config["head_dim"]
    yield "token_embd.weight", config["vocab_size"], hidden, Q6_K
    for layer in range(config["num_hidden_layers"]):
        for name, rows, columns, kind in (
            ("attn_norm", 0, hidden, f32),
            ("attn_q", q_width, hidden, TQ2_0),
            ("attn_k", kv_width, hidden, TQ2_0),
            ("attn_v", kv_width, hidden, TQ2_0),
            ("attn_output", hidden, q_width, TQ2_0),
            ("ffn_norm", 0, hidden, f32),
            ("ffn_gate", intermediate, hidden, TQ2_0),
            ("ffn_up", intermediate, hidden, TQ2_0),
            ("ffn_down", hidden, intermediate, TQ2_0),
        ):
            yield f"blk.{layer}.{name}.weight", rows, columns, kind
    yield "output_norm.weight", 0, hidden, f32
    if not config.get("tie_word_embeddings"):
        yield "output.weight", config["vocab_size"], hidden, Q6_K


def add_vocabulary(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    """Adds a SentencePiece-like vocabulary: three control tokens, 256 bytes, numbered words."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    words = vocab_size - len(tokens)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens + [f"\u2581w{index}" for index in range(words)])
    writer.add_token_scores([0.0] * len(tokens) + [-float(index) for index in range(words)])
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * words)


def write_gguf(path: Path, config: Mapping[str, Any], seed: int = 0) -> None:
    """Writes a model of random blocks, streaming: only a slice of one tensor is in memory.

    Args:
        path: file to make; written beside it first and renamed when complete.
        config: decoder config; the widths must be multiples of 256.
        seed: of the random blocks.
    """
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_name(path.stem)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_TQ2_0)
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
    for name, rows, columns, kind in tensors(config):
        if rows:
            row_bytes = columns // BLOCK_SIZE * gguf.GGML_QUANT_SIZES[kind][1]
            shape, dtype, size = (rows, row_bytes), np.dtype(np.uint8), rows * row_bytes
            writer.add_tensor_info(name, shape, dtype, size, kind)
        else:
            writer.add_tensor_info(name, (columns,), np.dtype(np.float32), 4 * columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()

    # GGUFWriter takes a tensor as one array; appending slices keeps 13B's head out of memory.
    draw: dict[GGMLQuantizationType, Callable[..., NDArray[np.uint8]]]
    draw = {TQ2_0: random_tq2_0, Q6_K: random_q6_k}
    rng = np.random.default_rng(seed)
    with part.open("ab") as file:
        for _, rows, columns, kind in tensors(config):
            file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
            if not rows:
                file.write(np.ones(columns, np.float32).tobytes())
            for first in range(0, rows, ROWS_AT_ONCE):
                file.write(draw[kind](rng, min(ROWS_AT_ONCE, rows - first), columns).tobytes())
        file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
    part.replace(path)


def model_path(shape: str, cache: Path = DEFAULT_CACHE) -> Path:
    """Finds the GGUF of a named shape in a cache folder, and makes it if it is not there yet.

    Args:
        shape: a name of `shapes.py`.
        cache: folder of the files.

    Returns:
        Path of the file.
    """
    path = cache.expanduser() / f"random-{shape}-TQ2_0.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(path, decoder_config(shape))
    return path


def main() -> None:
    """Makes the files named on the command line and prints where they are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("shapes", nargs="+", choices=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR")
    arguments = parser.parse_args()
    for shape in arguments.shapes:
        path = model_path(shape, arguments.cache)
        print(f"{path} ({path.stat().st_size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
