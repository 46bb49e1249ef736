"""``switch``: which of several graphs runs is decided by a number that only the run knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from handmill.errors import ShapeError
from handmill.ir.body import Body, captures_of, trace_body
from handmill.ir.flows import describe_switch
from handmill.ir.graph import Graph, State, Value, current_graph
from handmill.ir.op import Array, Exact, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import as_value
from handmill.primitives.loops import (
    RunBody,
    body_graph,
    check_operands,
    check_results,
    run_body,
)
from handmill.primitives.pullback import Pullback
from handmill.primitives.samples import body_of, both, given, integers


def _infer(*specs: Spec, branches: tuple[Body, ...]) -> tuple[Spec, ...]:
    index, *operands = specs
    if index != Spec((), "int32"):
        raise ShapeError(f"switch: the index must be one int32, got {index}")
    first = [v.spec for v in branches[0].graph.outputs]
    for i, branch in enumerate(branches):
        check_operands("switch", branch, operands)
        check_results(f"switch: branch {i}", first, [v.spec for v in branch.graph.outputs])
    return tuple(first)


def _run(*arrays: Array, branches: tuple[Body, ...]) -> tuple[Array, ...]:
    return _steps(run_body, arrays, branches=branches)


def _steps(
    run: RunBody, arrays: Sequence[Array], *, branches: tuple[Body, ...]
) -> tuple[Array, ...]:
    index, *operands = arrays
    chosen = branches[min(max(int(index), 0), len(branches) - 1)]
    return tuple(run(chosen, operands, None))


def _vjp(
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    dys: Sequence[Value | None],
    *,
    branches: tuple[Body, ...],
) -> Sequence[Value | None]:
    """Switches between the pullbacks of the branches, each of which repeats its branch."""
    graph = current_graph()
    assert graph is not None  # noqa: S101  (vjps emit operators)
    seeded = [i for i, dy in enumerate(dys) if dy is not None]
    pulled = [Pullback(branch, seeded, fixed=()) for branch in branches]
    wanted = [i for i in range(len(inputs) - 1) if any(p.found[i] is not None for p in pulled)]
    back = tuple([p.whole(wanted) for p in pulled])
    seeds = [dy for dy in dys if dy is not None]
    found = graph.emit(SWITCH, [inputs[0], *inputs[1:], *seeds], {"branches": back})
    gradients: list[Value | None] = [None] * len(inputs)
    for i, value in zip(wanted, found if isinstance(found, tuple) else (found,), strict=True):
        gradients[i + 1] = value
    return gradients


def _samples() -> Iterator[Sample]:
    rows = Spec((5, 3)), Spec((5, 3))
    branches = (
        body_of(lambda x, y: [x + y, x * y], *rows),
        body_of(lambda x, y: [y, x], *rows),
        body_of(lambda x, y: [x - y, x - y], *rows),
    )
    for index in (0, 1, 2, -3, 7):
        make = both(given(np.array(index, np.int32)), integers((5, 3), (5, 3), dtype="float32"))
        yield Sample(f"index_{index}", make, {"branches": branches})


# The operands are the index, which is brought into range, then what the branches captured.
SWITCH: Op = register(
    Op(
        "switch",
        infer=_infer,
        reference=_run,
        steps=_steps,
        samples=_samples,
        bound=Exact(),  # of the samples; compare() looks into bodies
        vjp=_vjp,
        grad_none=(0,),
        flow=describe_switch,
    )
)


def switch_graph(
    parent: Graph, index: Value, functions: Sequence[Callable[[], Sequence[Any]]]
) -> list[Value]:
    """Appends a switch to the graph that is being traced.

    Args:
        parent: that graph.
        index: which function gives the results, an int32.
        functions: each returns as many tensors, of the same shapes and dtypes. A variable that one
            of them assigns is assigned after the switch.
    """
    traced = [
        trace_body(parent, lambda f=f: [as_value(body_graph(), v) for v in f()], (), f"branch{i}")
        for i, f in enumerate(functions)
    ]
    bodies = [body for body, _, _ in traced]
    written: dict[State, None] = {}
    for body in bodies:
        written.update(dict.fromkeys(body.updates))
    for body in bodies:
        for state in written:
            body.read(state)
    captures = captures_of(bodies)
    branches = tuple(
        body.close((), [*results, *[body.read(state) for state in written]], captures)
        for body, _, results in traced
    )
    found = parent.emit(SWITCH, [index, *captures], {"branches": branches})
    count = len(found) - len(written)
    for state, value in zip(written, found[count:], strict=True):
        parent.assign(state, value)
    return list(found[:count])
