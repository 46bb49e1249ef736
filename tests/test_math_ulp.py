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
from handmill.program import TracedFunction

_core = pytest.importorskip("handmill._core", reason="a build without kernels")

FULL = os.environ.get("HANDMILL_ULP_FULL") == "1"
NAMES = ("exp", "log", "tanh", "sigmoid", "erf", "expm1", "log1p", "sin", "cos", "rsqrt")
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


@pytest.mark.parametrize("name", ("exp", "log", "tanh", "sigmoid", "erf"))
def test_contract_is_two_units(name):
    bound = REGISTRY[name].bound
    assert isinstance(bound, Ulp)
    assert bound.count <= 2
    assert bound.of is None
