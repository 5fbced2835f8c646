"""Products with int8 activations: integers equal the oracle, floats the documented formula."""

import ctypes
import mmap

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    ISAS,
    SHAPES,
    TOKENS,
    calls,
    random_acts,
    random_int6,
    random_int8,
    random_ternary2,
    random_trits5,
    random_x,
)

from bitnet_py import _core

FORMATS = {
    "ternary2": (random_ternary2, reference.unpack_ternary2),
    "trits5": (random_trits5, reference.unpack_trits5),
    "int8": (random_int8, reference.unpack_int8),
    "int6": (random_int6, reference.unpack_int6),
}
PANEL_ROWS = {"ternary2": 32, "trits5": 32, "int8": 8, "int6": 32}
GROUP = {"ternary2": 128, "trits5": 128, "int6": 32}
SCALES = ["tensor", "row", "group-f16", "group-f32"]


def as_multiplied(
    kernels: _core.Kernels, format_name: str, packed: np.ndarray, n: int, k: int
) -> tuple[str, np.ndarray]:
    """What a Model multiplies: the stored codes, or trits5 expanded where it has no product."""
    if format_name in kernels.products:
        return format_name, packed
    expanded, is_valid = kernels.expand_trits5(packed, n, k)
    assert is_valid
    return "ternary2", expanded


def random_weight(format_name: str, n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(packed, codes int8 [n, k])."""
    make, unpack = FORMATS[format_name]
    packed = make(n, k, seed)
    return packed, unpack(packed, n, k)


def random_scale(format_name: str, kind: str, n: int, k: int) -> np.ndarray:
    rows = PANEL_ROWS[format_name]
    n_pad = -(-n // rows) * rows
    shape = {"tensor": (1,), "row": (n_pad,)}.get(
        kind, (-(-k // GROUP.get(format_name, 128)), n_pad)
    )
    scale = np.random.default_rng(3).uniform(0.01, 2, shape)
    if format_name == "int6":
        scale = reference.by_panel(scale)
    return scale.astype(np.float16 if kind == "group-f16" else np.float32)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_dot_equals_the_oracle(isa: str, shape: tuple[int, int], format_name: str) -> None:
    n, k = shape
    packed, codes = random_weight(format_name, n, k)
    q = random_acts(max(TOKENS), k)
    expected = reference.dot(q, codes)
    for tokens, threads in calls():
        kernels = _core.Kernels(isa, threads)
        got = kernels.dot(*as_multiplied(kernels, format_name, packed, n, k), n, k, q[:tokens])
        message = f"{tokens} tokens, {threads} threads"
        np.testing.assert_array_equal(got, expected[:tokens], message)


@pytest.mark.parametrize("tokens", [1, 2, 7])
@pytest.mark.parametrize("act", [-128, 127])
@pytest.mark.parametrize("code", [-1, 1])
@pytest.mark.parametrize("format_name", ["ternary2", "trits5"])
@pytest.mark.parametrize("isa", ISAS)
def test_ternary_sums_hold_the_largest_magnitude(
    isa: str, format_name: str, code: int, act: int, tokens: int
) -> None:
    """Codes 2 against -128 fill the 16-bit sums of AVX2 to the last bit."""
    n, k = 33, 1030
    pack = {"ternary2": _core.pack_ternary2, "trits5": _core.pack_trits5}[format_name]
    packed = pack(np.full((n, k), code, np.int8))
    q = np.full((tokens, k), act, np.int8)
    kernels = _core.Kernels(isa)
    got = kernels.dot(*as_multiplied(kernels, format_name, packed, n, k), n, k, q)
    np.testing.assert_array_equal(got, np.full((tokens, n), code * act * k))


@pytest.mark.parametrize("tokens", [1, 2, 7])
@pytest.mark.parametrize("act", [-128, 127])
@pytest.mark.parametrize("code", [-127, 127])
@pytest.mark.parametrize("isa", ISAS)
def test_int8_products_do_not_saturate(isa: str, code: int, act: int, tokens: int) -> None:
    n, k = 17, 1030
    packed = _core.pack_int8(np.full((n, k), code, np.int8))
    q = np.full((tokens, k), act, np.int8)
    got = _core.Kernels(isa).dot("int8", packed, n, k, q)
    np.testing.assert_array_equal(got, np.full((tokens, n), code * act * k))


@pytest.mark.parametrize("format_name", ["ternary2", "trits5"])
@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_ternary_linear_is_the_formula_bit_by_bit(
    isa: str, shape: tuple[int, int], kind: str, format_name: str
) -> None:
    n, k = shape
    packed, codes = random_weight(format_name, n, k)
    scale = random_scale(format_name, kind, n, k)
    kind = kind.partition("-")[0]
    x = random_x(max(TOKENS), k)
    expected = reference.linear(x, codes, scale, kind)
    for tokens, threads in calls():
        kernels = _core.Kernels(isa, threads)
        stored = as_multiplied(kernels, format_name, packed, n, k)
        got = kernels.linear(*stored, scale, kind, n, k, x[:tokens])
        message = f"{tokens} tokens, {threads} threads"
        np.testing.assert_array_equal(got, expected[:tokens], message)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_int8_linear_is_the_formula_bit_by_bit(isa: str, shape: tuple[int, int]) -> None:
    n, k = shape
    packed, codes = random_weight("int8", n, k)
    scale = random_scale("int8", "row", n, k)
    x = random_x(max(TOKENS), k)
    expected = reference.linear(x, codes, scale, "row")
    for tokens in TOKENS:
        got = _core.Kernels(isa, 2).linear("int8", packed, scale, "row", n, k, x[:tokens])
        np.testing.assert_array_equal(got, expected[:tokens], f"{tokens} tokens")


@pytest.mark.parametrize("kind", ["group-f16", "group-f32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_int6_linear_is_the_formula_bit_by_bit(isa: str, shape: tuple[int, int], kind: str) -> None:
    n, k = shape
    packed, codes = random_weight("int6", n, k)
    scale = random_scale("int6", kind, n, k)
    x = random_x(max(TOKENS), k)
    expected = reference.linear(x, codes, scale, "group", 32)
    for tokens, threads in calls():
        kernels = _core.Kernels(isa, threads)
        got = kernels.linear("int6", packed, scale, "group", n, k, x[:tokens])
        message = f"{tokens} tokens, {threads} threads"
        np.testing.assert_array_equal(got, expected[:tokens], message)


@pytest.mark.parametrize("tokens", [1, 2, 7])
@pytest.mark.parametrize("act", [-128, 127])
@pytest.mark.parametrize("code", [-32, 31])
@pytest.mark.parametrize("isa", ISAS)
def test_int6_products_do_not_saturate(isa: str, code: int, act: int, tokens: int) -> None:
    n, k = 33, 1030
    packed = _core.pack_int6(np.full((n, k), code, np.int8))
    q = np.full((tokens, k), act, np.int8)
    got = _core.Kernels(isa).dot("int6", packed, n, k, q)
    np.testing.assert_array_equal(got, np.full((tokens, n), code * act * k))


@pytest.mark.parametrize(
    ("format_name", "code", "k"),
    [
        ("ternary2", 1, 200_000),
        ("trits5", 1, 200_000),
        ("int6", 31, 131_072),
        ("int8", 127, 131_072),
    ],
)
@pytest.mark.parametrize("isa", ISAS)
def test_long_rows_do_not_overflow(isa: str, format_name: str, code: int, k: int) -> None:
    """Codes that stay in their byte, times 4 to 64, fill an int32 before the true sum does."""
    n = 32
    packed = getattr(_core, f"pack_{format_name}")(np.full((n, k), code, np.int8))
    kernels = _core.Kernels(isa)
    stored = as_multiplied(kernels, format_name, packed, n, k)
    for act in (-128, 127):
        for tokens in (1, 2, 5):
            got = kernels.dot(*stored, n, k, np.full((tokens, k), act, np.int8))
            np.testing.assert_array_equal(got, np.full((tokens, n), code * act * k))


def test_int8_rows_longer_than_an_int32_holds_are_refused() -> None:
    n, k = 8, 131_073
    packed = _core.pack_int8(np.full((n, k), 127, np.int8))
    with pytest.raises(ValueError, match="expected k of at most 131072 for int8, got 131073"):
        _core.Kernels().dot("int8", packed, n, k, np.full((1, k), 127, np.int8))


@pytest.mark.parametrize("isa", ISAS)
@given(
    n=st.integers(1, 150),
    k=st.integers(1, 600),
    tokens=st.integers(1, 100),
    threads=st.integers(1, 5),
    format_name=st.sampled_from(sorted(FORMATS)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_dot_of_any_shape(
    isa: str, n: int, k: int, tokens: int, threads: int, format_name: str, seed: int
) -> None:
    packed, codes = random_weight(format_name, n, k, seed)
    q = random_acts(tokens, k, seed)
    kernels = _core.Kernels(isa, threads)
    got = kernels.dot(*as_multiplied(kernels, format_name, packed, n, k), n, k, q)
    np.testing.assert_array_equal(got, reference.dot(q, codes))


@pytest.mark.parametrize("isa", ISAS)
def test_invalid_codes_are_read_without_harm(isa: str) -> None:
    """Code 3 has no meaning, but every byte must be safe; other rows and columns stay right."""
    n, k = 40, 136
    packed, codes = random_weight("ternary2", n, k)
    packed[0, 3, 5] = 0xFF  # columns 13 of rows 1, 9, 17, 25
    q = random_acts(7, k)
    untouched = np.setdiff1d(np.arange(n), [1, 9, 17, 25])
    got = _core.Kernels(isa).dot("ternary2", packed, n, k, q)
    np.testing.assert_array_equal(got[:, untouched], reference.dot(q, codes)[:, untouched])


@pytest.mark.parametrize("isa", ISAS)
def test_every_byte_of_trits5_is_expanded_or_called_invalid(isa: str) -> None:
    """One byte at a time, in every stored tile of a quintet and in a tile left over."""
    n, k = 32, 24
    kernels = _core.Kernels(isa)
    valid, _ = random_weight("trits5", n, k)
    for tile in range(5):
        for byte in range(256):
            packed = valid.copy()
            packed[0, tile, 7 + tile] = byte
            is_valid = byte < 252 and byte % 84 < 81
            if tile == 4:  # left over, as in ternary2
                is_valid = all(byte >> shift & 3 < 3 for shift in (0, 2, 4, 6))
            expanded, answer = kernels.expand_trits5(packed, n, k)
            assert answer == is_valid, (tile, byte)
            if is_valid:
                np.testing.assert_array_equal(expanded, reference.expand_trits5(packed, k))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [1, 2, 7])
def test_invalid_bytes_of_trits5_are_read_without_harm(isa: str, tokens: int) -> None:
    """Other rows and columns stay right."""
    n, k = 40, 136
    kernels = _core.Kernels(isa)
    packed, codes = random_weight("trits5", n, k)
    packed[0, 4, 5] = 0xFF  # column 21 of rows 1, 9, 17, 25, and column 37 of row 1
    if "trits5" not in kernels.products:
        expanded, is_valid = kernels.expand_trits5(packed, n, k)
        assert not is_valid
        got = kernels.dot("ternary2", expanded, n, k, random_acts(tokens, k))
    else:
        got = kernels.dot("trits5", packed, n, k, random_acts(tokens, k))
    untouched = np.setdiff1d(np.arange(n), [1, 9, 17, 25])
    expected = reference.dot(random_acts(tokens, k), codes)
    np.testing.assert_array_equal(got[:, untouched], expected[:, untouched])


@pytest.mark.parametrize("isa", ISAS)
def test_a_table_without_a_product_says_so(isa: str) -> None:
    kernels = _core.Kernels(isa)
    if "trits5" in kernels.products:
        pytest.skip(f"{isa} has it")
    packed, _ = random_weight("trits5", 40, 136)
    with pytest.raises(ValueError, match=f"expected a format that {isa} multiplies, got 'trits5'"):
        kernels.dot("trits5", packed, 40, 136, random_acts(1, 136))


@pytest.mark.parametrize("isa", ISAS)
def test_no_tokens_give_no_rows(isa: str) -> None:
    kernels = _core.Kernels(isa)
    packed, _ = random_weight("ternary2", 40, 136)
    assert kernels.dot("ternary2", packed, 40, 136, np.empty((0, 136), np.int8)).shape == (0, 40)
    scale, x = np.ones(1, np.float32), np.empty((0, 136), np.float32)
    assert kernels.linear("ternary2", packed, scale, "tensor", 40, 136, x).shape == (0, 40)
    w = np.ones((40, 136), np.float32)
    assert kernels.linear("f32", w, None, "none", 40, 136, x).shape == (0, 40)


class GuardedArrays:
    """Arrays that end where a page begins that nobody may read."""

    def __init__(self) -> None:
        self._maps: list[mmap.mmap] = []

    def copy(self, array: np.ndarray) -> np.ndarray:
        page = mmap.PAGESIZE
        size = -(-array.nbytes // page) * page
        memory = mmap.mmap(-1, size + page)
        self._maps.append(memory)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert libc.mprotect(start + size, page, 0) == 0
        guarded = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes)
        guarded = guarded.reshape(array.shape)
        guarded[...] = array
        return guarded


@pytest.mark.skipif(not hasattr(mmap, "MAP_PRIVATE"), reason="needs mprotect")
@pytest.mark.parametrize("tokens", [1, 2, 7])
@pytest.mark.parametrize("shape", [(1, 1), (31, 9), (33, 131)], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_nothing_is_read_past_the_end(isa: str, shape: tuple[int, int], tokens: int) -> None:
    n, k = shape
    guard = GuardedArrays()
    x = guard.copy(random_x(tokens, k))
    kernels = _core.Kernels(isa)
    for format_name, kind in [
        ("ternary2", "row"),
        ("ternary2", "group-f16"),
        ("trits5", "row"),
        ("trits5", "group-f16"),
        ("int8", "row"),
        ("int6", "group-f16"),
    ]:
        packed, codes = random_weight(format_name, n, k)
        scale = random_scale(format_name, kind, n, k)
        kind = kind.partition("-")[0]
        expected = reference.linear(x, codes, scale, kind, GROUP.get(format_name, 128))
        stored, codes_there = as_multiplied(kernels, format_name, guard.copy(packed), n, k)
        got = kernels.linear(stored, guard.copy(codes_there), guard.copy(scale), kind, n, k, x)
        np.testing.assert_array_equal(got, expected)
    for dtype, format_name in [(np.float32, "f32"), (np.float16, "f16")]:
        w = np.random.default_rng(0).standard_normal((n, k)).astype(dtype)
        expected, tolerance = reference.dense(x, w)
        got = kernels.linear(format_name, guard.copy(w), None, "none", n, k, x)
        assert (np.abs(got - expected) <= tolerance).all()
