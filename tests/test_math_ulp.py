"""Functions of one operand on the bit patterns of float32, against float64, at every level.

Every 257th pattern by default; all of them with HANDMILL_ULP_FULL=1 (nox -s ulp_full).
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import handmill.ops  # noqa: F401  (registers the operators)
from handmill.ir.op import REGISTRY, Ulp
from handmill.ir.trace import apply
from handmill.runtime.function import TracedFunction
from levels import levels

_core = pytest.importorskip("handmill._core", reason="a build without kernels")

FULL = os.environ.get("HANDMILL_ULP_FULL") == "1"
NAMES = (
    *("exp", "exp2", "log", "tanh", "sigmoid", "erf", "expm1", "log1p", "sin", "cos", "rsqrt"),
    *("sinh", "cosh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh"),
)
CHUNK = 1 << 20


def worst_units(name, patterns):
    """The largest error of each level over the patterns, in units of the operator's bound."""
    op = REGISTRY[name]
    function = TracedFunction(lambda x: apply(op, x), name)
    worst = dict.fromkeys(_core.available_isas(), (0.0, 0.0))
    before = _core.isa()
    try:
        for start in range(0, len(patterns), CHUNK):
            bits = np.asarray(patterns[start : start + CHUNK], dtype=np.uint32)
            x = bits.view(np.float32)
            with np.errstate(all="ignore"):
                want = op.reference(x.astype(np.float64))
                rounded = want.astype(np.float32)
                allowed = op.bound.tolerance(rounded, [x.astype(np.float64)], {})
            for level in worst:
                _core.set_isa(level)
                units = errors(function(x), want, rounded, allowed)
                at = int(np.argmax(units))
                worst[level] = max(worst[level], (float(units[at]), float(x[at])))
    finally:
        _core.set_isa(before)
    return worst


def errors(got, want, rounded, allowed):
    """Errors in units of what is allowed; overflow counts as the first number out of range."""
    with np.errstate(all="ignore"):
        beyond = np.float64(2.0**128)
        finite = np.where(np.isinf(got), np.copysign(beyond, got), got.astype(np.float64))
        wanted = np.where(np.isinf(rounded), np.copysign(beyond, want), want)
        spacing = np.where(np.isinf(rounded), np.float64(2.0**104) * 2, allowed)
        same = (got == rounded) | (np.isnan(got) & np.isnan(want))
        units = np.where(same, 0.0, np.abs(finite - wanted) / spacing)
        return np.where(np.isnan(units), np.inf, units)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_257th_pattern(name):
    worst = worst_units(name, range(0, 1 << 32, 257))
    assert all(units <= 1.0 for units, _ in worst.values()), worst


@pytest.mark.ulp_full
@pytest.mark.skipif(not FULL, reason="runs only when HANDMILL_ULP_FULL=1")
@pytest.mark.parametrize("name", NAMES)
def test_every_pattern(name):
    worst = worst_units(name, range(1 << 32))
    assert all(units <= 1.0 for units, _ in worst.values()), worst


SPECIAL = (0.0, 1.0, 0.5, 2.0, 2.5, 3.0, 1e-45, 1e-38, 3e38, 0.99999994, 8388607.5, 16777215.0,
           16777216.0, 33554432.0, np.inf, np.nan)  # fmt: skip


def pairs_of_powers():
    """Bases and exponents: special ones, any bit patterns, and such whose power is in range."""
    rng = np.random.default_rng(5)
    special = np.array([*SPECIAL, *(-s for s in SPECIAL)], np.float32)
    base, exponent = (a.reshape(-1) for a in np.meshgrid(special, special))
    yield base, exponent
    bits = rng.integers(0, 1 << 32, (2, 200_000), dtype=np.uint32).view(np.float32)
    yield bits[0], bits[1]
    base = rng.uniform(0.5, 2, 200_000).astype(np.float32)
    exponent = rng.uniform(-150, 150, base.size).astype(np.float32)
    yield base, exponent
    yield -base, np.rint(exponent)
    yield (base - 0.5) * 20, rng.integers(-5, 6, base.size).astype(np.float32)


def test_power():
    import handmill as hm

    before = _core.isa()
    try:
        for base, exponent in pairs_of_powers():
            with np.errstate(all="ignore"):
                want = np.power(base.astype(np.float64), exponent.astype(np.float64))
                rounded = want.astype(np.float32)
                spacing = np.spacing(np.abs(rounded)).astype(np.float64)
            bits = set()
            for level in _core.available_isas():
                _core.set_isa(level)
                got = np.asarray(hm.ops.power(base, exponent))
                worst = errors(got, want, rounded, spacing).max()
                assert worst <= 0.51, (level, worst)
                signed = ~np.isnan(rounded)
                assert (np.signbit(got) == np.signbit(rounded))[signed].all(), level
                bits.add(got[signed].tobytes())
            assert len(bits) == 1
    finally:
        _core.set_isa(before)


@pytest.mark.parametrize("name", ("sin", "cos"))
def test_huge_angles(name):
    """Angles beyond 12000 need hundreds of bits of pi; neighbours in a vector do not matter."""
    import handmill as hm

    patterns = np.arange(0x42000000, 0x7F800000, 9973, dtype=np.uint32).view(np.float32)
    x = np.concatenate([patterns, -patterns, np.float32([np.inf, -np.inf, np.nan])])
    x = np.stack([x, np.linspace(-3, 3, x.size, dtype=np.float32)], axis=1).reshape(-1)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x.astype(np.float64))
    before = _core.isa()
    try:
        for level in _core.available_isas():
            _core.set_isa(level)
            got = np.asarray(getattr(hm.ops, name)(x))
            spacing = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
            worst = errors(got, want, want.astype(np.float32), spacing)
            assert worst.max() <= 1.5, (level, x[worst.argmax()])
            alone = np.asarray(getattr(hm.ops, name)(np.ascontiguousarray(x[1::2])))
            np.testing.assert_array_equal(got[1::2], alone)
    finally:
        _core.set_isa(before)


@pytest.mark.parametrize("name", ("exp", "log", "tanh", "sigmoid", "erf"))
def test_contract_is_two_units(name):
    bound = REGISTRY[name].bound
    assert isinstance(bound, Ulp)
    assert bound.count <= 2
    assert bound.of is None


def steps_by_adagrad(sums, rate):
    """rate g / sqrt(sum + g^2) with g = 2^-60: g^2 is too small to count."""
    op = REGISTRY["adagrad_update"]
    zeros, g = np.zeros_like(sums), np.full_like(sums, 2.0**-60)
    function = TracedFunction(
        lambda p, s, g, lr: apply(op, p, s, g, lr, epsilon=0.0)[0], "steps", batched=False
    )
    return function(zeros, sums, g, rate)


# Numerators whose quotients show an error of one unit in any root.
@pytest.mark.slow
@pytest.mark.parametrize("rate", (1.0, 1.25, 1.5, 1.75))
@pytest.mark.parametrize("level", levels())
def test_roots_have_the_same_bits_in_every_vector(level, rate):
    # Neighbouring vectors take them by the divider and by the multipliers.
    before = _core.isa()
    _core.set_isa(level)
    rate = np.float32(rate)
    try:
        every = np.arange(0x3F800000, 0x40800000, dtype=np.uint32).view(np.float32)  # [1, 4)
        rng = np.random.default_rng(0)
        powers = 2.0 ** rng.integers(-130, 128, 1 << 16).astype(np.float64)
        sizes = (rng.uniform(1, 2, 1 << 16) * powers).astype(np.float32)
        special = np.float32([0, 1e-45, 1e-38, 1e-31, 7e-31, 1e30, 2e30, 3e38, np.inf, np.nan])
        for sums in (every, sizes, np.repeat(special, 40)):
            shifted = np.concatenate([np.ones(16, np.float32), sums])
            with np.errstate(all="ignore"):
                want = -rate * np.float32(2.0**-60) / np.sqrt(sums + np.float32(2.0**-120))
            np.testing.assert_array_equal(steps_by_adagrad(sums, rate), want)
            np.testing.assert_array_equal(steps_by_adagrad(shifted, rate)[16:], want)
    finally:
        _core.set_isa(before)
