"""What a product may end with, in the same kernel: scale, bias, residual, activation, derivative.

``act_grad(act(product * scale + bias + residual))``, in this order. Operands after those of the
product, as far as there are any: scale (N,), bias (N,), residual and the operand of the derivative,
both shaped like it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Dim, Shape
from handmill.ir.graph import Value, current_graph
from handmill.ir.op import REGISTRY, Array, Attrs, Op
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply

_Dim = TypeVar("_Dim", bound="Dim")

NO_EPILOGUE: Attrs = {
    "has_scale": False,
    "has_bias": False,
    "residual": False,
    "activation": "",
    "act_grad": "",
}


def names_of(kind: str) -> list[str]:
    """The epilogues of one kind that operators declare."""
    import handmill.primitives.elementwise.activations  # noqa: F401  (registers them)

    declared = (op.epilogue for op in REGISTRY.values() if op.epilogue is not None)
    return sorted(name for found, name in declared if found == kind)


def operand_shapes(shape: tuple[_Dim, ...], attrs: Attrs) -> list[tuple[_Dim, ...]]:
    """The shapes of the operands of an epilogue of a product of ``shape``."""
    wanted = [shape[-1:]] * (attrs["has_scale"] + attrs["has_bias"])
    wanted += [shape] if attrs["residual"] else []
    wanted += [shape] if attrs["act_grad"] else []
    return wanted


def check_operands(
    op: str, shape: Shape, operands: dict[str, Any], rest: Sequence[Spec], attrs: Attrs
) -> None:
    """Refuses operands of other shapes.

    Args:
        op: the name of the operator.
        shape: that of the product.
        operands: those of the product, by name.
        rest: those of the epilogue.
        attrs: of the operator.

    Raises:
        ShapeError: it names all operands.
    """
    wanted = operand_shapes(shape, attrs)
    if [spec.shape for spec in rest] != wanted:
        count = len(operands)
        operands = operands | {f"operand {i + count}": spec for i, spec in enumerate(rest)}
        last = list(operands)[count - 1]
        raise shape_error(op, f"operands of shapes {wanted} were expected after {last}", operands)


def absorb_epilogue(
    op: Op,
    inputs: tuple[Value, ...],
    attrs: Attrs,
    kind: str,
    name: str,
    operand: Value | None,
    shape: Shape,
    dtypes: Sequence[str] = ("float32",),
) -> tuple[Op, tuple[Value, ...], Attrs] | None:
    """Builds one more part into a product (see Op.absorb).

    A part can be taken in only if none of it and none after it is there yet.

    Args:
        op: the operator with an epilogue.
        inputs: the operands so far.
        attrs: those of an operator with or without an epilogue.
        kind: what is to be taken in.
        name: of an activation or a derivative.
        operand: its second operand.
        shape: that of the product.
        dtypes: those that operands may have.
    """
    attrs = {**NO_EPILOGUE, **attrs}
    if attrs["activation"] or attrs["act_grad"]:
        return None
    if kind == "activation":
        return op, inputs, {**attrs, "activation": name}
    if operand is None or operand.dtype not in dtypes:
        return None
    if kind == "scale":
        if operand.shape != shape[-1:] or attrs["has_scale"] or attrs["residual"]:
            return None
        bias = inputs[2:]
        if bias:  # (product + bias) scale = product scale + bias scale
            combined = _combined("multiply", bias[0], operand)
            if combined is None:
                return None
            bias = (combined,)
        return op, (*inputs[:2], operand, *bias), {**attrs, "has_scale": True}
    if kind == "bias":
        if operand.shape == shape[-1:] and not attrs["residual"]:
            if not attrs["has_bias"]:
                return op, (*inputs, operand), {**attrs, "has_bias": True}
            if attrs["has_scale"]:  # the bias is one that was scaled
                combined = _combined("add", inputs[-1], operand)
                return None if combined is None else (op, (*inputs[:-1], combined), attrs)
        kind = "residual"
    if operand.shape != shape:
        return None
    if kind == "residual" and not attrs["residual"]:
        return op, (*inputs, operand), {**attrs, "residual": True}
    if kind == "act_grad":
        return op, (*inputs, operand), {**attrs, "act_grad": name}
    return None


def _combined(name: str, a: Value, b: Value) -> Value | None:
    """A vector of both, computed in the graph at hand; None where their dtypes differ."""
    graph = current_graph()
    if graph is None or a.dtype != b.dtype:
        return None
    combined: Value = graph.emit(REGISTRY[name], (a, b), {})
    return combined


def epilogue_parts(rest: Sequence[Any], attrs: Attrs) -> Iterable[tuple[str, Any]]:
    """The operators after the product, in order, with their second operands."""
    operands = iter(rest)
    if attrs["has_scale"]:
        yield "multiply", next(operands)
    if attrs["has_bias"]:
        yield "add", next(operands)
    if attrs["residual"]:
        yield "add", next(operands)
    if attrs["activation"]:
        yield attrs["activation"], None
    if attrs["act_grad"]:
        yield f"{attrs['act_grad']}_grad", next(operands)


def finished(y: Array, rest: Sequence[Array], attrs: Attrs) -> Array:
    """The reference: a product with its epilogue applied."""
    for name, operand in epilogue_parts(rest, attrs):
        y = REGISTRY[name].reference(y) if operand is None else REGISTRY[name].reference(y, operand)
    return y


def emit_epilogue(y: Any, rest: Sequence[Any], attrs: Attrs) -> Any:
    """The same in operators."""
    for name, operand in epilogue_parts(rest, attrs):
        y = apply(REGISTRY[name], y) if operand is None else apply(REGISTRY[name], y, operand)
    return y


def finished_magnitude(total: Array, rest: Sequence[Array], attrs: Attrs) -> Array:
    """The sizes of the terms, for a bound.

    Activations have slopes up to 2 and values up to ``2 |x| + 1``; their own error of a few units
    is covered by extra terms. A derivative multiplies by at most 2.
    """
    operands = iter(np.abs(operand) for operand in rest)
    if attrs["has_scale"]:
        total = total * next(operands)
    for _ in range(attrs["has_bias"] + attrs["residual"]):
        total = total + next(operands)
    if attrs["act_grad"]:
        total = 2 * total
    return np.asarray(2 * total + 1.0 if attrs["activation"] else total)
