"""Dense products, quantization of activations, norm, RoPE and activations of every kernel table."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kernel_cases import ISAS, SHAPES, THREADS, TOKENS, calls, random_x

from bitnet_py import _core

LENGTHS = [1, 3, 7, 8, 9, 31, 33, 127, 128, 129, 640, 2561]


def as_dense(w: np.ndarray, format_name: str) -> tuple[np.ndarray, np.ndarray]:
    """float32 -> (as stored, the float32 values that it stands for)."""
    if format_name == "f32":
        return w, w
    if format_name == "f16":
        half = w.astype(np.float16)
        return half, half.astype(np.float32)
    bits = np.ascontiguousarray(w.view(np.uint16)[:, 1::2])
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("format_name", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_dense_linear(isa: str, shape: tuple[int, int], format_name: str) -> None:
    """Right within float32's rounding, and the same bits for any number of tokens and threads."""
    n, k = shape
    w = np.random.default_rng(0).standard_normal((n, k)).astype(np.float32)
    stored, values = as_dense(w, format_name)
    x = random_x(max(TOKENS), k)
    every = _core.Kernels(isa).linear(format_name, stored, None, "none", n, k, x)
    expected, tolerance = reference.dense(x, values)
    assert (np.abs(every - expected) <= tolerance).all()
    for tokens, threads in calls():
        kernels = _core.Kernels(isa, threads)
        got = kernels.linear(format_name, stored, None, "none", n, k, x[:tokens])
        np.testing.assert_array_equal(got, every[:tokens], f"{tokens} tokens, {threads} threads")


@pytest.mark.parametrize("k", LENGTHS)
@pytest.mark.parametrize("isa", ISAS)
def test_quantize_act_is_the_rule_bit_by_bit(isa: str, k: int) -> None:
    x = random_x(6, k)
    x[0] = 0  # the smallest scale
    x[1] = np.resize(np.arange(-127, 128, dtype=np.float32) / 2, k)  # halves round to even
    q, scale, group_sum = reference.quantize_act(x)
    for threads in THREADS:
        got_q, got_scale, got_sum = _core.Kernels(isa, threads).quantize_act(x)
        np.testing.assert_array_equal(got_q[:, :k], q)
        np.testing.assert_array_equal(got_q[:, k:], 0)
        np.testing.assert_array_equal(got_scale, scale)
        np.testing.assert_array_equal(got_sum, group_sum)


@pytest.mark.parametrize("isa", ISAS)
@given(
    x=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 300)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
@settings(max_examples=50, deadline=None)
def test_quantize_act_of_any_finite_row(isa: str, x: np.ndarray) -> None:
    expected = reference.quantize_act(x)
    got = _core.Kernels(isa).quantize_act(x)
    np.testing.assert_array_equal(got[0][:, : x.shape[1]], expected[0])
    for part in (1, 2):
        np.testing.assert_array_equal(got[part], expected[part])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("isa", ISAS)
def test_a_row_that_is_not_finite_harms_no_other(isa: str, bad: float) -> None:
    x = random_x(3, 300)
    x[1, 133] = bad
    got = _core.Kernels(isa).quantize_act(x)
    expected = reference.quantize_act(x[::2].copy())
    for part, width in zip(range(3), [300, None, None], strict=True):
        rows = got[part][::2] if width is None else got[part][::2, :width]
        np.testing.assert_array_equal(rows, expected[part])


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("isa", ISAS)
def test_rms_norm(isa: str, n: int) -> None:
    x = random_x(5, n)
    weight = np.random.default_rng(5).uniform(-2, 2, n).astype(np.float32)
    expected = reference.rms_norm(x, weight, 1e-5)
    # The sum of squares has n/32 + 8 roundings, of which the root halves the effect; five follow.
    tolerance = reference.EPS / 2 * ((n / 32 + 8) / 2 + 5) * np.abs(expected)
    for threads in THREADS:
        got = _core.Kernels(isa, threads).rms_norm(x, weight, 1e-5)
        assert (np.abs(got - expected) <= tolerance).all()


@pytest.mark.parametrize("head_dim", [2, 6, 16, 18, 64, 80, 128])
@pytest.mark.parametrize("isa", ISAS)
def test_rope_bit_by_bit(isa: str, head_dim: int) -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((5, head_dim)).astype(np.float32)
    angle = rng.uniform(0, 1000, head_dim // 2)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    for threads in THREADS:
        got = _core.Kernels(isa, threads).rope(x, cos, sin)
        np.testing.assert_array_equal(got, reference.rope(x, cos, sin))


@pytest.mark.parametrize("act", ["silu", "relu2", "gelu_tanh"])
@pytest.mark.parametrize("isa", ISAS)
def test_gated_activation(isa: str, act: str) -> None:
    near, far = np.linspace(-12, 12, 4099), np.linspace(-300, 300, 4097)
    gate = np.concatenate([near, far, [0, -0.0, 1e-30, -1e-30]]).astype(np.float32)
    up = np.random.default_rng(7).uniform(0.5, 2, len(gate)).astype(np.float32)
    expected, tolerance = reference.activation(act, gate, up)
    for threads in THREADS:
        got = _core.Kernels(isa, threads).gated_activation(act, gate, up)
        assert (np.abs(got - expected) <= tolerance).all()


@pytest.mark.parametrize("act", ["silu", "relu2", "gelu_tanh"])
@pytest.mark.parametrize("isa", ISAS)
def test_tails_use_the_same_function(isa: str, act: str) -> None:
    """An element's bits do not depend on its place: 5 threads cut 23 elements in odd pieces."""
    gate = np.random.default_rng(8).standard_normal(23).astype(np.float32) * 4
    up = np.ones(23, np.float32)
    whole = _core.Kernels(isa).gated_activation(act, gate, up)
    single = [_core.Kernels(isa).gated_activation(act, gate[i : i + 1], up[:1]) for i in range(23)]
    np.testing.assert_array_equal(whole, np.concatenate(single))
    np.testing.assert_array_equal(whole, _core.Kernels(isa, 5).gated_activation(act, gate, up))


@pytest.mark.parametrize("act", ["silu", "gelu_tanh"])
@pytest.mark.parametrize("isa", ISAS)
def test_activations_at_the_ends(isa: str, act: str) -> None:
    gate = np.array([np.inf, 3e38, -3e38, np.nan], np.float32)
    got = _core.Kernels(isa).gated_activation(act, gate, np.ones(4, np.float32))
    assert got[0] == np.inf
    assert got[2] == 0
    assert np.isnan(got[3])
    assert act != "silu" or got[1] == np.float32(3e38)
