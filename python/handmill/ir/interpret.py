"""Runs a graph operator by operator with the NumPy references: the oracle and the NumPy backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handmill.errors import RowError
from handmill.ir.bfloat16 import BFLOAT16, run_reference
from handmill.ir.dims import BATCH, attrs_with
from handmill.ir.graph import Graph, Node, Value
from handmill.ir.op import Array
from handmill.ir.shapes import Sizes, Spec, numpy_dtype


def interpret(
    graph: Graph,
    inputs: Sequence[Array],
    *,
    states: Mapping[Any, Array] | None = None,
    dtype: str | None = None,
    keep: bool = False,
) -> Interpretation:
    """Runs ``graph`` on ``inputs``; nothing is written to any Variable.

    Args:
        graph: any legal graph, before or after any pass.
        inputs: one array for each input of the graph.
        states: contents of variables that differ from what they hold now.
        dtype: ``"float64"`` computes every float32 value in float64.
        keep: whether to keep every value, not only outputs and updates.

    Returns:
        Outputs, updates, and with ``keep`` all values.

    Raises:
        ValueError: if the inputs do not fit the graph.
    """
    sizes = graph.bind([np.shape(x) for x in inputs])
    env: dict[Value, Array] = {}

    def store(value: Value, array: Any) -> None:
        env[value] = _as(array, value.spec, dtype)

    for value, array in zip(graph.inputs, inputs, strict=True):
        store(value, array)
    for state, value in graph.variables.items():
        store(value, states[state] if states is not None and state in states else state.read())
    for value in graph.constants:
        store(value, value.origin)
    last = _last_use(graph)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            for value, result in zip(
                node.outputs, run_node(node, [env[v] for v in node.inputs], sizes), strict=True
            ):
                store(value, result)
            if not keep:
                for value in last.get(node, ()):
                    del env[value]
    return Interpretation(
        outputs=[env[v] for v in graph.outputs],
        updates={state: env[v] for state, v in graph.updates.items()},
        values=env,
        sizes=sizes,
    )


class Interpretation:
    """What a run of the interpreter gave."""

    __slots__ = ("outputs", "sizes", "updates", "values")

    def __init__(
        self,
        outputs: list[Array],
        updates: dict[Any, Array],
        values: dict[Value, Array],
        sizes: Sizes,
    ) -> None:
        self.outputs = outputs
        self.updates = updates
        self.values = values
        self.sizes = sizes


def run_node(node: Node, operands: Sequence[Array], sizes: Sizes) -> tuple[Array, ...]:
    """Runs one node's reference; results have the dtypes of the node, or are float64.

    Raises:
        RowError: by guards. A loop over the rows of the batch names the row that it was at.
    """
    try:
        results = run_reference(node.op, operands, attrs_with(node.attrs, sizes))
    except RowError as error:
        if error.step is None or node.attrs.get("length") != BATCH:
            raise
        raise RowError(error.problem, error.step) from None
    return tuple(
        np.asarray(result, numpy_dtype(value.dtype)) if value.dtype == BFLOAT16 else result
        for result, value in zip(results, node.outputs, strict=True)
    )


def _as(array: Any, spec: Spec, dtype: str | None) -> Array:
    target = numpy_dtype(dtype if dtype is not None and spec.dtype == "float32" else spec.dtype)
    return np.asarray(array, dtype=target)


def _last_use(graph: Graph) -> dict[Node, list[Value]]:
    """The values that may be dropped after each node."""
    kept = set(graph.roots())
    last: dict[Value, Node] = {}
    for node in graph.nodes:
        for value in (*node.outputs, *node.inputs):
            last[value] = node
    result: dict[Node, list[Value]] = {}
    for value, node in last.items():
        if value not in kept:
            result.setdefault(node, []).append(value)
    return result
