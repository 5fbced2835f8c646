"""Packing against the bit diagrams, written down here once more, independently of the C++."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import quantize_int6, unpack_int6

from bitnet_py import _core

SHAPES = [(1, 1), (31, 7), (32, 8), (33, 9), (64, 4), (97, 131), (172, 64), (640, 256)]
EPS32 = np.finfo(np.float32).eps


def ternary(n: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, (n, k)).astype(np.int8)


def ternary2_by_diagram(t: np.ndarray) -> np.ndarray:
    """Tile of 32 rows x 4 columns: byte 4*i+j holds column j of rows i, i+8, i+16, i+24."""
    n, k = t.shape
    codes = np.ones((-(-n // 32) * 32, -(-k // 8) * 8), np.uint8)
    codes[:n, :k] = t + 1
    panels, tiles = codes.shape[0] // 32, codes.shape[1] // 4
    fields = codes.reshape(panels, 4, 8, tiles, 4)  # panel, field, i, tile, j
    out = np.zeros((panels, 8, tiles, 4), np.uint8)
    for field in range(4):
        out |= fields[:, field] << np.uint8(2 * field)
    return out.transpose(0, 2, 1, 3).reshape(panels, tiles, 32)


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_ternary2_follows_the_diagram_and_comes_back(n: int, k: int) -> None:
    t = ternary(n, k)
    packed = _core.pack_ternary2(t)
    assert packed.shape == _core.packed_shape("ternary2", n, k)
    np.testing.assert_array_equal(packed, ternary2_by_diagram(t))
    np.testing.assert_array_equal(_core.unpack_ternary2(packed, n, k), t)


def trits5_by_diagram(t: np.ndarray) -> np.ndarray:
    """Five tiles in four: byte p of stored tile f = base-3 number of tile f's byte p + 84 * d."""
    stored = []
    for panel in ternary2_by_diagram(t):
        quintets = len(panel) // 5
        for quintet in panel[: 5 * quintets].reshape(quintets, 5, 32):
            for f in range(4):
                codes = [quintet[f] >> shift & 3 for shift in (0, 2, 4, 6)]
                d = quintet[4] >> 2 * f & 3
                stored.append(codes[0] + 3 * codes[1] + 9 * codes[2] + 27 * codes[3] + 84 * d)
        stored.extend(panel[5 * quintets :])
    return np.array(stored, np.uint8).reshape(-(-len(t) // 32), -1, 32)


@pytest.mark.parametrize(("n", "k"), [*SHAPES, (32, 20), (33, 21), (5, 40), (40, 152)])
def test_trits5_follows_the_diagram_and_comes_back(n: int, k: int) -> None:
    t = ternary(n, k)
    packed = _core.pack_trits5(t)
    assert packed.shape == _core.packed_shape("trits5", n, k)
    np.testing.assert_array_equal(packed, trits5_by_diagram(t))
    np.testing.assert_array_equal(_core.unpack_trits5(packed, n, k), t)


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_int8_follows_the_diagram_and_comes_back(n: int, k: int) -> None:
    codes = np.random.default_rng(1).integers(-127, 128, (n, k)).astype(np.int8)
    packed = _core.pack_int8(codes)
    padded = np.zeros((-(-n // 8) * 8, -(-k // 8) * 8), np.int8)
    padded[:n, :k] = codes
    tiles = padded.reshape(padded.shape[0] // 8, 8, -1, 4).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(packed.view(np.int8), tiles.reshape(packed.shape))
    np.testing.assert_array_equal(_core.unpack_int8(packed, n, k), codes)


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_int6_follows_the_diagram_and_comes_back(n: int, k: int) -> None:
    codes = np.random.default_rng(1).integers(-32, 32, (n, k)).astype(np.int8)
    packed = _core.pack_int6(codes)
    assert packed.shape == _core.packed_shape("int6", n, k) == (-(-n // 32), -(-k // 8) * 2, 96)
    np.testing.assert_array_equal(unpack_int6(packed, n, k), codes)
    np.testing.assert_array_equal(_core.unpack_int6(packed, n, k), codes)
    padded = unpack_int6(packed, packed.shape[0] * 32, packed.shape[1] * 4)
    assert not padded[n:].any()
    assert not padded[:, k:].any()


def test_the_64_codes_of_int6_lie_where_the_header_says() -> None:
    """Row 24 is spread over the high bits of rows 0, 8 and 16."""
    codes = np.full((32, 4), -32, np.int8)
    codes[[0, 8, 16, 24], 2] = [1 - 32, 2 - 32, 3 - 32, 0b011011 - 32]
    tile = _core.pack_int6(codes)[0, 0]
    assert tile[[2, 34, 66]].tolist() == [0b01_000001, 0b10_000010, 0b11_000011]
    assert tile.sum() == tile[[2, 34, 66]].sum()


@pytest.mark.parametrize("bad", [-33, 32, 127, -128])
def test_values_that_are_not_int6_are_refused_by_place(bad: int) -> None:
    codes = np.zeros((5, 6), np.int8)
    codes[3, 4] = bad
    with pytest.raises(ValueError, match=rf"\[-32, 31\], got {bad} at row 3, column 4"):
        _core.pack_int6(codes)


@pytest.mark.parametrize("bad", [-2, 2, 127, -128])
def test_values_that_are_not_ternary_are_refused_by_place(bad: int) -> None:
    t = ternary(5, 6)
    t[3, 4] = bad
    for pack in (_core.pack_ternary2, _core.pack_trits5):
        with pytest.raises(ValueError, match=rf"{pack.__name__}.* got {bad} at row 3, column 4"):
            pack(t)


def test_int8_has_no_code_for_minus_128() -> None:
    codes = np.zeros((2, 3), np.int8)
    codes[1, 2] = -128
    with pytest.raises(ValueError, match="-128 at row 1, column 2"):
        _core.pack_int8(codes)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2), np.int16), "dtype int8"),
        (np.zeros(4, np.int8), "2 dimensions"),
        (np.zeros((4, 4), np.int8)[:, ::2], "C-contiguous"),
        ([[0, 1]], "numpy array"),
    ],
)
def test_arrays_of_another_kind_are_refused(array: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.pack_ternary2(array)  # type: ignore[arg-type]


def test_unpack_checks_the_shape() -> None:
    with pytest.raises(ValueError, match=r"expected packed of shape \[2, 2, 32\]"):
        _core.unpack_ternary2(np.zeros((1, 2, 32), np.uint8), 33, 8)


def absmean(w: np.ndarray, gamma: np.float32) -> np.ndarray:
    inverse = np.float32(1) / gamma
    return np.clip(np.rint(w * inverse), -1, 1).astype(np.int8)


def test_absmean_is_the_paper_s_formula() -> None:
    w = np.random.default_rng(2).normal(size=(37, 301)).astype(np.float32)
    sums = _core.absmean_row_sums(w)
    np.testing.assert_allclose(sums, np.abs(w).sum(1, dtype=np.float64), rtol=1e-13)
    gamma = np.float32(_core.absmean_scale(float(sums.sum()), w.size))
    assert gamma == np.float32(np.abs(w).mean(dtype=np.float64))
    t = _core.absmean_quantize(w, float(gamma))
    np.testing.assert_array_equal(t, absmean(w, gamma))
    rows = (sums / w.shape[1]).astype(np.float32)
    expected = np.stack([absmean(row, g) for row, g in zip(w, rows, strict=True)])
    np.testing.assert_array_equal(_core.absmean_quantize(w, rows), expected)


def test_halves_round_to_even() -> None:
    """W / gamma of exactly 0.5 becomes 0 and 1.5 becomes 2, clipped to 1."""
    w = np.array([[0.5, -0.5, 1.5, -1.5, 0.50001]], np.float32)
    np.testing.assert_array_equal(_core.absmean_quantize(w, 1.0), [[0, 0, 1, -1, 1]])


def test_a_zero_tensor_has_the_smallest_scale() -> None:
    assert np.float32(_core.absmean_scale(0.0, 10)) == np.float32(1e-5)


@pytest.mark.parametrize("k", [1, 127, 128, 129, 300])
@pytest.mark.parametrize("round_f16", [True, False])
def test_absmean_groups(k: int, round_f16: bool) -> None:
    w = np.random.default_rng(3).normal(size=(5, k)).astype(np.float32) * np.float32(0.02)
    t, scale = _core.absmean_quantize_groups(w, round_f16=round_f16)
    assert scale.shape == (5, -(-k // 128))
    for row in range(5):
        for group, begin in enumerate(range(0, k, 128)):
            part = w[row, begin : begin + 128]
            gamma = np.float32(np.abs(part).mean(dtype=np.float64))
            if round_f16:
                gamma = np.float32(np.float16(gamma))
            assert scale[row, group] == gamma
            np.testing.assert_array_equal(t[row, begin : begin + 128], absmean(part, gamma))


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_positive_and_finite(gamma: float) -> None:
    with pytest.raises(ValueError, match="positive finite gamma"):
        _core.absmean_quantize(np.ones((1, 1), np.float32), gamma)


def test_int8_rows() -> None:
    w = np.random.default_rng(4).normal(size=(9, 50)).astype(np.float32)
    w[3] = 0
    codes, scale = _core.quantize_int8_rows(w)
    expected = np.abs(w).max(1) / np.float32(127)
    np.testing.assert_array_equal(scale, expected)
    assert scale[3] == 0
    assert not codes[3].any()
    assert codes.min() >= -127
    # Half a step, and the rounding of w / scale.
    error = np.abs(codes * scale[:, None] - w)
    assert (error <= scale[:, None] * np.float32(0.5) + np.abs(w) * 4 * EPS32).all()


@pytest.mark.parametrize("k", [1, 31, 32, 33, 300])
@pytest.mark.parametrize("magnitude", [1e-7, 1e-3, 1.0, 1e4])
def test_int6_groups_equal_the_oracle(k: int, magnitude: float) -> None:
    w = np.random.default_rng(5).standard_t(4, (37, k)).astype(np.float32) * np.float32(magnitude)
    w[3] = 0
    w[4, 0] *= 50  # an outlier
    codes, scale = _core.quantize_int6_groups(w)
    expected_codes, expected_scale = quantize_int6(w)
    np.testing.assert_array_equal(scale, expected_scale)
    np.testing.assert_array_equal(codes, expected_codes)
    assert not codes[3].any()
    assert not scale[3].any()
    assert (scale == scale.astype(np.float16)).all()


def test_int6_scales_are_better_than_the_largest_weight_s() -> None:
    w = np.random.default_rng(6).normal(size=(64, 256)).astype(np.float32)
    codes, scale = _core.quantize_int6_groups(w)
    error = np.square(w - codes * np.repeat(scale, 32, axis=1)).sum()
    absmax = np.repeat(np.abs(w.reshape(64, 8, 32)).max(2) / np.float32(31), 32, axis=1)
    assert error < 0.9 * np.square(w - np.rint(w / absmax) * absmax).sum()
    assert error < 0.0005 * np.square(w).sum()


def test_int6_refuses_what_float16_scales_cannot_hold() -> None:
    with pytest.raises(ValueError, match="fits float16"):
        _core.quantize_int6_groups(np.full((1, 40), 2e6, np.float32))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 100), k=st.integers(1, 100), seed=st.integers(0, 2**32 - 1))
def test_int6_of_any_shape_comes_back(n: int, k: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(-32, 32, (n, k)).astype(np.int8)
    np.testing.assert_array_equal(_core.unpack_int6(_core.pack_int6(codes), n, k), codes)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 100), k=st.integers(1, 100), seed=st.integers(0, 2**32 - 1))
def test_any_shape_comes_back(n: int, k: int, seed: int) -> None:
    t = ternary(n, k, seed)
    np.testing.assert_array_equal(_core.unpack_ternary2(_core.pack_ternary2(t), n, k), t)
    np.testing.assert_array_equal(_core.unpack_trits5(_core.pack_trits5(t), n, k), t)


def test_the_format_table_fits_the_shapes() -> None:
    bits = {"ternary2": 2, "trits5": 1.6, "int8": 8, "int6": 6}
    for info in _core.formats():
        shape = _core.packed_shape(info.name, 33, 75)
        if info.packed:
            assert shape[0] * info.panel_rows >= 33
            assert int(np.prod(shape)) * 8 == shape[0] * info.panel_rows * 80 * bits[info.name]
        else:
            assert shape == (33, 75)
    assert _core.scale_shape("ternary2", "group", 33, 129) == (2, 64)
    assert _core.scale_shape("ternary2", "row", 33, 129) == (64,)
    assert _core.scale_shape("ternary2", "tensor", 33, 129) == (1,)
    assert _core.scale_shape("int6", "group", 33, 129) == (2, 5, 32)
    with pytest.raises(ValueError, match="expected one of f32, f16"):
        _core.packed_shape("ternary3", 1, 1)
