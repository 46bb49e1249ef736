"""A slice of tools/random_calls.py: kernels, the NumPy executor and NumPy agree on drawn calls."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[1] / "tools" / "random_calls.py"
if not PATH.exists():
    pytest.skip("the tools are not beside the tests", allow_module_level=True)
_spec = importlib.util.spec_from_file_location("random_calls", PATH)
random_calls = importlib.util.module_from_spec(_spec)
sys.modules["random_calls"] = random_calls
_spec.loader.exec_module(random_calls)


@pytest.mark.parametrize("seed", (0, pytest.param(1, marks=pytest.mark.slow)))
def test_random_calls_agree(seed):
    found = list(random_calls.disagreements(250, seed))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "calls",
    (
        pytest.param(4_000, marks=pytest.mark.slow),
        pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ),
)
def test_many_random_calls_agree(calls):
    found = list(random_calls.disagreements(calls, seed=1000))
    assert not found, "\n".join(found[:20])


def test_every_kind_gives_results():
    """A kind of call that is always refused would test nothing."""
    rng = np.random.default_rng(0)
    for name, make in random_calls.MAKERS.items():
        assert any(isinstance(random_calls.outcome(make(rng)), list) for _ in range(30)), name
    assert len(random_calls.MAKERS) >= 100


def test_differences_are_seen():
    """The comparison itself: dtypes, shapes, values, bare and different errors."""
    call = random_calls.Call("add", (), {})
    x = [np.array([1.0, 2.0], np.float32)]
    different = random_calls.difference
    assert different(call, x, [x[0].astype(np.float64)])
    assert different(call, x, [x[0][:1]])
    assert different(call, x, [x[0] + np.float32(0.01)])
    assert different(call, x, [np.array([1.0, np.nan], np.float32)])
    assert not different(call, x, [x[0] * np.float32(1 + 2**-22)])
    assert different(call, [np.array([1, 2])], [np.array([1, 3])])
    assert different(call, ZeroDivisionError("x"), ZeroDivisionError("x"))
    assert different(call, ValueError(""), ValueError(""))
    assert different(call, ValueError("one"), TypeError("one"))
    assert not different(call, ValueError("one"), ValueError("two"))


def test_sums_that_cancel_are_held_to_what_was_added_up():
    """Their roundings grow with the terms, at each element alone, and no further."""
    big = np.array([[1.0, 3.0, -1.0, 0.0], [1e-3, 0.0, 0.0, 0.0]], np.float32)
    call = random_calls.product("inner", big, np.ones(4, np.float32))
    np.testing.assert_array_equal(call.magnitude, [5.0, np.float32(1e-3)])
    np.testing.assert_array_equal(call.roundings, [7, 7])
    want = np.array([3.0, 1e-3])
    for k, agree in ((6, True), (8, False)):
        off = np.array([[k * 2.0**-23 * 5.0, 0.0], [0.0, k * 2.0**-23 * 1e-3]])
        for one in off:
            found = random_calls.difference(call, [(want + one)], [want.astype(np.float32)], False)
            assert (not found) == agree, (k, one)


def test_a_disagreement_is_found(monkeypatch):
    """What the driver is for: a function that is wrong in one executor."""
    from handmill import config

    right = random_calls.ops.negative

    def wrong(x):
        y = right(x)
        return y + 1 if config.backend() == "numpy" else y

    monkeypatch.setattr(random_calls.ops, "negative", wrong)
    assert list(random_calls.disagreements(20, seed=0, only="negative"))
