"""The converter's smaller parts: module patterns, float bits, verdicts."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from bitnet_py.convert import ConversionReport, Verification
from bitnet_py.convert.block_pool import BlockPool, row_blocks
from bitnet_py.convert.float_bits import from_float32, is_finite, to_float32
from bitnet_py.convert.module_patterns import check_patterns, matches_module
from bitnet_py.convert.verdict import quality_warnings, verdict

MODULES = ("lm_head", "model.layers.1.mlp.down_proj", "model.layers.11.mlp.up_proj", "model.norm")


@pytest.mark.parametrize(
    "pattern",
    ["lm_head", "lm", "model.layers.1", "model.layers.1.", "layers.1", "model.layers.*.mlp",
     "model.layers.1.*", "down_proj", "proj", "mlp.down", "model.*proj", "model", "norm"],
)  # fmt: skip
def test_patterns_mean_what_they_mean_to_transformers(pattern: str) -> None:
    quantizers = pytest.importorskip("transformers.quantizers.quantizers_utils")
    check_patterns([pattern])
    for module in MODULES:
        theirs = not quantizers.should_convert_module(module, [pattern])
        assert matches_module(module, [pattern]) == theirs, module


@pytest.mark.parametrize("pattern", ["", "*", "*.mlp", "(a|b)", "a+", "[ab]", "a**", "a*b*c*d*e"])
def test_patterns_that_could_run_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        check_patterns([pattern])


EDGES = [0.0, -0.0, 1.0, -1.0, 65504.0, 65519.0, 65520.0, 1e-8, 3.3895314e38, 1.00390625,
         1.01171875, 2.0**-24, 2.0**-25, 1e-45]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "torch_dtype"),
    [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)],
)
def test_floats_round_as_in_torch(dtype: str, torch_dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([EDGES, rng.standard_normal(1000) * 10.0 ** rng.integers(-6, 5, 1000)])
    values = values.astype(np.float32)
    stored = from_float32(values, dtype)
    expected = torch.from_numpy(values).to(torch_dtype)
    assert np.array_equal(stored.view(np.uint8), expected.view(torch.uint8).numpy())
    widened = to_float32(stored, dtype)
    assert np.array_equal(widened, expected.float().numpy())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, -2.0], True),
        ([3e38, 3e38], True),  # their sum is infinite, they are not
        ([1.0, math.nan], False),
        ([math.inf, -math.inf], False),
    ],
)
def test_is_finite(values: list[float], expected: bool) -> None:
    assert is_finite(np.array(values, np.float32)) == expected


@pytest.mark.parametrize("n_rows", [1, 31, 32, 33, 1000])
@pytest.mark.parametrize("n_cols", [1, 100_000, 10_000_000])
def test_blocks_cover_all_rows(n_rows: int, n_cols: int) -> None:
    blocks = list(row_blocks(n_rows, n_cols, 32))
    assert blocks[0][0] == 0
    assert blocks[-1][1] == n_rows
    assert all(one[1] == two[0] for one, two in pairwise(blocks))
    assert all(begin % 32 == 0 for begin, _ in blocks)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_pool_keeps_order_and_passes_errors_on(threads: int) -> None:
    blocks = [(i, i + 1) for i in range(50)]
    with BlockPool(threads) as pool:
        found = list(pool.map(lambda begin, end: begin * end, blocks))
        assert found == [i * (i + 1) for i in range(50)]
        with pytest.raises(ZeroDivisionError):
            list(pool.map(lambda begin, end: end // (begin - 20), blocks))


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (0.5, "better than its dense form"),
        (1.0, "as good as"),
        (1.01, "nearly as good"),
        (1.05, "a little worse"),
        (1.3, "clearly worse"),
        (2.5, "much worse"),
        (100.0, "broken"),
        (math.inf, "broken"),
        (math.nan, "broken"),
    ],
)
def test_verdicts(ratio: float, words: str) -> None:
    assert words in verdict(ratio)


def test_infinite_perplexity_is_still_json() -> None:
    verification = Verification(
        text="t", tokens=1, source_perplexity=2.0, perplexity=math.inf, perplexity_ratio=math.inf,
        top1_agreement=0.0, verdict="broken",
    )  # fmt: skip
    report = ConversionReport(
        source="s", out="o", dry_run=False, model_type="llama", method="auto", scale="tensor",
        head="int8", n_parameters=1, n_bytes=1, bits_per_weight=8.0, linear_bits_per_weight=2.0,
        weight_error=None, matrices=(), notes=(), warnings=(), verification=verification,
        seconds=0.0,
    )  # fmt: skip
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))["verification"]
    assert found["perplexity"] is None
    assert found["source_perplexity"] == 2


def test_advice_names_only_what_exists() -> None:
    (warning,) = quality_warnings(3, 7, 0.5, is_verified=False)
    assert "3 of 7" in warning
    assert "50%" in warning
    assert "--method bf16" in warning
    assert "ptq" not in warning
    assert quality_warnings(0, 7, None, is_verified=False) == ()
