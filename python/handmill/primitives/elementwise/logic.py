"""Comparison, logic and selection, element by element under broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import Array, Exact, Op, Sample, register
from handmill.ir.shapes import Spec, broadcast_shapes
from handmill.primitives.elementwise.arithmetic import Samples, binary_op, native_tile
from handmill.primitives.emit import unbroadcast, where
from handmill.primitives.samples import SHAPES, binary, name_of, unary


def _comparison(name: str, reference: Callable[..., Any]) -> Op:
    samples = binary(-2.0, 2.0, smooth=False)
    return binary_op(name, reference, None, samples, Exact(), dtype="bool", grad_none=(0, 1))


EQUAL = _comparison("equal", np.equal)
NOT_EQUAL = _comparison("not_equal", np.not_equal)
LESS = _comparison("less", np.less)
LESS_EQUAL = _comparison("less_equal", np.less_equal)
GREATER = _comparison("greater", np.greater)
GREATER_EQUAL = _comparison("greater_equal", np.greater_equal)


def _booleans(operands: int) -> Samples:
    def make(shape: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Array, ...]]:
        return lambda rng: tuple(rng.random(shape) < 0.5 for _ in range(operands))

    return lambda: [Sample(name_of(s), make(s), smooth=False) for s in SHAPES]


LOGICAL_AND = binary_op(
    "logical_and", np.logical_and, None, _booleans(2), Exact(), dtype="bool", grad_none=(0, 1)
)
LOGICAL_OR = binary_op(
    "logical_or", np.logical_or, None, _booleans(2), Exact(), dtype="bool", grad_none=(0, 1)
)
LOGICAL_NOT = register(
    Op(
        "logical_not",
        infer=lambda x: Spec(x.shape, "bool"),
        reference=np.logical_not,
        samples=_booleans(1),
        bound=Exact(),
        native=native_tile("logical_not"),
        tile="logical_not",
        grad_none=(0,),
    )
)


def _classification(name: str, reference: Callable[..., Any]) -> Op:
    return register(
        Op(
            name,
            infer=lambda x: Spec(x.shape, "bool"),
            reference=reference,
            samples=unary(smooth=False),
            bound=Exact(),
            native=native_tile(name),
            tile=name,
            grad_none=(0,),
        )
    )


ISFINITE = _classification("isfinite", np.isfinite)
ISNAN = _classification("isnan", np.isnan)
ISINF = _classification("isinf", np.isinf)


def _where_infer(condition: Spec, x: Spec, y: Spec) -> Spec:
    operands = {"condition": condition, "x": x, "y": y}
    if condition.dtype != "bool" or x.dtype != y.dtype:
        raise shape_error("where", "a bool and two operands of one dtype were expected", operands)
    try:
        return Spec(broadcast_shapes(condition.shape, x.shape, y.shape), x.dtype)
    except ValueError as error:
        raise shape_error("where", str(error), operands) from error


def _where_vjp(inputs: Any, outputs: Any, dys: Any) -> tuple[Any, ...]:
    condition, x, y = inputs
    dx, dy = where(condition, dys[0], 0.0), where(condition, 0.0, dys[0])
    return None, unbroadcast(dx, x.shape), unbroadcast(dy, y.shape)


def _where_samples() -> Iterable[Sample]:
    for c, x, y in [((), (), ())] + [(s, s, s) for s in SHAPES] + [((4, 1), (1, 9), ())]:

        def make(rng: np.random.Generator, c: Any = c, x: Any = x, y: Any = y) -> tuple[Array, ...]:
            a, b = (np.asarray(rng.normal(size=s), np.float32) for s in (x, y))
            return np.asarray(rng.random(c) < 0.5), a, b

        yield Sample(f"{name_of(c)}_{name_of(x)}_{name_of(y)}", make, smooth=0 not in c)


WHERE = register(
    Op(
        "where",
        infer=_where_infer,
        reference=np.where,
        samples=_where_samples,
        bound=Exact(),
        vjp=_where_vjp,
        attribution="midpoint",
        native=native_tile("where"),
        tile="where",
        alias=((0, 1), (0, 2)),
        grad_none=(0,),
    )
)
