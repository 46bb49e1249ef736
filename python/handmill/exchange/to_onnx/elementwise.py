"""Elementwise operators as ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from handmill.exchange.inference_graph import channels_of
from handmill.exchange.messages import NUMBERS
from handmill.exchange.to_onnx.emitter import Emitter, Refused, rule
from handmill.ir.graph import Node, Value

Form: TypeAlias = "Callable[..., str]"
"""(emitter, node, names of operands) -> name of the result."""

_NAMES = {
    "absolute": "Abs", "add": "Add", "arccos": "Acos", "arccosh": "Acosh", "arcsin": "Asin",
    "arcsinh": "Asinh", "arctan": "Atan", "arctanh": "Atanh", "ceil": "Ceil", "cos": "Cos",
    "cosh": "Cosh", "divide": "Div", "equal": "Equal", "erf": "Erf", "exp": "Exp",
    "floor": "Floor", "greater": "Greater", "greater_equal": "GreaterOrEqual", "hard_silu":
    "HardSwish", "isinf": "IsInf", "isnan": "IsNaN", "less": "Less", "less_equal": "LessOrEqual",
    "log": "Log", "logical_and": "And", "logical_not": "Not", "logical_or": "Or", "maximum": "Max",
    "minimum": "Min", "multiply": "Mul", "negative": "Neg", "power": "Pow", "reciprocal":
    "Reciprocal", "relu": "Relu", "round": "Round", "selu": "Selu", "sigmoid": "Sigmoid", "sign":
    "Sign", "sin": "Sin", "sinh": "Sinh", "softplus": "Softplus", "softsign": "Softsign", "sqrt":
    "Sqrt", "subtract": "Sub", "tanh": "Tanh", "where": "Where",
}  # fmt: skip
"""Operators that ONNX has, too."""


def _half_erf(e: Emitter, node: Node, x: str) -> str:
    one = e.op("Add", e.op("Erf", e.op("Mul", x, _n(e, node, math.sqrt(0.5)))), _n(e, node, 1.0))
    return e.op("Mul", e.op("Mul", x, one), _n(e, node, 0.5))


def _gelu_tanh(e: Emitter, node: Node, x: str) -> str:
    cube = e.op("Mul", e.op("Mul", x, x), x)
    inner = e.op("Add", x, e.op("Mul", cube, _n(e, node, 0.044715)))
    inner = e.op("Tanh", e.op("Mul", inner, _n(e, node, math.sqrt(2 / math.pi))))
    half = e.op("Mul", x, _n(e, node, 0.5))
    return e.op("Mul", half, e.op("Add", inner, _n(e, node, 1.0)))


def _floor_divide(e: Emitter, node: Node, x: str, y: str) -> str:
    quotient = e.op("Div", x, y)
    if node.outputs[0].spec.is_float:
        return e.op("Floor", quotient)
    # Integers are divided toward zero: one less where the rest has not the divisor's sign.
    rest = e.op("Mod", x, y)
    exact = e.op("Sub", x, rest)
    return e.op("Div", exact, y)


def _mod(e: Emitter, node: Node, x: str, y: str) -> str:
    if not node.outputs[0].spec.is_float:
        return e.op("Mod", x, y)
    return e.op("Sub", x, e.op("Mul", e.op("Floor", e.op("Div", x, y)), y))


def _cast(e: Emitter, node: Node, x: str) -> str:
    return _converted(e, x, node.outputs[0].dtype)


def _converted(e: Emitter, x: str, dtype: str) -> str:
    if dtype not in NUMBERS:
        raise Refused(f"the dtype {dtype} has no kernels in most runtimes")
    return e.op("Cast", x, to=NUMBERS[dtype])


def _n(e: Emitter, node: Node, number: float) -> str:
    return e.like(number, node.outputs[0])


_FORMS: dict[str, Form] = {
    "cast": _cast,
    "clip": lambda e, n, x: e.op("Clip", x, _n(e, n, n.attrs["lo"]), _n(e, n, n.attrs["hi"])),
    "elu": lambda e, n, x: e.op("Elu", x, alpha=float(n.attrs["alpha"])),
    "erfc": lambda e, n, x: e.op("Sub", _n(e, n, 1.0), e.op("Erf", x)),
    "exp2": lambda e, n, x: e.op("Pow", _n(e, n, 2.0), x),
    "expm1": lambda e, n, x: e.op("Sub", e.op("Exp", x), _n(e, n, 1.0)),
    "floor_divide": _floor_divide,
    "gelu": lambda e, n, x: e.op("Gelu", x) if e.opset >= 20 else _half_erf(e, n, x),
    "gelu_tanh": lambda e, n, x: (
        e.op("Gelu", x, approximate="tanh") if e.opset >= 20 else _gelu_tanh(e, n, x)
    ),
    "hard_sigmoid": lambda e, n, x: e.op("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "increment": lambda e, n, x: e.op("Add", x, _n(e, n, 1)),
    "isfinite": lambda e, n, x: e.op("Not", e.op("Or", e.op("IsNaN", x), e.op("IsInf", x))),
    "leaky_relu": lambda e, n, x: e.op("LeakyRelu", x, alpha=float(n.attrs["negative_slope"])),
    "log1p": lambda e, n, x: e.op("Log", e.op("Add", x, _n(e, n, 1.0))),
    "mish": lambda e, n, x: e.op("Mul", x, e.op("Tanh", e.op("Softplus", x))),
    "mod": _mod,
    "not_equal": lambda e, n, x, y: e.op("Not", e.op("Equal", x, y)),
    "relu6": lambda e, n, x: e.op("Clip", x, _n(e, n, 0.0), _n(e, n, 6.0)),
    "rsqrt": lambda e, n, x: e.op("Reciprocal", e.op("Sqrt", x)),
    "silu": lambda e, n, x: e.op("Mul", x, e.op("Sigmoid", x)),
    "square": lambda e, n, x: e.op("Mul", x, x),
    "stop_gradient": lambda e, n, x: x,
    "trunc": lambda e, n, x: e.op("Mul", e.op("Sign", x), e.op("Floor", e.op("Abs", x))),
}


def _order(e: Emitter, node: Node) -> tuple[tuple[int, ...] | None, np.ndarray | None]:
    """The order in which the operands are stored, where they are all that can be used in one."""
    rank = len(node.outputs[0].shape)
    values = [v for v in node.inputs if v.constant is None]
    orders = [e.stored(v).order for v in values if len(v.shape) == rank]
    order = next((each for each in orders if each is not None), None)
    if order is not None and all(len(v.shape) in (0, rank) for v in values):
        return order, None
    features = e.stored(values[0]).features if len(values) == 1 else None
    if features is None or any(
        channels_of(v, node.outputs[0]) is None for v in node.inputs if v.constant is not None
    ):
        return None, None
    return None, features


def _operand(e: Emitter, value: Value, rank: int, order: tuple[int, ...]) -> str:
    array = value.constant
    if array is None:
        return e.ordered(value, order) if len(value.shape) == rank else e.plain(value)
    if array.size == 1:
        return e.constant(array.reshape(()), "number")
    wide = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(order)
    while wide.ndim > 1 and wide.shape[0] == 1:
        wide = wide[0]
    return e.constant(wide, e.labels.get(value, "constant"))


@rule(*_NAMES, *_FORMS)
def elementwise(e: Emitter, node: Node) -> None:
    """Writes an elementwise operator in the order of axes that its operands have."""
    out = node.outputs[0]
    order, features = _order(e, node)
    rank = len(out.shape)
    if order is not None:
        names = [_operand(e, v, rank, order) for v in node.inputs]
    elif features is not None:
        names = [
            e.stored(v).name
            if v.constant is None
            else e.constant(v.constant if v.constant.size == 1 else v.constant[..., features])
            for v in node.inputs
        ]
    else:
        names = [e.plain(v) for v in node.inputs]
    name = node.op.name
    made = e.op(_NAMES[name], *names) if name in _NAMES else _FORMS[name](e, node, *names)
    e.put(out, made, order, features)
