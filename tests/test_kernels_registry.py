"""The choice of a kernel table: by CPU, by name, by BITNET_ISA."""

import numpy as np
import pytest

from bitnet_py import _core


def test_generic_is_always_there_and_last() -> None:
    assert _core.compiled_isas()[-1] == "generic"
    assert _core.available_isas()[-1] == "generic"
    order = [isa for isa in _core.compiled_isas() if isa in _core.available_isas()]
    assert order == _core.available_isas()


def test_the_best_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITNET_ISA", raising=False)
    assert _core.Kernels().isa == _core.available_isas()[0]


def test_the_environment_overrides_the_default_but_not_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BITNET_ISA", "generic")
    assert _core.Kernels().isa == "generic"
    best = _core.available_isas()[0]
    assert _core.Kernels(best).isa == best


def test_an_unknown_name_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ", ".join(_core.available_isas())
    with pytest.raises(ValueError, match=rf"\[isa\] expected one of {known}, got 'mmx'"):
        _core.Kernels("mmx")
    monkeypatch.setenv("BITNET_ISA", "mmx")
    with pytest.raises(ValueError, match=r"\[BITNET_ISA\] expected .* got 'mmx'"):
        _core.Kernels()


def test_a_table_that_cannot_run_here_says_so() -> None:
    missing = set(_core.compiled_isas()) - set(_core.available_isas())
    if not missing:
        pytest.skip("this CPU runs every compiled table")
    with pytest.raises(ValueError, match="which this CPU cannot run"):
        _core.Kernels(missing.pop())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("q4_0", np.zeros((1, 2, 32), np.uint8), None, "none", 1, 1), "expected one of f32"),
        (("f32", np.zeros((2, 4), np.float32), None, "none", 2, 3), r"shape \[2, 3\]"),
        (("f32", np.zeros((2, 3)), None, "none", 2, 3), "dtype float32"),
        (("ternary2", np.zeros((1, 2, 32), np.uint8), None, "none", 2, 3), "scale kind"),
        (("int8", np.zeros((1, 2, 32), np.uint8), np.ones(8, np.float32), "tensor", 2, 3), "kind"),
        (
            ("ternary2", np.zeros((1, 2, 32), np.uint8), np.ones(2, np.float32), "row", 2, 3),
            r"scale of shape \[32\]",
        ),
        (("f32", np.zeros((2, 3), np.float32), np.ones(1, np.float32), "none", 2, 3), "None"),
    ],
)
def test_linear_refuses_what_does_not_fit(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Kernels().linear(*arguments, np.zeros((1, 3), np.float32))


def test_attend_refuses_more_keys_than_there_are() -> None:
    one = np.zeros((1, 4), np.float32)
    with pytest.raises(ValueError, match=r"n_keys in \[1, 1\], got 2"):
        _core.Kernels().attend(one, one, one, [2])
