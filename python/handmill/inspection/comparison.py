"""Checks a model's numbers: every operator of one step, kernel against NumPy reference.

Each reference gets, in float64, exactly the operands that the kernel had. Errors do not add
up from operator to operator, kinks raise no false alarm, and a wrong operator is named.

The body of a loop or branch is run as a program of its own, step by step, and compared operator by
operator like any other; what the loop gave must then be, bit for bit, what these steps gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from handmill.ir.bfloat16 import half_spacing
from handmill.ir.body import Body, bodies_of
from handmill.ir.dims import attrs_with
from handmill.ir.graph import Graph, Node, Value
from handmill.ir.lower import describe
from handmill.ir.op import Array, Attrs, Op
from handmill.ir.shapes import Sizes
from handmill.ir.tile import TILE
from handmill.runtime.function import TracedFunction


@dataclass(frozen=True, slots=True)
class Row:
    """The comparison of one output of one operator.

    Attributes:
        graph: ``"unfused"`` or ``"fused"``.
        op: the operator's name; for tile programs the names of their instructions. Inside of a loop
            or branch it stands behind the name of that: ``"scan/matmul"``.
        scope: the layer that asked for it.
        output: which output of the operator.
        error: the largest error in units of its bound; at most 1 when all is well.
        index: the position of the largest error; inside of loops, behind the number of the step.
        got: what the kernel gave there.
        want: what the reference gives in float64.
    """

    graph: str
    op: str
    scope: str
    output: int
    error: float
    index: tuple[int, ...]
    got: float
    want: float

    def __str__(self) -> str:
        where = f" in layer {self.scope!r}" if self.scope else ""
        return (
            f"{self.op}{where} ({self.graph}, output {self.output}): {self.error:.3g} times its "
            f"bound at {self.index}: kernel {self.got!r}, reference {self.want!r}"
        )


class ComparisonError(AssertionError):
    """A kernel's result lies outside the bound of its operator."""


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes:
        rows: one for each output of each operator, in program order, unfused graph first; for
            those inside of a loop, the worst of all steps.
    """

    rows: tuple[Row, ...]

    @property
    def worst(self) -> Row:
        """The row with the largest error in units of its bound."""
        return max(self.rows, key=lambda row: row.error)

    @property
    def ok(self) -> bool:
        """Whether every error is within its bound."""
        return all(row.error <= 1.0 for row in self.rows)

    def raise_if_failed(self) -> None:
        """Raises if an operator is outside its bound.

        Raises:
            ComparisonError: naming each such operator, worst first.
        """
        failed = sorted((r for r in self.rows if not r.error <= 1.0), key=lambda r: -r.error)
        if failed:
            raise ComparisonError("\n".join(str(row) for row in failed))

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "FAILED"
        return f"{verdict}: {len(self.rows)} results compared; worst: {self.worst}"


def compare(model: Any, x: Any, y: Any = None) -> Comparison:
    """Runs one step of ``model`` with kernels and checks each operator against NumPy.

    A compiled model with targets runs a training step (forward, backward, update); otherwise
    a prediction. The model's weights and counters are left as they were.

    Args:
        model: a handmill model.
        x: inputs, as for ``fit``; one batch of them is enough.
        y: targets, as for ``fit``.

    Returns:
        A :class:`Comparison`: ``.rows``, ``.worst``, ``.ok``, ``.raise_if_failed()``.

    Example:
        >>> import numpy as np, handmill
        >>> model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(3)])
        >>> handmill.compare(model, np.ones((8, 4), "float32")).ok
        True
    """
    function, arrays = model.step_to_compare(x, y)
    return compare_function(function, arrays)


def compare_function(function: TracedFunction, arrays: Sequence[Array]) -> Comparison:
    """Compares one run of a traced function; see :func:`compare`."""
    signature = function.fitted(arrays).signature
    rows: list[Row] = []
    for fused in (False, True):
        program, number, graph = signature.program(feeds=False, fused=fused)
        sizes = graph.bind([x.shape for x in arrays])
        before = {s: np.array(content) for s, content in signature.contents(graph).items()}
        plan = program.specialize(graph.sizes_of(sizes), keep_all=True).bind(
            signature.binding_of(graph)
        )
        kept = plan.values(*arrays)  # writes no variable
        env: dict[Value, Array] = {v: kept[i] for v, i in number.items() if i in kept}
        env.update(zip(graph.inputs, arrays, strict=True))
        env.update({v: before[s] for s, v in graph.variables.items()})
        env.update({v: v.origin for v in graph.constants})
        rows += _Comparer("fused" if fused else "unfused").graph(graph, env, sizes).values()
    return Comparison(tuple([replace(row, scope=signature.scope(row.scope)) for row in rows]))


def worst_error(op: Op, inputs: Sequence[Array], attrs: Attrs, got: Any) -> float:
    """The largest error of ``got`` against the reference, in units of the operator's bound."""
    outputs = got if isinstance(got, tuple) else (got,)
    with np.errstate(all="ignore"):
        wants, tolerances = _expected(op, [_wide(x) for x in inputs], attrs)
    errors = [
        float(_units(np.asarray(g), w, t).max(initial=0.0))
        for g, w, t in zip(outputs, wants, tolerances, strict=True)
    ]
    return max(errors)


_Rows: TypeAlias = dict[tuple[int, ...], Row]
"""By the place in the program: node, output; inside of a node: node, body, node, output."""


class _Comparer:
    """Compares the operators of one program.

    Args:
        name: of the graph, for the rows.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._plans: dict[Graph, tuple[Any, dict[Value, int]]] = {}

    def graph(self, graph: Graph, env: Mapping[Value, Array], sizes: Sizes) -> _Rows:
        """Compares every operator of a graph whose values were these."""
        rows: _Rows = {}
        for at, node in enumerate(graph.nodes):
            attrs = attrs_with(node.attrs, sizes)
            if bodies_of(node):
                found = self._flow(node, attrs, [env[v] for v in node.inputs], rows, at)
                for i, (value, want) in enumerate(zip(node.outputs, found, strict=True)):
                    units = _units_of_bits(env[value], want)
                    rows[at, i] = _row(self._name, node, i, env[value], want, units)
                continue
            operands = [_wide(env[v]) for v in node.inputs]
            with np.errstate(all="ignore"):
                wants, tolerances = _expected(node.op, operands, attrs)
            for i, value in enumerate(node.outputs):
                units = _units(env[value], wants[i], tolerances[i])
                rows[at, i] = _row(self._name, node, i, env[value], wants[i], units)
        return rows

    def _flow(
        self, node: Node, attrs: Attrs, operands: list[Array], rows: _Rows, at: int
    ) -> tuple[Array, ...]:
        """Compares the bodies of a node each time that they run.

        Returns:
            What the node gives where each body gives what it gave here.
        """
        assert node.op.steps is not None  # noqa: S101  (it has bodies)
        numbers: dict[Body, int] = {}

        def run(body: Body, arrays: Sequence[Array], step: int | None) -> list[Array]:
            number = numbers.setdefault(body, len(numbers))
            found, results = self._body(body, arrays)
            for place, row in found.items():
                index = row.index if step is None else (step, *row.index)
                inner = replace(row, op=f"{node.op.name}/{row.op}", index=index)
                key = (at, number, *place)
                before = rows.get(key)
                if before is None or not inner.error <= before.error:
                    rows[key] = inner
            return results

        return node.op.steps(run, operands, **attrs)

    def _body(self, body: Body, arrays: Sequence[Array]) -> tuple[_Rows, list[Array]]:
        """Runs and compares a body once."""
        from handmill import _core

        graph = body.graph
        if graph not in self._plans:
            arguments, number = describe(graph, _core.tile_opcodes(), feeds=False)
            plan = _core.Program(**arguments).specialize((), keep_all=True).bind()
            self._plans[graph] = plan, number
        plan, number = self._plans[graph]
        kept = plan.values(*arrays)
        env: dict[Value, Array] = {v: kept[i] for v, i in number.items() if i in kept}
        env.update(zip(graph.inputs, arrays, strict=True))
        env.update({v: v.origin for v in graph.constants})
        return self.graph(graph, env, {}), [env[v] for v in graph.outputs]


def _expected(op: Op, operands: list[Array], attrs: Attrs) -> tuple[list[Array], list[Array]]:
    if op is TILE:
        return _expected_of_tile(operands, attrs)
    result = op.reference(*operands, **attrs)
    wants = [_wide(want) for want in (result if isinstance(result, tuple) else (result,))]
    bounds = op.bound if isinstance(op.bound, tuple) else (op.bound,) * len(wants)
    return wants, [
        bound.tolerance(want, operands, attrs) for bound, want in zip(bounds, wants, strict=True)
    ]


def _expected_of_tile(operands: list[Array], attrs: Attrs) -> tuple[list[Array], list[Array]]:
    """Runs a tile program, and carries the allowed error from instruction to instruction.

    What an instruction's operands may be off is pushed through it by evaluating it at both ends.
    """
    values = list(operands)
    slack = [np.zeros(()) for _ in operands]
    for instruction in attrs["instructions"]:
        own_attrs = dict(instruction.attrs)
        given = [values[i] for i in instruction.operands]
        (want,), (own,) = _expected(instruction.op, given, own_attrs)
        carried = np.zeros(np.shape(want))
        for position, i in enumerate(instruction.operands):
            if not np.any(slack[i]):
                continue
            ends = []
            for sign in (-1.0, 1.0):
                moved = list(given)
                moved[position] = given[position] + sign * slack[i]
                end = _wide(instruction.op.reference(*moved, **own_attrs))
                change = np.abs(np.subtract(end, want, dtype=np.float64))  # of truth values too
                ends.append(np.where(np.isfinite(change), change, 0.0))
            carried = carried + np.maximum(*ends)
        values.append(_wide(want))
        slack.append(np.broadcast_to(own + carried, np.shape(want)))
    first = len(operands)
    picked = [first + i for i in attrs["results"]]
    return [values[i] for i in picked], [slack[i] for i in picked]


def _row(name: str, node: Node, output: int, got: Array, want: Array, units: Array) -> Row:
    op_name = node.op.name
    if node.op is TILE:
        op_name = "+".join(i.op.name for i in node.attrs["instructions"])
    if units.size == 0:
        return Row(name, op_name, node.scope, output, 0.0, (), 0.0, 0.0)
    flat = int(np.argmax(units))
    index = tuple(int(i) for i in np.unravel_index(flat, units.shape))
    return Row(
        name,
        op_name,
        node.scope,
        output,
        float(units[index]),
        index,
        float(got[index]),
        float(np.broadcast_to(want, units.shape)[index]),
    )


def _units(got: Array, want: Array, allowed: Array) -> Array:
    """Errors in units of what is allowed; 0 where the bits are right, infinite for a stray NaN."""
    with np.errstate(all="ignore"):
        want_rounded = np.asarray(want).astype(got.dtype)
        same = (got == want_rounded) | (np.isnan(got) & np.isnan(want_rounded))
        error = np.abs(got.astype(np.float64) - np.asarray(want).astype(np.float64))
        if got.dtype.itemsize == 2:  # bfloat16: a float32 result, rounded once more
            allowed = allowed + half_spacing(np.abs(want_rounded.astype(np.float64)) + allowed)
        units = np.where(same, 0.0, error / np.where(allowed > 0, allowed, 1e-300))
        return np.asarray(np.where(np.isnan(units), np.inf, units))


def _units_of_bits(got: Array, want: Array) -> Array:
    """0 where the bits are the same (any NaN is any other), infinite elsewhere."""
    bits = f"u{got.dtype.itemsize}"
    same = got.view(bits) == want.view(bits)
    if got.dtype.kind not in "iub":
        same |= np.isnan(got) & np.isnan(want)
    return np.where(same, 0.0, np.inf)


def _wide(array: Array) -> Array:
    is_rounded = array.dtype == np.float32 or array.dtype.itemsize == 2  # the latter: bfloat16
    return array.astype(np.float64) if is_rounded else array
