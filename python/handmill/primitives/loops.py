"""Loops whose bodies are graphs: ``scan``, which has a gradient, and ``while_loop``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from handmill.errors import NotDifferentiableError, RowError, ShapeError
from handmill.ir.body import Body, BodyGraph, captures_of, trace_body
from handmill.ir.dims import Dim, same, same_shape
from handmill.ir.flows import describe_scan, describe_while
from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.interpret import interpret
from handmill.ir.op import REGISTRY, Array, Exact, Op, Sample, register
from handmill.ir.shapes import Spec, numpy_dtype
from handmill.ir.trace import apply, as_value
from handmill.primitives import emit
from handmill.primitives.pullback import Pullback, zeros
from handmill.primitives.samples import body_of, both, given, integers, uniform

RunBody: TypeAlias = Callable[[Body, Sequence[Array], int | None], Sequence[Array]]
"""Runs a body on operands; where there are steps, with the row that this one goes over."""


def run_body(body: Body, arrays: Sequence[Array], step: int | None = None) -> list[Array]:
    """Runs a body with the references, in float64 where its float32 operands are float64."""
    wide = any(
        value.dtype == "float32" and array.dtype == np.float64
        for value, array in zip(body.graph.inputs, arrays, strict=True)
    )
    return interpret(body.graph, arrays, dtype="float64" if wide else None).outputs


def check_operands(name: str, body: Body, specs: Sequence[Spec]) -> None:
    """Checks that operands are what the inputs of a body stand for.

    Raises:
        ShapeError: naming the first that differs.
    """
    inputs = body.graph.inputs
    if len(inputs) != len(specs):
        raise ShapeError(f"{name}: the body takes {len(inputs)} operands, got {len(specs)}")
    for i, (value, spec) in enumerate(zip(inputs, specs, strict=True)):
        if value.dtype != spec.dtype or not same_shape(value.shape, spec.shape):
            raise ShapeError(f"{name}: operand {i} of the body is {value.spec}, got {spec}")


def check_results(name: str, wanted: Sequence[Spec], found: Sequence[Spec]) -> None:
    """Checks that a body gives what the steps before it, or the branches beside it, give.

    Raises:
        ShapeError: naming the first that differs.
    """
    if len(wanted) != len(found):
        raise ShapeError(f"{name}: expected {len(wanted)} results of the body, got {len(found)}")
    for i, (a, b) in enumerate(zip(wanted, found, strict=True)):
        if a.dtype != b.dtype or not same_shape(a.shape, b.shape):
            raise ShapeError(f"{name}: result {i} of the body must be {a}, got {b}")


# --- scan ---


def _infer_scan(
    *specs: Spec, body: Body, length: Dim, n_carry: int, n_xs: int, reverse: bool
) -> tuple[Spec, ...]:
    rows = []
    for spec in specs[n_carry : n_carry + n_xs]:
        if not spec.shape or not same(spec.shape[0], length):
            raise ShapeError(f"scan: {length} steps over {spec}, whose first axis is another")
        rows.append(Spec(spec.shape[1:], spec.dtype))
    check_operands("scan", body, [*specs[:n_carry], *rows, *specs[n_carry + n_xs :]])
    outputs = [v.spec for v in body.graph.outputs]
    check_results("scan", specs[:n_carry], outputs[:n_carry])
    stacked = [Spec((length, *spec.shape), spec.dtype) for spec in outputs[n_carry:]]
    return (*specs[:n_carry], *stacked)


def _run_scan(*arrays: Array, **attrs: Any) -> tuple[Array, ...]:
    return _scan_steps(run_body, arrays, **attrs)


def _scan_steps(
    run: RunBody,
    arrays: Sequence[Array],
    *,
    body: Body,
    length: int,
    n_carry: int,
    n_xs: int,
    reverse: bool,
) -> tuple[Array, ...]:
    carry = list(arrays[:n_carry])
    xs, captures = arrays[n_carry : n_carry + n_xs], arrays[n_carry + n_xs :]
    rows: list[list[Array]] = [[] for _ in body.graph.outputs[n_carry:]]
    for i in range(length):
        at = length - 1 - i if reverse else i
        try:
            found = run(body, [*carry, *[np.asarray(x[at]) for x in xs], *captures], at)
        except RowError as error:
            error.step = at
            raise
        carry = list(found[:n_carry])
        for row, y in zip(rows, found[n_carry:], strict=True):
            row.append(y)
    stacked = []
    for row, value in zip(rows, body.graph.outputs[n_carry:], strict=True):
        if row:
            stacked.append(np.stack(row[::-1] if reverse else row))
        else:
            stacked.append(np.zeros((0, *value.shape), numpy_dtype(value.dtype)))
    return (*carry, *stacked)


def _scan_vjp(
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    dys: Sequence[Value | None],
    *,
    body: Body,
    length: Dim,
    n_carry: int,
    n_xs: int,
    reverse: bool,
) -> Sequence[Value | None]:
    """Scans the pullback of the body the other way round.

    The carry of that scan is the gradient of the carry, and the sums of what each step adds to the
    gradient of a captured value. What the pullback needs of the forward steps is stacked by a scan
    that repeats the forward one; where it starts from the same operands, the pass ``join_scans``
    leaves one of both.
    """
    graph = current_graph()
    assert graph is not None  # noqa: S101  (vjps emit operators)
    n_ys = len(body.graph.outputs) - n_carry
    floats = [i for i in range(n_carry) if body.graph.inputs[i].spec.is_float]
    seeded = [*floats, *[n_carry + i for i in range(n_ys) if dys[n_carry + i] is not None]]
    moving = range(n_carry + n_xs)  # inputs that differ from step to step
    pulled = Pullback(body, seeded, fixed=range(n_carry + n_xs, len(inputs)))
    residuals = pulled.residuals(n_carry, moving)

    forward = Body(pulled.forward(residuals))
    attrs = {"length": length, "n_carry": n_carry, "n_xs": n_xs}
    again = graph.emit(SCAN, inputs, {"body": forward, "reverse": reverse, **attrs})
    stacks = list(again if isinstance(again, tuple) else (again,))[n_carry + n_ys :]

    sums = [i for i in range(n_carry + n_xs, len(inputs)) if pulled.found[i] is not None]
    moved = [i for i in range(n_carry, n_carry + n_xs) if pulled.found[i] is not None]
    backward = pulled.backward(
        residuals, carries=floats, sums=sums, rows=moved, xs=range(n_carry, n_carry + n_xs)
    )
    upstream = [_given(graph, dys[i], inputs[i]) for i in floats]
    operands: list[Any] = [
        *upstream,
        *[zeros(graph, inputs[i].spec) for i in sums],
        *[dys[i] for i in seeded[len(floats) :]],
        *[inputs[i] for i in backward.xs],
        *stacks,
        *[inputs[i] for i in backward.captures],
    ]
    n_back = len(floats) + len(sums)
    n_rows = len(seeded) - len(floats) + len(backward.xs) + len(stacks)
    found = graph.emit(
        SCAN,
        operands,
        {
            "body": backward.body,
            "length": length,
            "n_carry": n_back,
            "n_xs": n_rows,
            "reverse": not reverse,
        },
    )
    results = found if isinstance(found, tuple) else (found,)
    gradients: list[Value | None] = [None] * len(inputs)
    for i, value in zip([*floats, *sums, *moved], results, strict=True):
        gradients[i] = value
    return gradients


def _given(graph: Graph, dy: Value | None, x: Value) -> Value:
    return zeros(graph, x.spec) if dy is None else dy


def _scan_samples() -> Iterator[Sample]:
    row = Spec((3, 5))

    # Small integers: sums and products are exact in float32.
    def step(carry: Value, x: Value, w: Value) -> list[Any]:
        return [carry + x * w, carry * x]

    def twice(carry: Value, count: Value, x: Value) -> list[Any]:
        return [x, count + 1, carry]

    for length in (0, 1, 4):
        body = body_of(step, row, row, Spec((5,)))
        make = integers((3, 5), (length, 3, 5), (5,), low=-3, high=4, dtype="float32")
        for reverse in (False, True):
            attrs = {"body": body, "length": length, "n_carry": 1, "n_xs": 1, "reverse": reverse}
            name = f"{length}_steps" + ("_reverse" if reverse else "")
            yield Sample(name, make, attrs, smooth=length > 0)
    body = body_of(twice, row, Spec((), "int32"), row)
    make = both(
        integers((3, 5), dtype="float32"), integers(()), integers((6, 3, 5), dtype="float32")
    )
    attrs = {"body": body, "length": 6, "n_carry": 2, "n_xs": 1, "reverse": False}
    yield Sample("carries_that_pass", make, attrs, smooth=False)
    attrs = {"body": body, "length": 0, "n_carry": 2, "n_xs": 1, "reverse": False}
    make = both(
        integers((3, 5), dtype="float32"), integers(()), integers((0, 3, 5), dtype="float32")
    )
    yield Sample("no_steps", make, attrs, smooth=False)

    tall, square = Spec((64, 256)), Spec((256, 256))
    recurrent = body_of(_recurrent, tall, tall, square)
    attrs = {"body": recurrent, "length": 20, "n_carry": 1, "n_xs": 1, "reverse": False}
    make = uniform((64, 256), (20, 64, 256), (256, 256), low=-0.1, high=0.1)
    yield Sample("bench_recurrent", make, attrs, smooth=False, bench=True)


def _recurrent(h: Value, x: Value, w: Value) -> list[Any]:
    product = apply(REGISTRY["matmul"], h, w, transpose_a=False, transpose_b=False)
    h = emit.tanh(product + x)
    return [h, h]


# The operands are the carry, what is gone over row by row, and what the body captured; the results
# are the carry and the stacked results of the steps.
SCAN: Op = register(
    Op(
        "scan",
        infer=_infer_scan,
        reference=_run_scan,
        steps=_scan_steps,
        samples=_scan_samples,
        bound=Exact(),  # of the samples; compare() looks into bodies
        vjp=_scan_vjp,
        flow=describe_scan,
        loop=lambda attrs: (attrs["n_carry"], attrs["n_xs"]),
    )
)


# --- while_loop ---


def _infer_while(
    *specs: Spec, condition: Body, body: Body, n_vars: int, maximum_iterations: int | None
) -> tuple[Spec, ...]:
    check_operands("while_loop", condition, specs)
    check_operands("while_loop", body, specs)
    (test,) = condition.graph.outputs
    if test.spec != Spec((), "bool"):
        raise ShapeError(f"while_loop: the condition must be one bool, got {test.spec}")
    check_results("while_loop", specs[:n_vars], [v.spec for v in body.graph.outputs])
    return tuple(specs[:n_vars])


def _run_while(*arrays: Array, **attrs: Any) -> tuple[Array, ...]:
    return _while_steps(run_body, arrays, **attrs)


def _while_steps(
    run: RunBody,
    arrays: Sequence[Array],
    *,
    condition: Body,
    body: Body,
    n_vars: int,
    maximum_iterations: int | None,
) -> tuple[Array, ...]:
    values, captures = list(arrays[:n_vars]), arrays[n_vars:]
    count = 0
    while maximum_iterations is None or count < maximum_iterations:
        (test,) = run(condition, [*values, *captures], count)
        if not test:
            break
        values = list(run(body, [*values, *captures], count))
        count += 1
    return tuple(values)


def _while_vjp(
    inputs: Sequence[Value], outputs: Sequence[Value], dys: Sequence[Value | None], **attrs: Any
) -> Sequence[Value | None]:
    raise NotDifferentiableError(
        "the gradient of while_loop was asked for, but how often it runs is known only afterwards; "
        "use scan, or fori_loop with bounds that are Python integers"
    )


def _while_samples() -> Iterator[Sample]:
    count, row = Spec((), "int32"), Spec((7,))
    specs = (count, row, row)
    condition = body_of(lambda i, x, w: [emit.less(i, 5)], *specs)
    body = body_of(lambda i, x, w: [i + 1, x + w], *specs)
    make = integers((7,), (7,), dtype="float32")
    attrs = {"condition": condition, "body": body, "n_vars": 2}
    for start, most in ((0, None), (0, 3), (9, None), (2, 0)):
        name = f"from_{start}" + ("" if most is None else f"_at_most_{most}")
        made = both(given(np.array(start, np.int32)), make)
        yield Sample(name, made, {**attrs, "maximum_iterations": most}, smooth=False)


# The operands are the variables of the loop, then what condition and body captured.
WHILE_LOOP: Op = register(
    Op(
        "while_loop",
        infer=_infer_while,
        reference=_run_while,
        steps=_while_steps,
        samples=_while_samples,
        bound=Exact(),  # of the samples; compare() looks into bodies
        vjp=_while_vjp,
        flow=describe_while,
        loop=lambda attrs: (attrs["n_vars"], 0),
    )
)


def scan_graph(
    parent: Graph,
    function: Callable[..., tuple[Sequence[Any], Sequence[Any]]],
    init: Sequence[Value],
    xs: Sequence[Value],
    length: Dim,
    reverse: bool,
) -> tuple[list[Value], list[Value]]:
    """Appends a scan to the graph that is being traced.

    Args:
        parent: that graph.
        function: takes the carry and one row of each of ``xs``; returns the new carry and results.
        init: the carry before the first step.
        xs: what is gone over along the first axis.
        length: the number of steps.
        reverse: whether to start with the last row.

    Returns:
        The carry after the last step, and the results stacked along a new first axis. Variables
        that ``function`` assigns are carried too, and assigned after the loop.
    """
    rows = [Spec(x.shape[1:], x.dtype) for x in xs]
    results: list[list[Value]] = [[], []]

    def traced(*arguments: Value) -> None:
        found = function(arguments[: len(init)], arguments[len(init) :])
        for mine, theirs in zip(results, found, strict=True):
            mine += [as_value(body_graph(), v) for v in theirs]

    body, arguments, _ = trace_body(parent, traced, [*[v.spec for v in init], *rows], "scan")
    carry, ys = results
    written = list(body.updates)
    captures = captures_of([body], written)
    starts = [parent.read(state) for state in written]
    inner = [body.states[state] for state in written]
    n_init = len(init)
    closed = body.close(
        [*arguments[:n_init], *inner, *arguments[n_init:]],
        [*carry, *body.updates.values(), *ys],
        captures,
    )
    n_carry = n_init + len(written)
    attrs = {"body": closed, "length": length, "n_carry": n_carry, "n_xs": len(xs)}
    found = parent.emit(SCAN, [*init, *starts, *xs, *captures], {**attrs, "reverse": reverse})
    for state, value in zip(written, found[n_init:n_carry], strict=True):
        parent.assign(state, value)
    return list(found[:n_init]), list(found[n_carry:])


def body_graph() -> BodyGraph:
    """The body that is being traced."""
    graph = current_graph()
    assert isinstance(graph, BodyGraph)  # noqa: S101
    return graph


def while_graph(
    parent: Graph,
    condition: Callable[..., Any],
    function: Callable[..., Sequence[Any]],
    init: Sequence[Value],
    maximum_iterations: int | None,
) -> list[Value]:
    """Appends a while loop to the graph that is being traced; see :func:`scan_graph`."""
    specs = [v.spec for v in init]
    test, test_arguments, truth = trace_body(
        parent, lambda *xs: as_value(body_graph(), condition(*xs)), specs, "condition"
    )
    if test.updates:
        names = ", ".join(repr(state.name) for state in test.updates)
        raise ValueError(
            f"the condition of a while_loop must not assign variables, it does {names}"
        )
    body, arguments, results = trace_body(
        parent, lambda *xs: [as_value(body_graph(), v) for v in function(*xs)], specs, "while_loop"
    )
    written = list(body.updates)
    for state in written:
        test.read(state)
    captures = captures_of([test, body], written)
    starts = [parent.read(state) for state in written]
    closed_test = test.close(
        [*test_arguments, *[test.states[s] for s in written]], [truth], captures
    )
    closed = body.close(
        [*arguments, *[body.states[s] for s in written]],
        [*results, *body.updates.values()],
        captures,
    )
    n_vars = len(init) + len(written)
    attrs = {"condition": closed_test, "body": closed, "n_vars": n_vars}
    attrs["maximum_iterations"] = maximum_iterations
    found = parent.emit(WHILE_LOOP, [*init, *starts, *captures], attrs)
    for state, value in zip(written, found[len(init) :], strict=True):
        parent.assign(state, value)
    return list(found[: len(init)])
