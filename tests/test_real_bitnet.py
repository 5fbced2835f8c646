"""A real BitNet b1.58 model, linear by linear: our integers against what transformers computes.

Whole models differ in the last bits of floats and may flip the rounding of an activation, so only
equal inputs prove the operation. The inputs of all linears are recorded from transformers, float32.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet_py import _core

DATA = os.environ.get("BITNET_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="BITNET_TEST_DATA is not set")
FOLDER = Path(DATA or ".") / "models" / "bitllama1M"


@pytest.fixture(scope="module")
def recorded() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Linear -> (its input [T, K], its ternary weight [N, K]), from a forward pass over a story."""
    import torch
    from transformers import AutoTokenizer, BitNetForCausalLM

    torch.manual_seed(0)
    model = BitNetForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    inputs: dict[str, np.ndarray] = {}

    def record(name: str) -> Any:
        def hook(_module: Any, args: tuple[torch.Tensor, ...]) -> None:
            inputs[name] = args[0][0].numpy().copy()

        return hook

    linears = {n: m for n, m in model.named_modules() if n.endswith("_proj")}
    for name, module in linears.items():
        module.register_forward_pre_hook(record(name))
    text = (Path(DATA or ".") / "text" / "tinystories_valid.txt").read_text()[:1500]
    ids = AutoTokenizer.from_pretrained(FOLDER)(text, return_tensors="pt").input_ids[:, :400]
    with torch.no_grad():
        model(ids)
    return {n: (inputs[n], m.weight.detach().numpy().astype(np.int8)) for n, m in linears.items()}


def test_the_recording_is_whole(recorded: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert len(recorded) == 7 * config["num_hidden_layers"] == 56
    assert all(len(x) > 300 for x, _ in recorded.values())
    assert all(set(np.unique(t)) == {-1, 0, 1} for _, t in recorded.values())


@pytest.mark.parametrize("isa", _core.available_isas())
def test_integers_equal_transformers_in_every_linear(
    isa: str, recorded: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    import torch

    kernels = _core.Kernels(isa, threads=2)
    for name, (x, t) in recorded.items():
        n, k = t.shape
        # transformers' own rule (integrations/bitnet.py, ActQuant), kept as integers.
        rows = torch.from_numpy(x)
        scale = 127 / rows.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        expected_q = (rows * scale).round().clamp(-128, 127).to(torch.int8).numpy()
        q, act_scale, _ = kernels.quantize_act(x)
        np.testing.assert_array_equal(q[:, :k], expected_q, err_msg=name)
        np.testing.assert_allclose(act_scale, 1 / scale.numpy()[:, 0], rtol=2**-22)
        sums = kernels.dot("ternary2", _core.pack_ternary2(t), n, k, expected_q)
        expected = expected_q.astype(np.int64) @ t.T.astype(np.int64)
        np.testing.assert_array_equal(sums, expected, err_msg=name)
