"""bfloat16 in graphs: every operator computes in float32 and rounds what it gives.

A few operators have kernels of their own for bfloat16 (matmul_bf16, movement). All others run
between the two conversions defined here, which are elementwise and so end up in the tile
programs of their neighbours: every operator with a float32 kernel has one for bfloat16.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.ir.body import bodies_of
from handmill.ir.graph import Graph, Node, Value, rewrite
from handmill.ir.op import Array, Attrs, Exact, Op, Sample, register
from handmill.ir.shapes import Spec, numpy_dtype
from handmill.ir.trace import apply

BFLOAT16 = "bfloat16"


def widened(array: Array) -> Array:
    """Returns a bfloat16 array as float32, any other as it is."""
    # Only bfloat16 has two bytes among the dtypes of values.
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def run_reference(op: Op, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    """Runs a reference; bfloat16 operands are widened, the caller rounds to the specs."""
    result = op.reference(*(widened(x) for x in operands), **attrs)
    return result if isinstance(result, tuple) else (result,)


def half_spacing(magnitude: Array) -> Array:
    """Returns the largest error of rounding numbers of this magnitude to bfloat16."""
    finite = np.where(np.isfinite(magnitude), np.abs(magnitude), 0.0)
    exponent = np.frexp(finite)[1]  # magnitude < 2^exponent; 8 bits, subnormal from 2^-126 on
    return np.asarray(np.ldexp(1.0, np.maximum(exponent, -125) - 9))


def is_available() -> bool:
    """Whether arrays can hold bfloat16; without it the operators have no samples."""
    return importlib.util.find_spec("ml_dtypes") is not None


def _samples(dtype: str) -> Iterable[Sample]:
    if not is_available():
        return
    special = [0.0, -0.0, np.inf, -np.inf, 1e-40, 1.00390625, 3.4e38, -1.5]

    def make(shape: tuple[int, ...]) -> Any:
        def draw(rng: np.random.Generator) -> tuple[Array, ...]:
            x = rng.uniform(-4.0, 4.0, shape).astype(np.float32)
            x.flat[: len(special)] = special
            return (x.astype(numpy_dtype(dtype)),)

        return draw

    yield Sample("17", make((17,)), smooth=False)
    yield Sample("127x33", make((127, 33)), smooth=False)


WIDEN: Op = register(
    Op(
        "bfloat16_to_float32",
        infer=lambda x: Spec(x.shape, "float32"),
        reference=lambda x: x if x.dtype == np.float64 else np.asarray(x).astype(np.float32),
        samples=lambda: _samples(BFLOAT16),
        bound=Exact(),
        vjp=lambda inputs, outputs, dys: (apply(ROUND, dys[0]),),
        attribution="midpoint",
        native=lambda specs, attrs: specs[0].dtype == BFLOAT16,
        tile="copy",
    )
)
ROUND: Op = register(
    Op(
        "float32_to_bfloat16",
        infer=lambda x: Spec(x.shape, BFLOAT16),
        reference=lambda x: np.asarray(x).astype(numpy_dtype(BFLOAT16)),
        samples=lambda: _samples("float32"),
        bound=Exact(),
        vjp=lambda inputs, outputs, dys: (apply(WIDEN, dys[0]),),
        attribution="midpoint",
        native=lambda specs, attrs: specs[0].dtype == "float32",
        tile="round_bf16",
    )
)


def unrounded(value: Any) -> Any:
    """Returns the float32 value that ``value`` was rounded from, or ``value`` itself."""
    node = value.node if isinstance(value, Value) else None
    return node.inputs[0] if node is not None and node.op is ROUND else value


def unrounded_view(value: Any) -> Any:
    """The same, with changes of shape behind the rounding emitted again before it."""
    node = value.node if isinstance(value, Value) else None
    if node is None or not node.op.view:
        return unrounded(value)
    exact = unrounded_view(node.inputs[0])
    return value if exact is node.inputs[0] else apply(node.op, exact, **node.attrs)


def converted(value: Any, dtype: str) -> Any:
    """Returns ``value`` in the other of the two dtypes; there and back changes nothing."""
    conversion = WIDEN if dtype == "float32" else ROUND
    node = value.node if isinstance(value, Value) else None
    if conversion is ROUND and node is not None and node.op is WIDEN:
        return node.inputs[0]
    return apply(conversion, value)


def compute_in_float32(graph: Graph) -> Graph:
    """Widens the bfloat16 operands of operators without a kernel for them; rounds the results."""
    sources = [*graph.inputs, *graph.constants, *graph.variables.values()]
    computed = [v for node in graph.nodes for v in node.outputs]
    if BFLOAT16 not in {v.spec.dtype for v in (*sources, *computed)}:
        return graph
    wide: dict[Value, Value] = {}

    def widen(new: Graph, value: Value) -> Value:
        if value.dtype != BFLOAT16:
            return value
        if value not in wide:
            wide[value] = new.emit(WIDEN, [value], {})
        return wide[value]

    def visit(new: Graph, node: Node, operands: tuple[Value, ...]) -> Iterable[Value] | None:
        op, specs = node.op, [v.spec for v in operands]
        touched = any(v.dtype == BFLOAT16 for v in (*operands, *node.outputs))
        if not touched or op in (WIDEN, ROUND) or op.native(specs, node.attrs):
            return None
        if bodies_of(node):  # which compute in float32 themselves
            return None
        floats = [Spec(s.shape, "float32") if s.dtype == BFLOAT16 else s for s in specs]
        if floats == specs or not op.native(floats, node.attrs):
            return None
        found = new.emit(op, [widen(new, v) for v in operands], node.attrs)
        outputs = found if isinstance(found, tuple) else (found,)
        return [
            new.emit(ROUND, [value], {}) if old.dtype == BFLOAT16 != value.dtype else value
            for old, value in zip(node.outputs, outputs, strict=True)
        ]

    return rewrite(graph, visit)
