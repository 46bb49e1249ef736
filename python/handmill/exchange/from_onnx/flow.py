"""ONNX's If, Loop and Scan.

What is known while a model is traced is resolved then: the branch that a known condition takes is
all that is left of a choice, and loops of a known and small number of operators are written out.
Others become loops and branches of the program (:func:`handmill.ops.scan`, ``cond`` and
``while_loop``), of which all but the last have gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from handmill import ops
from handmill.errors import ShapeError
from handmill.exchange.from_onnx.execution import (
    Call,
    Unreadable,
    as_tensor,
    cost,
    known_dtype,
    rule,
    whole,
)
from handmill.exchange.from_onnx.program import Program
from handmill.ir.dims import as_none, is_symbolic_dim

MOST_STEPS = 1 << 20
"""Of a loop whose number of steps the file says."""
_FOREVER = 2**63 - 1
"""The number of steps that exporters write where only the condition ends a loop."""


def _is_known(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype != object


def _tensor(x: Any) -> Any:
    """A value as one of a program."""
    x = as_tensor(x)
    return np.asarray(x, known_dtype(x.dtype.name)) if isinstance(x, np.ndarray) else x


def _described(xs: Sequence[Any]) -> str:
    return ", ".join(f"{x.dtype}{as_none(tuple(x.shape))}" for x in xs)


def _condition(x: Any) -> Any:
    """A bool of Python where it is known, else a tensor without axes."""
    x = as_tensor(x)
    if math.prod(x.shape) != 1 or str(x.dtype) != "bool":
        raise Unreadable(f"its condition must be one bool, it is {_described([x])}")
    return bool(x.reshape(())) if isinstance(x, np.ndarray) else ops.reshape(x, ())


def _around(call: Call, operands: Sequence[Any], formal: int) -> dict[str, Any]:
    """What bodies read of the values around the step, by name: the operands behind its own."""
    return dict(zip(call.step.inputs[formal:], operands[formal:], strict=True))


@rule("If")
def branch(call: Call, *operands: Any) -> Any:
    """The results of one of two bodies."""
    bodies = {name: call.body(name) for name in ("then_branch", "else_branch")}
    counts = [len(body.outputs) for body in bodies.values()]
    if counts[0] != counts[1] or counts[0] < len(call.step.outputs):
        raise Unreadable(
            f"its branches have {counts[0]} and {counts[1]} outputs, it has "
            f"{len(call.step.outputs)}"
        )
    condition, around = _condition(operands[0]), _around(call, operands, 1)
    if isinstance(condition, bool):
        taken = bodies["then_branch" if condition else "else_branch"]
        return tuple(call.compute(taken, [], around))
    found: dict[str, list[Any]] = {}

    def of(name: str) -> Callable[[], list[Any]]:
        def compute() -> list[Any]:
            found[name] = [_tensor(x) for x in call.compute(bodies[name], [], around)]
            return found[name]

        return compute

    try:
        return tuple(ops.cond(condition, of("then_branch"), of("else_branch")))
    except ShapeError:
        if len(found) < 2:
            raise
        given = " and ".join(f"{name} gives {_described(xs)}" for name, xs in found.items())
        raise Unreadable(
            "its condition is computed from the model's inputs, so that both branches must give "
            f"the same shapes and dtypes: {given}"
        ) from None


# --- loops ---------------------------------------------------------------------------------------


class _Repeated:
    """The body of a Loop, and how often it runs.

    Attributes:
        call: the step.
        body: its graph.
        carried: how many values go from step to step.
        stacked: of how many results each step gives a row.
        around: what the body reads of the values around it.
    """

    def __init__(self, call: Call, operands: Sequence[Any]) -> None:
        self.call = call
        self.body = call.body("body")
        self.carried = len(self.body.inputs) - 2
        self.stacked = len(self.body.outputs) - 1 - self.carried
        if self.carried < 0 or self.stacked < 0:
            raise Unreadable(
                f"its graph has {len(self.body.inputs)} inputs and {len(self.body.outputs)} "
                "outputs: a number, a condition and n values go in, a condition, n values and "
                "what is stacked come out"
            )
        self.around = _around(call, operands, 2 + self.carried)

    def step(self, i: Any, values: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
        """One step: whether there is another one, what is carried, and a row of each result."""
        given = [i, np.asarray(True), *values]
        found = self.call.compute(self.body, given, self.around)
        at = 1 + self.carried
        return _condition(found[0]), found[1:at], found[at:]


class _DecidedByCallError(Exception):
    """A condition is known only when the program runs."""


def _count(x: Any) -> Any:
    """The most steps: None for no limit; a number, a size, or a tensor."""
    if x is None:
        return None
    if math.prod(x.shape) != 1 or (x.dtype != object and not str(x.dtype).startswith("int")):
        raise Unreadable(f"its number of steps must be one integer, it is {_described([x])}")
    if not isinstance(x, np.ndarray):
        return ops.reshape(ops.cast(x, "int64"), ())
    count = whole(x.reshape(-1)[0])
    return None if not is_symbolic_dim(count) and count >= _FOREVER else count


@rule("Loop")
def loop(call: Call, *operands: Any) -> Any:
    """A body again and again, as often as a number and a condition say."""
    body = _Repeated(call, operands)
    count, values = _count(operands[0]), list(operands[2 : 2 + body.carried])
    go = True if operands[1] is None else _condition(operands[1])
    is_scan = go is True and (isinstance(count, int) or is_symbolic_dim(count))
    if all(x is None or _is_known(x) for x in operands):
        is_scan = False  # what the file alone decides is computed now, or not at all
    left = call.budget.left
    try:
        if isinstance(go, bool) and (count is None or isinstance(count, int)):
            try:
                return _written_out(body, count, go, values)
            except ValueError:
                if call.budget.left >= 0 or not is_scan:
                    raise
                call.budget.left = left  # too much to be written out
        if is_scan:
            return _scanned(body, count, values)
    except _DecidedByCallError:
        pass
    return _repeated(body, count, go, values)


def _written_out(body: _Repeated, count: int | None, go: bool, values: list[Any]) -> Any:
    """All steps, one after the other."""
    call = body.call
    if go and count is not None:
        call.budget.needs(count * cost(body.body))
    rows: list[list[Any]] = [[] for _ in range(body.stacked)]
    i = 0
    while go and (count is None or i < count):
        more, values, found = body.step(np.asarray(i, np.int64), values)
        for row, x in zip(rows, found, strict=True):
            call.room([i + 1, *x.shape])
            row.append(x)
        if not isinstance(more, bool):
            raise _DecidedByCallError
        go, i = more, i + 1
    if not i and rows:
        found = body.step(np.asarray(0, np.int64), values)[2]
        return (*values, *[_tensor(x)[None, ...][:0] for x in found])
    return (*values, *map(_stacked, rows))


def _stacked(rows: Sequence[Any]) -> Any:
    if all(_is_known(x) for x in rows):
        return np.stack(rows)
    return ops.stack([_tensor(x) for x in rows])


def _scanned(body: _Repeated, count: Any, values: list[Any]) -> Any:
    """As a loop of the program whose number of steps is known when it begins."""
    if not is_symbolic_dim(count) and count > MOST_STEPS:
        raise Unreadable(f"it runs {count:,} steps, at most {MOST_STEPS:,} are read")

    def advance(state: Any, _: None) -> Any:
        i, now = state
        go, after, rows = body.step(i, now)
        if go is not True:
            raise _DecidedByCallError
        return (i + 1, [_tensor(x) for x in after]), [_tensor(x) for x in rows]

    first = (np.asarray(0, np.int64), [_tensor(x) for x in values])
    (_, last), rows = ops.scan(advance, first, length=count)
    return (*last, *rows)


def _repeated(body: _Repeated, count: Any, go: Any, values: list[Any]) -> Any:
    """As a loop of the program that a condition ends."""
    if body.stacked:
        names = body.call.step.outputs[body.carried :]
        raise Unreadable(
            f"how many steps it takes is computed from the model's inputs, and {names} hold a row "
            "of each step, so that their sizes are not known. Export the model with a fixed number "
            "of steps, or with results of a fixed size that the loop carries"
        )
    if is_symbolic_dim(count):
        count = ops.cast(ops.convert_to_tensor(count), "int64")

    def test(i: Any, more: Any, *now: Any) -> Any:
        return more if count is None else ops.logical_and(more, ops.less(i, count))

    def advance(i: Any, more: Any, *now: Any) -> Any:
        after, values, _ = body.step(i, now)
        return (i + 1, np.asarray(after) if isinstance(after, bool) else after,
                *[_tensor(x) for x in values])  # fmt: skip

    start = np.asarray(go) if isinstance(go, bool) else go
    found = ops.while_loop(
        test, advance, (np.asarray(0, np.int64), start, *[_tensor(x) for x in values])
    )
    return tuple(found[2:])


# --- scans ---------------------------------------------------------------------------------------


def _axes(call: Call, kind: str, ranks: Sequence[int]) -> tuple[list[int], list[int]]:
    """The axis of each scanned tensor, and whether it is gone along backwards."""
    axes = call.attr(f"scan_{kind}_axes", [0] * len(ranks))
    backwards = call.attr(f"scan_{kind}_directions", [0] * len(ranks))
    if len(axes) != len(ranks) or len(backwards) != len(ranks) or not {0, 1} >= set(backwards):
        raise Unreadable(
            f"scan_{kind}_axes {axes} and scan_{kind}_directions {backwards} for {len(ranks)} "
            "tensors; directions are 0 or 1"
        )
    return [call.axis(a, rank) for a, rank in zip(axes, ranks, strict=True)], list(backwards)


def _moved(x: Any, source: int, to: int) -> Any:
    if source == to:
        return x
    return np.moveaxis(x, source, to) if isinstance(x, np.ndarray) else ops.moveaxis(x, source, to)


def _flipped(x: Any) -> Any:
    return x[::-1] if isinstance(x, np.ndarray) else ops.flip(x, axis=0)


@rule("Scan")
def scan(call: Call, *operands: Any) -> Any:
    """A body for each entry along an axis."""
    if call.opset < 9:
        raise Unreadable("Scan of version 8 is not read; export with version 9 or newer")
    body, scanned = call.body("body"), call.attr("num_scan_inputs", 0)
    carried = len(body.inputs) - scanned
    stacked = len(body.outputs) - carried
    if scanned < 1 or carried < 0 or stacked < 0:
        raise Unreadable(
            f"its graph has {len(body.inputs)} inputs, of which {scanned} are scanned, and "
            f"{len(body.outputs)} outputs"
        )
    if any(x is None for x in operands):
        raise Unreadable("an operand is missing")
    around = _around(call, operands, carried + scanned)
    values, rows = list(operands[:carried]), [as_tensor(x) for x in operands[carried:][:scanned]]
    axes, backwards = _axes(call, "input", [len(x.shape) for x in rows])
    if any(not x.shape for x in rows):
        raise Unreadable("what is scanned must have an axis")
    rows = [_moved(x, axis, 0) for x, axis in zip(rows, axes, strict=True)]
    lengths = {int(x.shape[0]) for x in rows if not is_symbolic_dim(x.shape[0])}
    if len(lengths) > 1:
        raise Unreadable(f"what is scanned has the lengths {sorted(lengths)}")
    ends = call.attr("scan_output_directions", [0] * stacked)
    reverse = all(backwards) and all(ends)
    if not reverse:
        rows = [_flipped(x) if b else x for x, b in zip(rows, backwards, strict=True)]
    last, found = _steps(call, body, values, rows, around, reverse)
    at, back = _axes(call, "output", [len(x.shape) for x in found])
    if not reverse:
        found = [_flipped(x) if b else x for x, b in zip(found, back, strict=True)]
    return (*last, *[_moved(x, 0, axis) for x, axis in zip(found, at, strict=True)])


def _steps(
    call: Call,
    body: Program,
    values: list[Any],
    rows: list[Any],
    around: Mapping[str, Any],
    reverse: bool,
) -> tuple[list[Any], list[Any]]:
    """What is carried in the end, and the rows of all steps: by hand where all is known."""
    carried = len(values)

    def step(now: Sequence[Any], row: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        found = call.compute(body, [*now, *row], around)
        return found[:carried], found[carried:]

    if not all(_is_known(x) for x in [*values, *rows, *around.values()]):

        def traced(now: Any, row: Any) -> tuple[Any, Any]:
            after, found = step(now, row)
            return [_tensor(x) for x in after], [_tensor(x) for x in found]

        last, stacked = ops.scan(
            traced, [_tensor(x) for x in values], [_tensor(x) for x in rows], reverse=reverse
        )
        return list(last), list(stacked)
    order = range(len(rows[0]))
    made: list[list[Any]] = []
    for i in reversed(order) if reverse else order:
        values, found = step(values, [np.asarray(x[i]) for x in rows])
        for x in found:
            call.room([len(order), *x.shape])
        made.append(found)
    if not made and len(body.outputs) > carried:
        raise Unreadable("it runs no step, so that the sizes of what it stacks are not known")
    columns = zip(*(made[::-1] if reverse else made), strict=True)
    return values, [np.stack(column) for column in columns]
