"""Loops and branches.

On arrays they are loops and branches of Python. While a model is traced they become one node of
its graph, whose function is traced once: the loop then runs inside the program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import index
from typing import Any, TypeVar

import numpy as np

from handmill import tree
from handmill.errors import ShapeError
from handmill.ir.body import trace_body
from handmill.ir.dims import Dim, SymbolicDim, as_none, same
from handmill.ir.graph import Graph, Value, current_graph
from handmill.ir.shapes import Spec, numpy_dtype
from handmill.ir.trace import as_value, opens
from handmill.ops.core.conversion import cast
from handmill.primitives.branches import switch_graph
from handmill.primitives.loops import scan_graph, while_graph
from handmill.primitives.operands import dtype_of, promote, shape_of, tensor

T = TypeVar("T")


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """Applies a function to the rows of ``xs`` one after the other, carrying something along.

    Args:
        f: takes the carry and a row, returns the next carry, of the same structure, shapes and
            dtypes, and a result for the row (or None).
        init: the first carry, a tensor or a nested structure of tensors.
        xs: a tensor or nested structure of tensors of shape (length, ...). Default: none; ``f``
            gets None.
        length: the number of steps, needed where there is no ``xs``.
        reverse: whether to begin with the last row; results stand at their rows.
        unroll: accepted as in Keras; it changes no number.

    Returns:
        The last carry, and the results stacked along a new first axis.

    Raises:
        ValueError: if the number of steps is unknown, or the carry changes its structure, shape
            or dtype.

    Example:
        >>> import numpy as np
        >>> from handmill import ops
        >>> ops.scan(lambda total, x: (total + x, total), np.float32(0), np.arange(4.0, dtype="f"))
        (array(6., dtype=float32), array([0., 0., 1., 3.], dtype=float32))
    """
    if not callable(f):
        raise TypeError(f"scan: `f` should be a callable. Received: f={f!r}")
    if not isinstance(unroll, bool) and (not isinstance(unroll, int) or unroll < 1):
        raise ValueError(
            f"scan: `unroll` must be an positive integer or boolean. Received: unroll={unroll!r}"
        )
    carry = [tensor(x) for x in _leaves(init)]
    rows = [tensor(x) for x in _leaves(xs)]
    if _has_keras_tensors([*carry, *rows]):
        recorded: tuple[Any, Any] = _recorded(
            "scan", lambda c, r: scan(f, c, r, length, reverse), (init, xs)
        )
        return recorded
    steps = _length(rows, length)
    structure: list[Any] = []

    def step(now: Sequence[Any], row: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        found = f(_pack(init, now), _pack(xs, row))
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise ValueError(f"scan: f must return (carry, result), got {type(found).__name__}")
        _check_structure("scan", "the tensors of the carry", init, found[0])
        after = _same_specs("scan", now, _results(found[0]))
        structure[:] = [found[1]]
        return after, _results(found[1])

    graph = current_graph()
    if graph is not None and not opens(steps):
        last, stacked = scan_graph(
            graph,
            step,
            [as_value(graph, x) for x in carry],
            [as_value(graph, x) for x in rows],
            steps,
            reverse,
        )
        return _pack(init, last), _pack(structure[0], stacked)
    results: list[list[Any]] = []
    count = _number(steps)
    for i in reversed(range(count)) if reverse else range(count):
        carry, found = step(carry, [x[i, ...] for x in rows])
        results.append(found)
    if not results:
        return _pack(init, carry), _pack_results(structure, _empty(step, carry, rows))
    from handmill.ops import stack

    columns = zip(*(results[::-1] if reverse else results), strict=True)
    return _pack(init, carry), _pack_results(structure, [stack(column) for column in columns])


def map(f: Callable[[Any], Any], xs: Any) -> Any:
    """Applies a function to the rows of ``xs``, one at a time.

    Args:
        f: takes a row, returns a tensor or a nested structure of tensors.
        xs: a tensor or nested structure of tensors of shape (length, ...).

    Returns:
        The results, stacked along a new first axis.

    Example:
        >>> import numpy as np
        >>> from handmill import ops
        >>> ops.map(lambda x: x * x, np.arange(4))
        array([0, 1, 4, 9])
    """
    if _has_keras_tensors(_leaves(xs)):
        return _recorded("map", lambda rows: map(f, rows), (xs,))
    return scan(lambda carry, x: (carry, f(x)), (), xs)[1]


def vectorized_map(function: Callable[[Any], Any], elements: Any) -> Any:
    """Applies a function to the rows of ``elements``; see :func:`map`.

    Args:
        function: takes a row, returns a tensor or a nested structure of tensors.
        elements: a tensor or nested structure of tensors of shape (length, ...).

    Example:
        >>> import numpy as np
        >>> from handmill import ops
        >>> ops.vectorized_map(lambda x: x + 1, np.arange(3))
        array([1, 2, 3])
    """
    return map(function, elements)


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    maximum_iterations: int | None = None,
) -> Any:
    """Repeats a function while a condition holds.

    It has no gradient inside a traced program, since only the run knows the number of steps.

    Args:
        cond: takes the loop variables, returns one bool.
        body: takes the loop variables, returns them anew: same structure, shapes and dtypes.
        loop_vars: a list or tuple of tensors (or structures of them), or one tensor.
        maximum_iterations: the most repetitions. Default: no limit.

    Returns:
        The loop variables when the condition held no longer, in the structure of ``loop_vars``.

    Example:
        >>> from handmill import ops
        >>> ops.while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 2.0), (0, 1.0))
        (array(5, dtype=int32), array(32., dtype=float32))
    """
    several = isinstance(loop_vars, tuple | list)
    variables = loop_vars if several else (loop_vars,)
    if maximum_iterations is not None:
        most = _whole("while_loop: maximum_iterations", maximum_iterations)
        if isinstance(most, SymbolicDim):
            raise TypeError(
                "while_loop: maximum_iterations must be known while a model is traced, got "
                f"{most}; let cond compare a counter with it"
            )
        maximum_iterations = most

    def test(*now: Any) -> Any:
        return _truth("while_loop: cond must give", cond(*_pack(variables, now)))

    def step(*now: Any) -> list[Any]:
        found = body(*_pack(variables, now))
        if not isinstance(found, tuple | list) or not several:
            found = (found,) if not isinstance(found, tuple | list) else tuple(found)
        _check_structure("while_loop", "the loop variables", tuple(variables), tuple(found))
        return _same_specs("while_loop", now, _results(tuple(found)))

    values = [tensor(x) for x in _leaves(variables)]
    if _has_keras_tensors(values):
        return _recorded(
            "while_loop",
            lambda now: while_loop(cond, body, now, maximum_iterations),
            (loop_vars,),
        )
    graph = current_graph()
    if graph is not None:
        given = [as_value(graph, x) for x in values]
        values = while_graph(graph, test, step, given, maximum_iterations)
    else:
        count = 0
        while (maximum_iterations is None or count < maximum_iterations) and bool(test(*values)):
            values = step(*values)
            count += 1
    packed = _pack(variables, values)
    return packed if several else packed[0]


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """Repeats a function for the integers from ``lower`` to ``upper`` - 1.

    Where both are Python integers (or sizes), the loop has a gradient.

    Args:
        lower: the first integer.
        upper: the end, excluded.
        body_fun: takes the integer and the value, returns the next value.
        init_val: the first value, a tensor or a nested structure of tensors.

    Returns:
        The last value.

    Example:
        >>> from handmill import ops
        >>> ops.fori_loop(0, 3, lambda i, x: x * 2.0, 1.0)
        array(8., dtype=float32)
    """
    if _has_keras_tensors([lower, upper, *_leaves(init_val)]):
        return _recorded(
            "fori_loop",
            lambda first, end, value: fori_loop(first, end, body_fun, value),
            (lower, upper, init_val),
        )
    if isinstance(lower, int | SymbolicDim) and isinstance(upper, int | SymbolicDim):
        steps = upper - lower
        if isinstance(steps, int):
            steps = max(steps, 0)
        start = cast(lower, "int32")
        carry, _ = scan(
            lambda now, row: ((now[0] + 1, body_fun(*now)), None),
            (start, init_val),
            length=steps,
        )
        return carry[1]
    bounds = [tensor(lower), tensor(upper)]
    for what, bound in zip(("lower", "upper"), bounds, strict=True):
        if shape_of(bound) != () or not dtype_of(bound).startswith(("int", "uint")):
            raise ValueError(f"fori_loop: {what} must be one integer, got {_text(bound)}")
    first, end = promote(*bounds)
    return while_loop(
        lambda i, value: i < end, lambda i, value: (i + 1, body_fun(i, value)), (first, init_val)
    )[1]


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """Returns what one of two functions gives.

    While a model is traced both functions are traced, and one of them runs.

    Args:
        pred: one bool.
        true_fn: takes nothing; called where ``pred`` is true.
        false_fn: takes nothing; gives the same structure, shapes and dtypes.

    Example:
        >>> from handmill import ops
        >>> ops.cond(True, lambda: ops.ones(2), lambda: ops.zeros(2))
        array([1., 1.], dtype=float32)
    """
    truth = _truth("cond: pred must be", pred)
    if not isinstance(truth, Value):
        return true_fn() if bool(truth) else false_fn()
    names = ("false_fn", "true_fn")
    return _choose("cond", cast(truth, "int32"), (false_fn, true_fn), names)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """Returns what one of several functions gives.

    Args:
        index: an integer; below zero it counts as zero, past the end as the last.
        branches: functions of ``operands`` that give the same structure, shapes and dtypes.
        *operands: handed to the function.

    Example:
        >>> from handmill import ops
        >>> ops.switch(1, [lambda x: x + 1.0, lambda x: x * 2.0], 5.0)
        np.float32(10.0)
    """
    if not branches:
        raise ValueError("switch: there is no branch to choose")
    if _has_keras_tensors([index, *_leaves(operands)]):
        return _recorded("switch", lambda i, xs: switch(i, branches, *xs), (index, operands))
    number = tensor(index)
    if shape_of(number) != () or not dtype_of(number).startswith(("int", "uint")):
        raise ValueError(f"switch: index must be one integer, got {_text(number)}")
    given = tree.map_structure(lambda x: None if x is None else tensor(x), operands)
    if not isinstance(number, Value):
        return branches[min(max(int(number), 0), len(branches) - 1)](*given)
    names = [f"branches[{i}]" for i in range(len(branches))]
    return _choose("switch", cast(number, "int32"), [partial(f, *given) for f in branches], names)


def associative_scan(
    f: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """Combines each element with all before it, by an associative function, in parallel.

    Args:
        f: takes two structures like ``elems`` whose slices along ``axis`` are to be combined
            pairwise, and returns their combinations. Must be associative.
        elems: a tensor or nested structure of tensors, of one size along ``axis``. Where a call
            decides it, one slice follows the other.
        reverse: whether to combine with all after it instead.
        axis: along which.

    Returns:
        A structure like ``elems``.

    Example:
        >>> import numpy as np
        >>> from handmill import ops
        >>> ops.associative_scan(lambda a, b: a + b, np.arange(5))
        array([ 0,  1,  3,  6, 10])
    """
    from handmill.ops import concatenate, expand_dims, flip, moveaxis, squeeze, stack
    from handmill.ops import reshape as reshaped

    leaves = [tensor(x) for x in _leaves(elems)]
    if not leaves:
        raise ValueError("associative_scan: there is nothing to scan")
    for x in leaves:
        if not -len(shape_of(x)) <= axis < len(shape_of(x)):
            raise ValueError(f"associative_scan: {_text(x)} has no axis {axis}")
    sizes = [shape_of(x)[axis] for x in leaves]
    if not all(same(size, sizes[0]) for size in sizes[1:]):
        given = ", ".join(_text(x) for x in leaves)
        raise ValueError(f"associative_scan: sizes along axis {axis} differ: {given}")

    def cut(x: Any, part: slice) -> Any:
        return x[(slice(None),) * (axis % len(shape_of(x))) + (part,)]

    def combine(a: list[Any], b: list[Any]) -> list[Any]:
        combined = f(_pack(elems, a), _pack(elems, b))
        _check_structure("associative_scan", "the tensors that f combines", elems, combined)
        return _same_specs("associative_scan", a, _results(combined))

    def weave(even: Any, odd: Any) -> Any:
        at = axis % len(shape_of(even))
        count, pairs = shape_of(even)[at], shape_of(odd)[at]
        joined = stack([cut(even, slice(0, pairs)), odd], axis=at + 1)
        shape = shape_of(odd)
        woven = reshaped(joined, (*shape[:at], 2 * pairs, *shape[at + 1 :]))
        return woven if count == pairs else concatenate([woven, cut(even, slice(pairs, None))], at)

    def run(xs: list[Any]) -> list[Any]:
        count = shape_of(xs[0])[axis % len(shape_of(xs[0]))]
        if count < 2:
            return xs
        pairs = combine(
            [cut(x, slice(0, count - 1, 2)) for x in xs], [cut(x, slice(1, None, 2)) for x in xs]
        )
        odd = run(pairs)
        even = [cut(x, slice(0, 1)) for x in xs]
        if count > 2:
            before = [cut(x, slice(0, (count - 1) // 2)) for x in odd]
            rest = combine(before, [cut(x, slice(2, None, 2)) for x in xs])
            even = [
                concatenate([x, y], axis % len(shape_of(x)))
                for x, y in zip(even, rest, strict=True)
            ]
        return [weave(x, y) for x, y in zip(even, odd, strict=True)]

    def run_one_by_one(xs: list[Any]) -> list[Any]:
        def step(carry: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
            met = combine(
                [expand_dims(x, axis) for x in carry], [expand_dims(x, axis) for x in row]
            )
            after = [squeeze(x, axis) for x in met]
            return after, after

        first = [cut(x, slice(0, 1)) for x in xs]
        rows = [moveaxis(cut(x, slice(1, None)), axis, 0) for x in xs]
        _, rest = scan(step, [squeeze(x, axis) for x in first], rows)
        rest = [moveaxis(x, 0, axis) for x in rest]
        return [concatenate(pair, axis) for pair in zip(first, rest, strict=True)]

    if reverse:
        leaves = [flip(x, axis) for x in leaves]
    is_known = all(isinstance(size, int) for size in sizes)
    found = run(leaves) if is_known else run_one_by_one(leaves)
    return _pack(elems, [flip(x, axis) for x in found] if reverse else found)


# --- Structures, of which None is a part and no tensor ---


def _leaves(structure: Any) -> list[Any]:
    return [x for x in tree.flatten(structure) if x is not None]


def _results(structure: Any) -> list[Any]:
    """The tensors that a function of the user's returned.

    NumPy's arithmetic on float64 arrays without dimensions gives numbers that are Python's floats
    too: here they are no weak numbers but what an operator computed.
    """
    leaves = _leaves(structure)
    return [tensor(np.asarray(x) if isinstance(x, np.generic) else x) for x in leaves]


def _pack(structure: Any, leaves: Sequence[Any]) -> Any:
    items = iter(leaves)
    full = [None if x is None else next(items) for x in tree.flatten(structure)]
    return tree.pack_sequence_as(structure, full)


def _pack_results(structure: list[Any], leaves: Sequence[Any]) -> Any:
    return _pack(structure[0], leaves)


def _check_structure(name: str, what: str, before: Any, after: Any) -> None:
    if _shape_of_structure(before) != _shape_of_structure(after):
        raise ValueError(
            f"{name}: {what} must keep their structure, went in as {_text(before)} and came out as "
            f"{_text(after)}"
        )


def _shape_of_structure(structure: Any) -> Any:
    """The structure with a bool for each part: whether it is None."""
    if isinstance(structure, dict):
        return {key: _shape_of_structure(value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return [_shape_of_structure(item) for item in structure]
    return structure is None


def _text(structure: Any) -> str:
    def describe(x: Any) -> str:
        return "None" if x is None else f"{dtype_of(tensor(x))}{as_none(shape_of(tensor(x)))}"

    return str(tree.map_structure(describe, structure))


def _same_specs(name: str, before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    kept = []
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        if _WIDENS and isinstance(b, np.ndarray) and b.ndim == 0 and b.dtype.kind == a.dtype.kind:
            b = b.astype(a.dtype)
        if not _fits(a, b):
            raise ShapeError(
                f"{name}: tensor {i} went in as {_text(a)} and came out as {_text(b)}; a loop "
                "keeps shapes and dtypes (handmill.ops.cast changes a dtype)"
            )
        kept.append(b)
    return kept


_WIDENS = int(np.__version__.partition(".")[0]) < 2
"""Whether NumPy's arithmetic of an array without dimensions and a Python number widens it."""


def _fits(a: Any, b: Any) -> bool:
    shapes = shape_of(a), shape_of(b)
    return (
        dtype_of(a) == dtype_of(b)
        and len(shapes[0]) == len(shapes[1])
        and all(same(x, y) for x, y in zip(*shapes, strict=True))
    )


def _length(rows: Sequence[Any], length: Dim | None) -> Dim:
    sizes: list[Dim] = [] if length is None else [_whole("scan: length", length)]
    for x in rows:
        if shape_of(x) == ():
            raise ValueError("scan: xs must have a first axis to go along, got a scalar")
        sizes.append(shape_of(x)[0])
    if not sizes:
        raise ValueError(
            "scan: there is nothing to scan over and no length; xs or length must say how many "
            "steps there are"
        )
    for size in sizes[1:]:
        if not same(sizes[0], size):
            raise ValueError(f"scan: lengths differ: {', '.join(str(s) for s in sizes)}")
    if isinstance(sizes[0], int) and sizes[0] < 0:
        raise ValueError(f"scan: length must not be negative, got {sizes[0]}")
    return sizes[0]


def _whole(what: str, number: Any) -> Dim:
    """A size, or a Python integer.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(number, SymbolicDim):
        return number
    try:
        return index(number)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {number!r}") from None


def _number(steps: Dim) -> int:
    assert isinstance(steps, int)  # noqa: S101  (arrays have sizes)
    return steps


def _empty(step: Callable[..., Any], carry: Sequence[Any], rows: Sequence[Any]) -> list[Any]:
    """The stacked results of no step, whose shapes only a trace can tell."""
    specs = [Spec(shape_of(x), dtype_of(x)) for x in carry]
    specs += [Spec(shape_of(x)[1:], dtype_of(x)) for x in rows]
    _, _, found = trace_body(
        Graph(), lambda *xs: step(xs[: len(carry)], xs[len(carry) :]), specs, "scan"
    )
    return [np.zeros((0, *shape_of(y)), numpy_dtype(dtype_of(y))) for y in found[1]]


def _truth(what: str, x: Any) -> Any:
    """One bool.

    Raises:
        ValueError: for anything else, beginning with ``what``.
    """
    if x is None or isinstance(x, str):
        raise ValueError(f"{what} one bool, got {x!r}")
    if _has_keras_tensors([x]):
        raise TypeError(
            f"{what} one bool, got a KerasTensor: the functions of ops.cond take no arguments, so "
            "they would see no values of the model; use ops.switch, which hands operands to its "
            "branches, or write a small layer of your own"
        )
    found = tensor(x)
    if shape_of(found) != ():
        raise ValueError(
            f"{what} one bool, got {_text(found)}; handmill.ops.any and all make one of many"
        )
    return cast(found, "bool")


def _choose(
    name: str, index: Value, functions: Sequence[Callable[[], Any]], names: Sequence[str]
) -> Any:
    graph = current_graph()
    assert graph is not None  # noqa: S101  (the index is a value of it)
    structures: list[Any] = []

    def flat(function: Callable[[], Any]) -> list[Any]:
        found = function()
        if structures and not _agrees(structures[0], found):
            raise ShapeError(
                f"{name}: {names[0]} gives {_text(structures[0])} where {names[len(structures)]} "
                f"gives {_text(found)}; in a program both are the same structure of the same "
                "shapes and dtypes"
            )
        structures.append(found)
        return _results(found)

    found = switch_graph(graph, index, [partial(flat, f) for f in functions])
    return _pack(structures[0], found)


def _agrees(a: Any, b: Any) -> bool:
    if _shape_of_structure(a) != _shape_of_structure(b):
        return False
    return all(_fits(x, y) for x, y in zip(_results(a), _results(b), strict=True))


def _has_keras_tensors(tensors: Sequence[Any]) -> bool:
    return any(hasattr(type(x), "record_function") for x in tensors)


def _recorded(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Records a loop or choice over KerasTensors as a layer; its functions get their rows."""
    record = next(
        type(x).record_function for x in _leaves(arguments) if hasattr(type(x), "record_function")
    )
    return record(name, function, arguments)
