"""Loops and branches: on arrays, in programs of both executors, differentiated; and as in Keras."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import handmill
from control_flow import CASES, Case, gradient_of, loss_of
from handmill import ops
from handmill.runtime.function import TracedFunction

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_gradient = pytest.mark.parametrize(
    "case", [c for c in CASES if c.wrt], ids=lambda case: case.name
)


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras", reason="Keras is the oracle")


def traced(function: Any) -> TracedFunction:
    return TracedFunction(function, "loops", batched=False)


def in_each_way(function: Any, *arrays: Any) -> list[tuple[Any, ...]]:
    """What a function gives as a native program, as NumPy's, and on arrays."""
    found = [traced(function)(*arrays)]
    with handmill.use_backend("numpy"):
        found += [traced(function)(*arrays), function(*arrays)]
    found.append(function(*arrays))
    return [tuple(map(np.asarray, x)) if isinstance(x, tuple) else (np.asarray(x),) for x in found]


def assert_same(found: Any, want: Any, exact: bool = False, tolerance: float = 1e-5) -> None:
    assert len(found) == len(want)
    for a, b in zip(found, want, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if exact or a.dtype.kind in "iub":
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@each_case
def test_every_way_to_run_it_agrees(case: Case) -> None:
    native, *others = in_each_way(lambda *arrays: case(ops, *arrays), *case.arrays)
    for other in others:
        assert_same(native, other, case.exact)


@pytest.mark.peers
@each_case
def test_it_is_what_keras_gives(case: Case, keras: Any) -> None:
    want = case(keras.ops, *map(keras.ops.convert_to_tensor, case.arrays))
    assert_same(flat(traced(lambda *arrays: case(ops, *arrays))(*case.arrays)), want, case.exact)


def flat(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


def differences(case: Case) -> list[np.ndarray]:
    """The gradient by central differences in float64, with the loop on arrays."""
    wide = [np.asarray(x, "float64") if i in case.wrt else x for i, x in enumerate(case.arrays)]
    gradients = []
    for i in case.wrt:
        found = np.zeros(wide[i].shape)
        for at in np.ndindex(wide[i].shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = list(wide)
                moved[i] = wide[i].copy()
                moved[i][at] += sign * 1e-6
                ends.append(float(loss_of(ops, case(ops, *moved))))
            found[at] = (ends[0] - ends[1]) / 2e-6
        gradients.append(found)
    return gradients


@each_gradient
def test_gradient_in_every_way(case: Case) -> None:
    native, *others = in_each_way(gradient_of(case), *case.arrays)
    for other in others:
        assert_same(native, other, tolerance=3e-5)


NARROW = {"unchanged"}  # holds a float32 constant, whatever the operands


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.wrt and c.name not in NARROW], ids=lambda c: c.name
)
def test_gradient_against_differences(case: Case) -> None:
    found = flat(traced(gradient_of(case))(*case.arrays))
    for a, b in zip(found, differences(case), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.peers
@each_gradient
def test_gradient_is_what_jax_gives(case: Case, keras: Any) -> None:
    import jax

    def loss(*arrays: Any) -> Any:
        return loss_of(keras.ops, case(keras.ops, *arrays))

    want = jax.grad(loss, case.wrt)(*map(keras.ops.convert_to_tensor, case.arrays))
    assert_same(flat(traced(gradient_of(case))(*case.arrays)), want, tolerance=3e-5)


@pytest.mark.parametrize(
    ("case", "which"),
    [
        (case, which)
        for case in CASES
        if case.name in ("rnn", "rnn_reverse", "lstm", "scan_in_scan", "scan_in_cond", "gather")
        for which in range(2)
    ],
    ids=lambda x: getattr(x, "name", str(x)),
)
def test_gradient_where_only_one_result_is_used(case: Case, which: int) -> None:
    native, *others = in_each_way(gradient_of(case, which), *case.arrays)
    for other in others:
        assert_same(native, other, tolerance=3e-5)


@pytest.mark.peers
@pytest.mark.parametrize("name", ("rnn", "fori", "cond_in_scan", "scan_in_cond", "scan_in_scan"))
def test_second_order(name: str, keras: Any) -> None:
    """The derivative of a function of the gradient."""
    import jax

    (case,) = [c for c in CASES if c.name == name]

    def second(*arrays: Any) -> tuple[Any, ...]:
        given = list(arrays)
        with handmill.GradientTape() as outer:
            for i in case.wrt:
                given[i] = outer.watch(given[i])
            first = gradient_of(case)(*given)
            loss = sum([ops.sum(dx * dx) for dx in first])
        return tuple(outer.gradient(loss, [given[i] for i in case.wrt]))

    def loss(*arrays: Any) -> Any:
        first = jax.grad(lambda *a: loss_of(keras.ops, case(keras.ops, *a)), case.wrt)(*arrays)
        return sum(keras.ops.sum(dx * dx) for dx in first)

    want = jax.grad(loss, case.wrt)(*map(keras.ops.convert_to_tensor, case.arrays))
    for found in in_each_way(second, *case.arrays):
        assert_same(found, want, tolerance=2e-4)
