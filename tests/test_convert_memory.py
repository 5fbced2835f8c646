"""Converting needs blocks of rows, not tensors: measured in a process of its own."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import LLAMA

from bitnet_py import _core
from bitnet_py.convert.formats import Entry
from bitnet_py.convert.writer import SafetensorsWriter

SIZES = {"vocab_size": 32000, "hidden_size": 1536, "intermediate_size": 8192,
         "num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 128}  # fmt: skip
ALLOWED_BYTES = 90e6  # the largest tensor has 98 MB; widened to float32, 197 MB

CONVERT = """
import json, pathlib, sys
from bitnet_py.convert import convert

def resident(field):
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(field + ":")[2].split()[0])

source, out, method, scale = sys.argv[1:]
before = resident("VmRSS")
convert(source, out, method=method, scale=scale or None, threads=2)
print(resident("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 MB in bfloat16, three shards."""
    folder = tmp_path_factory.mktemp("large")
    config = LLAMA | SIZES
    (folder / "config.json").write_text(json.dumps(config))
    decoder = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    entries = [Entry(s.name, "BF16", s.shape) for s in _core.tensor_specs(decoder)]
    normal = np.random.default_rng(0).standard_normal(1 << 20, np.float32)
    piece = (normal.view(np.uint32) >> 16).astype(np.uint16)
    with SafetensorsWriter(folder, [[entry] for entry in entries], 150_000_000) as writer:
        for entry in entries:
            count = math.prod(entry.shape)
            for begin in range(0, count, len(piece)):
                writer.append(entry.name, piece[: count - begin])
        writer.finish()
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize(
    ("method", "scale"), [("absmean", "tensor"), ("absmean", "group"), ("f32", "")]
)
def test_peak_memory(tmp_path: Path, source: Path, method: str, scale: str) -> None:
    sizes = [path.stat().st_size for path in source.glob("*.safetensors")]
    assert len(sizes) == 3
    command = [sys.executable, "-c", CONVERT, source, tmp_path / "out", method, scale]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(printed) < ALLOWED_BYTES < sum(sizes) / 3
