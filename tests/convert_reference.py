"""What the converter must write, told in plain numpy from the documents and not from its code.

Layouts: csrc/packing/*.h, docs/format.md; absmean: arXiv 2402.17764; the packed
checkpoints of Hugging Face: transformers/integrations/bitnet.py.
"""

import json
from pathlib import Path

import numpy as np
import reference
import torch
from safetensors import safe_open

GROUP = 128


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a folder, by safetensors' own library."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors


def quantization_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def decode_ternary2(packed: np.ndarray, n: int, k: int) -> np.ndarray:
    """int8 [n, k] from the bit diagram; padding must be code 1."""
    rows, cols = packed.shape[0] * 32, packed.shape[1] * 4
    row, col = np.arange(rows)[:, None], np.arange(cols)[None, :]
    byte = packed[row // 32, col // 4, 4 * (row % 8) + col % 4]
    code = (byte >> (2 * ((row % 32) // 8))) & 3
    assert (code[n:] == 1).all()
    assert (code[:, k:] == 1).all()
    return code[:n, :k].astype(np.int8) - 1


def decode_int8(packed: np.ndarray, n: int, k: int) -> np.ndarray:
    rows, cols = packed.shape[0] * 8, packed.shape[1] * 4
    row, col = np.arange(rows)[:, None], np.arange(cols)[None, :]
    code = packed[row // 8, col // 4, 4 * (row % 8) + col % 4].view(np.int8)
    assert (code[n:] == 0).all()
    assert (code[:, k:] == 0).all()
    return code[:n, :k]


def absmean(w: np.ndarray, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes int8 [n, k] and scales float32 in the shape of the file without padded rows."""
    n, k = w.shape
    parts = {
        "tensor": [(slice(None), slice(None))],
        "row": [(slice(i, i + 1), slice(None)) for i in range(n)],
        "group": [
            (slice(i, i + 1), slice(j, min(j + GROUP, k)))
            for j in range(0, k, GROUP)
            for i in range(n)
        ],
    }[scale]
    codes, gammas = np.empty((n, k), np.int8), []
    for part in parts:
        mean = np.abs(w[part].astype(np.float64)).mean()
        gamma = max(np.float32(mean), np.float32(1e-5))
        if scale == "group":
            gamma = np.float32(np.float16(gamma))
        codes[part] = np.clip(np.rint(w[part] * (np.float32(1) / gamma)), -1, 1)
        gammas.append(gamma)
    shape = {"tensor": (1,), "row": (n,), "group": (-(-k // GROUP), n)}[scale]
    return codes, np.array(gammas, np.float32).reshape(shape)


def int8_rows(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = np.abs(w).max(axis=1) / np.float32(127)
    codes = np.rint(w / np.where(scale == 0, np.float32(1), scale)[:, None])
    return codes.astype(np.int8), scale.astype(np.float32)


def pack_huggingface(t: np.ndarray) -> np.ndarray:
    """uint8 [n/4, k]: row r + i*n/4 in bits 2i of packed row r."""
    quarter = t.shape[0] // 4
    codes = (t + 1).astype(np.uint8)
    return sum(codes[i * quarter : (i + 1) * quarter] << np.uint8(2 * i) for i in range(4))


def stored_matrix(folder: Path, name: str, n: int, k: int) -> np.ndarray:
    """The float32 weights [n, k] that a converted folder stands for."""
    tensors = read_tensors(folder)
    data = tensors[name]
    if data.dtype != torch.uint8:
        return data.float().numpy()
    scale = tensors[f"{name}_scale"].float().numpy()
    if scale.ndim == 3:
        by_row = scale.swapaxes(1, 2).reshape(-1, scale.shape[1])
        codes = reference.unpack_int6(data.numpy(), n, k)
        return codes * np.repeat(by_row[:n], 32, axis=1)[:, :k]
    decode = decode_ternary2 if data.shape[0] == -(-n // 32) else decode_int8
    codes = decode(data.numpy(), n, k).astype(np.float32)
    if scale.ndim == 2:
        return codes * np.repeat(scale[:, :n].T, GROUP, axis=1)[:, :k]
    return codes * (scale if scale.shape == (1,) else scale[:n, None])
