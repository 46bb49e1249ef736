"""What loops and branches refuse, and how they say it; bodies as attributes of nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.errors import NotDifferentiableError, ShapeError, TracedValueError
from handmill.ir.body import Body, bodies_of
from handmill.runtime.function import TracedFunction

X = np.arange(6, dtype="float32").reshape(3, 2)

ERRORS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "structure of the carry": (
        lambda x: ops.scan(lambda c, r: ((c, c), r), x[0], x),
        ValueError,
        r"keep their structure, went in as float32\(2,\) and came out as \('float32\(2,\)'",
    ),
    "dtype of the carry": (
        lambda x: ops.scan(lambda c, r: (ops.cast(c, "int32"), r), x[0], x),
        ShapeError,
        r"tensor 0 went in as float32\(2,\) and came out as int32\(2,\)",
    ),
    "shape of the carry": (
        lambda x: ops.scan(lambda c, r: (c[:1], r), x[0], x),
        ShapeError,
        r"went in as float32\(2,\) and came out as float32\(1,\)",
    ),
    "one result": (
        lambda x: ops.scan(lambda c, r: c, x[0], x),
        ValueError,
        r"f must return \(carry, result\)",
    ),
    "no length": (
        lambda x: ops.scan(lambda c, r: (c, c), x),
        ValueError,
        "must say how many steps",
    ),
    "unequal lengths": (
        lambda x: ops.scan(lambda c, r: (c, c), x[0], (x, x[:2])),
        ValueError,
        "lengths differ: 3, 2",
    ),
    "another length": (
        lambda x: ops.scan(lambda c, r: (c, c), x[0], x, length=4),
        ValueError,
        "lengths differ: 4, 3",
    ),
    "negative length": (
        lambda x: ops.scan(lambda c, r: (c, c), x[0], length=-1),
        ValueError,
        "length must not be negative, got -1",
    ),
    "broken length": (
        lambda x: ops.scan(lambda c, r: (c, c), x[0], length=2.5),  # type: ignore[arg-type]
        TypeError,
        "length must be an integer, got 2.5",
    ),
    "scalar xs": (
        lambda x: ops.scan(lambda c, r: (c, c), x[0], ops.sum(x)),
        ValueError,
        "xs must have a first axis",
    ),
    "dtype in a while loop": (
        lambda x: ops.while_loop(
            lambda i, y: i < 3, lambda i, y: (ops.cast(i, "float32"), y), (0, x)
        ),
        ShapeError,
        r"while_loop: tensor 0 went in as int32\(\) and came out as float32\(\)",
    ),
    "structure in a while loop": (
        lambda x: ops.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1,), (0, x)),
        ValueError,
        "while_loop: the loop variables must keep their structure",
    ),
    "condition of a while loop": (
        lambda x: ops.while_loop(lambda y: y > 3, lambda y: y, x),
        ValueError,
        r"cond must give one bool, got bool\(3, 2\)",
    ),
    "no condition": (
        lambda x: ops.while_loop(lambda y: None, lambda y: y, x),
        ValueError,
        "cond must give one bool, got None",
    ),
    "broken maximum": (
        lambda x: ops.while_loop(lambda y: True, lambda y: y, x, maximum_iterations="5"),  # type: ignore[arg-type]
        TypeError,
        "maximum_iterations must be an integer, got '5'",
    ),
    "pred": (
        lambda x: ops.cond(x > 0, lambda: x, lambda: x),
        ValueError,
        r"pred must be one bool, got bool\(3, 2\)",
    ),
    "float index": (
        lambda x: ops.switch(ops.sum(x), [lambda: x, lambda: x]),
        ValueError,
        r"index must be one integer, got float32\(\)",
    ),
    "several indices": (
        lambda x: ops.switch(np.int32([0, 1]), [lambda: x]),
        ValueError,
        r"index must be one integer, got int32\(2,\)",
    ),
    "no branch": (lambda x: ops.switch(0, []), ValueError, "no branch to choose"),
    "float bound": (
        lambda x: ops.fori_loop(0, 2.5, lambda i, y: y, x),
        ValueError,
        r"fori_loop: upper must be one integer, got float32\(\)",
    ),
    "several bounds": (
        lambda x: ops.fori_loop(np.int32([1]), 3, lambda i, y: y, x),
        ValueError,
        r"fori_loop: lower must be one integer, got int32\(1,\)",
    ),
    "axis": (
        lambda x: ops.associative_scan(lambda a, b: a + b, x, axis=2),
        ValueError,
        r"associative_scan: float32\(3, 2\) has no axis 2",
    ),
    "sizes": (
        lambda x: ops.associative_scan(lambda a, b: a, (x, x[:2])),
        ValueError,
        r"sizes along axis 0 differ: float32\(3, 2\), float32\(2, 2\)",
    ),
    "nothing": (lambda x: ops.associative_scan(lambda a, b: a, []), ValueError, "nothing to scan"),
    "shape combined": (
        lambda x: ops.associative_scan(lambda a, b: ops.sum(a), x),
        ShapeError,
        r"associative_scan: tensor 0 went in as float32\(1, 2\) and came out as float32\(\)",
    ),
    "structure combined": (
        lambda x: ops.associative_scan(lambda a, b: (a, b), x),
        ValueError,
        "that f combines must keep their structure",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("way", ("arrays", "program", "tape"))
def test_what_is_refused(name: str, way: str) -> None:
    function, kind, text = ERRORS[name]

    def recorded(x: Any) -> Any:
        with handmill.GradientTape() as tape:
            return function(tape.watch(x))

    run = {"arrays": function, "program": TracedFunction(function, batched=False), "tape": recorded}
    with pytest.raises(kind, match=text):
        run[way](X)


PROGRAMS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "dtypes": (
        lambda x: ops.cond(ops.sum(x) > 0, lambda: x, lambda: ops.cast(x, "int32")),
        r"cond: false_fn gives int32\(3, 2\) where true_fn gives float32\(3, 2\)",
    ),
    "structures": (
        lambda x: ops.cond(ops.sum(x) > 0, lambda: x, lambda: None),
        r"cond: false_fn gives None where true_fn gives float32\(3, 2\)",
    ),
    "shapes": (
        lambda x: ops.switch(
            ops.cast(ops.sum(x), "int32"), [lambda y: y, lambda y: y, lambda y: y[0]], x
        ),
        r"switch: branches\[0\] gives float32\(3, 2\) where branches\[2\] gives float32\(2,\)",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_branches_of_a_program_give_the_same(name: str) -> None:
    function, text = PROGRAMS[name]
    function(X)  # on arrays only one of them is called
    with pytest.raises(ShapeError, match=text):
        TracedFunction(function, batched=False)(X)


def test_cond_of_a_keras_tensor_is_told_what_to_do() -> None:
    tensor = handmill.Input((3, 2))
    with pytest.raises(TypeError, match=r"cond: pred .* a KerasTensor: .*use ops.switch"):
        ops.cond(ops.sum(tensor) > 0, lambda: tensor, lambda: tensor)


@pytest.mark.parametrize("use", ("after", "sibling", "result", "variable"))
def test_values_do_not_leave_their_body(use: str) -> None:
    variable = handmill.Variable(np.zeros(2, "float32"))

    def leak(x: Any) -> Any:
        kept = []
        ops.scan(lambda c, r: (kept.append(c * 2.0) or c, r), x[0], x)  # type: ignore[func-returns-value]
        if use == "after":
            return kept[0] + 1.0
        if use == "sibling":
            return ops.map(lambda r: r + kept[0], x)
        if use == "variable":
            variable.assign(kept[0])
            return x
        return kept[0]

    with pytest.raises(ValueError, match=r"used outside of it; return it from that function"):
        TracedFunction(leak, batched=False)(X)


def test_losses_of_a_layer_in_a_body_are_not_lost_silently() -> None:
    class Rows(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(2, activity_regularizer="l2")

        def call(self, inputs: Any) -> Any:
            return ops.map(self.dense, inputs)

    model = handmill.Sequential([handmill.Input((3, 2)), Rows()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="a loop or branch computed was used outside of it"):
        model.fit(X[None], X[None], verbose=0)


@pytest.mark.parametrize("inside", (False, True))
def test_a_while_loop_has_no_gradient_in_a_program(inside: bool) -> None:
    def double(x: Any) -> Any:
        return ops.while_loop(lambda y: ops.sum(y) < 90.0, lambda y: y * 2.0 + 1.0, x)

    def gradient(x: Any) -> Any:
        with handmill.GradientTape() as tape:
            x = tape.watch(x)
            y = ops.map(double, x) if inside else double(x)
        return tape.gradient(y, x)

    with pytest.raises(NotDifferentiableError, match=r"while_loop .*use scan, or fori_loop"):
        TracedFunction(gradient, batched=False)(X)
    found = np.asarray(gradient(X))  # on arrays it is a loop of Python
    assert found.shape == X.shape
    assert np.isin(np.log2(found), range(1, 8)).all()


def test_python_cannot_look_at_a_value_of_a_body() -> None:
    def run(x: Any) -> Any:
        return ops.scan(lambda c, r: (c if c[0] > 0 else r, r), x[0], x)

    with pytest.raises(TracedValueError, match=r"use handmill.ops.where, or handmill.ops.cond"):
        TracedFunction(run, batched=False)(X)


def test_the_condition_of_a_while_loop_assigns_nothing() -> None:
    count = handmill.Variable(np.int32(0), name="count")

    def going(x: Any) -> Any:
        count.assign(count + 1)
        return ops.sum(x) < 99.0

    run = TracedFunction(lambda x: ops.while_loop(going, lambda x: x + 1.0, x), batched=False)
    with pytest.raises(ValueError, match="must not assign variables, it does 'count'"):
        run(X)
    assert count.numpy() == 0


def test_a_failed_trace_leaves_nothing_behind() -> None:
    """Not the body, which was being traced, nor what it assigned."""
    count = handmill.Variable(np.int32(0), name="count")

    def run(x: Any) -> Any:
        def step(carry: Any, row: Any) -> Any:
            count.assign(count + 1)
            return carry[:1], row

        return ops.scan(step, x[0], x)

    with pytest.raises(ShapeError):
        TracedFunction(run, batched=False)(X)
    assert count.numpy() == 0
    assert isinstance(ops.exp(X), np.ndarray)
    np.testing.assert_array_equal(TracedFunction(lambda x: x + 1.0, batched=False)(X), X + 1)


# Bodies


def graph_of(function: Callable[..., Any], *arrays: Any) -> Any:
    """The program as it runs."""
    traced = TracedFunction(function, batched=False)
    return traced.signature(traced.specs_of(arrays)).optimized


def test_bodies_are_equal_by_what_they_compute() -> None:
    def body(factor: float, name: str = "captured") -> Body:
        def run(x: Any, w: Any) -> Any:
            return ops.map(lambda row: ops.tanh(row * w) * factor, x)

        run.__name__ = name
        graph = graph_of(run, X, X[0])
        ((found,),) = [bodies_of(node) for node in graph.nodes if bodies_of(node)]
        return found

    assert body(2.0) == body(2.0, "another")
    assert hash(body(2.0)) == hash(body(2.0, "another"))
    assert body(2.0) != body(3.0)


def test_equal_loops_run_once() -> None:
    def run(x: Any) -> Any:
        def loop() -> Any:
            return ops.scan(lambda c, r: (ops.tanh(c + r), c), x[0], x)[0]

        return loop() + loop()

    graph = graph_of(run, X)
    assert sum(node.op.name == "scan" for node in graph.nodes) == 1


def test_random_loops_do_not() -> None:
    seeds = handmill.random.SeedGenerator(1)

    def run(x: Any) -> Any:
        def loop() -> Any:
            return ops.map(lambda r: handmill.random.uniform((2,), seed=seeds), x)

        return loop(), loop()

    a, b = TracedFunction(run, batched=False)(X)
    assert len(np.unique(np.concatenate([a, b]), axis=0)) == 6


def test_a_gradient_repeats_no_forward_loop() -> None:
    def run(x: Any, w: Any) -> Any:
        with handmill.GradientTape() as tape:
            w = tape.watch(w)
            last, ys = ops.scan(lambda c, r: (ops.tanh(c * w + r), c), x[0], x)
            loss = ops.sum(last) + ops.sum(ys * ys)
        return loss, tape.gradient(loss, w)

    graph = graph_of(run, X, X[0])
    assert sum(node.op.name == "scan" for node in graph.nodes) == 2


def test_what_a_loop_has_no_use_for_is_dropped() -> None:
    def run(x: Any) -> Any:
        unused = ops.map(lambda r: ops.exp(r), x)  # noqa: PLW0108
        del unused
        return ops.map(lambda r: (r * 2.0, ops.sin(r) * 0.0 + r)[0], x)

    graph = graph_of(run, X)
    assert sum(node.op.name == "scan" for node in graph.nodes) == 1
    assert "sin" not in str(graph)
    assert "exp" not in str(graph)


def test_a_loop_stacks_what_is_read_once() -> None:
    def run(x: Any, w: Any) -> Any:
        def step(carry: Any, row: Any) -> Any:
            after = ops.tanh(carry * w + row)
            return after, (after, ops.exp(after), row, after)

        with handmill.GradientTape() as tape:
            w = tape.watch(w)
            last, (every, _, rows, again) = ops.scan(step, x[0], x)
            loss = ops.sum(every) + ops.sum(again * again)
        return last, every, rows, tape.gradient(loss, w)

    graph = graph_of(run, X, X[0])
    (forward,) = [n for n in graph.nodes if n.op.name == "scan" and n.attrs["n_carry"] == 1]
    (body,) = bodies_of(forward)
    assert len(forward.outputs) == 3  # the carry after, what a step gives and what it began with
    assert "exp" not in str(body.graph)
    found, want = TracedFunction(run, batched=False)(X, X[0]), run(X, X[0])
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, np.asarray(b), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[2], X)


def test_bodies_count_in_the_memory_of_traces() -> None:
    def bytes_of(depth: int) -> int:
        def long(x: Any) -> Any:
            for _ in range(depth):
                x = ops.tanh(x) * 2.0
            return x

        traced = TracedFunction(lambda x: ops.map(long, x), batched=False)
        bound = traced.signature(traced.specs_of([X]))
        return bound.trace.nbytes

    assert bytes_of(20) > bytes_of(1) + 19 * 2 * 1000


def test_programs_are_shown_with_their_bodies() -> None:
    text = str(graph_of(lambda x: ops.map(lambda r: ops.matmul(x, r), x), X))
    assert "scan(" in text
    assert "matmul(" in text
