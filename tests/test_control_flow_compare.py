"""``handmill.compare`` looks into loops and branches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from control_flow import CASES, Case, gradient_of
from handmill import config, ops
from handmill.inspection import comparison
from handmill.inspection.comparison import ComparisonError, compare_function
from handmill.ir import trace
from handmill.ir.op import REGISTRY
from handmill.runtime.function import TracedFunction

pytestmark = pytest.mark.skipif(not config.has_kernels(), reason="a build without kernels")

X = np.linspace(-1.0, 1.0, 60, dtype="float32").reshape(5, 3, 4)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_operator_inside_is_within_its_bound(case: Case) -> None:
    functions = [lambda *arrays: case(ops, *arrays)]
    if case.wrt:
        functions.append(gradient_of(case))
    for function in functions:
        traced = TracedFunction(function, batched=False)
        compare_function(traced, list(map(np.asarray, case.arrays))).raise_if_failed()


def outer(nested: bool, function: Any) -> Any:
    """``function`` on every row, in one loop or in two."""

    def rows(x: Any) -> Any:
        return ops.scan(lambda c, row: (c + row, function(c + row)), x[0], x)[1]

    return (lambda x: ops.map(rows, x)) if nested else rows


@pytest.mark.parametrize("nested", (False, True))
def test_a_wrong_operator_inside_is_named(nested: bool) -> None:
    wrong = replace(
        REGISTRY["tanh"],
        name="almost_tanh",
        reference=lambda x: np.tanh(x * 1.0001),
        tile="tanh",
    )
    run = outer(nested, lambda x: ops.exp(trace.apply(wrong, x) * 0.5))
    found = compare_function(TracedFunction(run, batched=False), [X])
    way = "scan/scan" if nested else "scan"
    failed = [row.op for row in found.rows if row.error > 1 and row.graph == "unfused"]
    assert failed == [f"{way}/almost_tanh"]
    assert found.worst.op.startswith(way)
    assert "almost_tanh" in found.worst.op
    steps = 2 if nested else 1
    assert len(found.worst.index) == (1 if nested else 2) + steps
    with pytest.raises(ComparisonError, match=rf"{way}/.*almost_tanh"):
        found.raise_if_failed()


def test_the_worst_step_is_reported() -> None:
    """One row for each operator, however often it runs; the step stands before the position."""
    wrong = replace(
        REGISTRY["tanh"],
        name="tanh_wrong_once",
        reference=lambda x: np.tanh(x) + (np.abs(x - 0.75).max() < 1e-6),
        tile="tanh",
    )
    x = np.float32([[0.0, 0.0], [0.25, 0.25], [0.75, 0.75], [1.0, 1.0]])
    run = TracedFunction(lambda x: ops.map(lambda row: trace.apply(wrong, row), x), batched=False)
    rows = [row for row in compare_function(run, [x]).rows if row.op == "scan/tanh_wrong_once"]
    assert [row.graph for row in rows] == ["unfused", "fused"]
    assert all(row.error > 1 and row.index == (2, 0) for row in rows)
    assert rows[0].want == pytest.approx(np.tanh(0.75) + 1)


def test_equal_bodies_are_told_apart() -> None:
    """They are equal as attributes, but their values are not the same."""

    def run(x: Any) -> Any:
        return ops.map(ops.tanh, x), ops.map(ops.tanh, x * 2.0)

    compare_function(TracedFunction(run, batched=False), [X]).raise_if_failed()


@pytest.mark.parametrize("kind", ("scan", "while_loop", "switch"))
def test_a_loop_that_gives_something_else_than_its_steps_is_named(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one bit in one element."""

    def run(x: Any) -> Any:
        if kind == "scan":
            return ops.scan(lambda c, row: (c + row, c * row), x[0], x)
        if kind == "while_loop":
            return ops.while_loop(lambda x: ops.sum(x) < 50.0, lambda x: x + 1.0, x)
        return ops.cond(ops.sum(x) > -1.0, lambda: ops.tanh(x), lambda: x)

    traced = TracedFunction(run, batched=False)
    compare_function(traced, [X]).raise_if_failed()
    body = comparison._Comparer._body

    def off(self: Any, *args: Any) -> Any:
        rows, results = body(self, *args)
        last = results[-1]
        if last.dtype == np.float32:
            flat = last.reshape(-1)
            flat[0] = np.nextafter(flat[0], np.float32(9))
        return rows, results

    monkeypatch.setattr(comparison._Comparer, "_body", off)
    found = compare_function(traced, [X])
    failed = {row.op for row in found.rows if row.error > 1}
    assert failed == {kind}
    assert found.worst.error == np.inf
