"""ONNX's elementwise operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from handmill import ops
from handmill.exchange.from_onnx.execution import Call, Last, Unreadable, known_dtype, last, rule
from handmill.exchange.messages import DTYPES


def _dtype(x: Any) -> str:
    return str(np.dtype(x.dtype)) if isinstance(x, np.ndarray) else str(x.dtype)


def is_float(x: Any) -> bool:
    """Whether a tensor holds floats."""
    return _dtype(x) in ("float16", "float32", "float64", "bfloat16")


def like(x: Any, number: float) -> Any:
    """A number of the dtype of a tensor."""
    return np.asarray(number, known_dtype(_dtype(x)))


def _in_order(xs: tuple[Any, ...]) -> tuple[list[Any], bool]:
    """Operands in one order of axes: that of images whose channels are last, if there are any."""
    ranks = [x.ndim for x in xs if isinstance(x, Last)]
    if not ranks:
        return list(xs), False
    rank = max([*ranks, *[len(x.shape) for x in xs if not isinstance(x, Last)]])
    found = []
    for x in xs:
        if isinstance(x, Last):
            found.append(x.tensor)
        elif len(x.shape) == 0:
            found.append(x)
        else:
            wide = ops.reshape(x, (*[1] * (rank - len(x.shape)), *x.shape))
            found.append(last(wide))
    if any(r != rank for r in ranks):
        raise Unreadable("images of several ranks meet")
    return found, True


def _elementwise(name: str, function: Callable[..., Any]) -> None:
    def apply(call: Call, *xs: Any) -> Any:
        given, turned = _in_order(xs)
        found = function(call, *given)
        return Last(found) if turned else found

    rule(name, keeps_order=True)(apply)


def _div(call: Call, x: Any, y: Any) -> Any:
    if is_float(x):
        return ops.divide(x, y)
    floor = ops.floor_divide(x, y)  # rounded down; ONNX rounds toward zero
    rest = ops.not_equal(ops.multiply(floor, y), x)
    below = ops.logical_and(rest, ops.not_equal(ops.less(x, 0), ops.less(y, 0)))
    return ops.where(below, ops.add(floor, like(x, 1)), floor)


def _mod(call: Call, x: Any, y: Any) -> Any:
    return ops.fmod(x, y) if call.attr("fmod", 0) else ops.mod(x, y)


def _pow(call: Call, x: Any, y: Any) -> Any:
    kind = _dtype(x)
    if kind == _dtype(y) and is_float(x):
        return ops.power(x, y)
    wide = "float64" if isinstance(x, np.ndarray) and isinstance(y, np.ndarray) else "float32"
    return ops.cast(ops.power(ops.cast(x, wide), ops.cast(y, wide)), kind)


def _clip(call: Call, x: Any, low: Any = None, high: Any = None) -> Any:
    low = call.attr("min") if low is None else low
    high = call.attr("max") if high is None else high
    if low is not None:
        x = ops.maximum(x, like(x, low) if isinstance(low, float) else low)
    if high is not None:
        x = ops.minimum(x, like(x, high) if isinstance(high, float) else high)
    return x


def _gelu(call: Call, x: Any) -> Any:
    return ops.gelu(x, approximate=call.attr("approximate", "none") == "tanh")


def _isinf(call: Call, x: Any) -> Any:
    negative, positive = call.attr("detect_negative", 1), call.attr("detect_positive", 1)
    found = ops.isinf(x)
    if not positive:
        found = ops.logical_and(found, ops.less(x, 0.0))
    if not negative:
        found = ops.logical_and(found, ops.greater(x, 0.0))
    return found


def _shrink(call: Call, x: Any) -> Any:
    bound, bias = call.attr("lambd", 0.5), call.attr("bias", 0.0)
    inside = ops.where(ops.greater(x, bound), x - like(x, bias), ops.zeros_like(x))
    return ops.where(ops.less(x, -bound), x + like(x, bias), inside)


def _hard_sigmoid(call: Call, x: Any) -> Any:
    alpha, beta = call.attr("alpha", 0.2), call.attr("beta", 0.5)
    return ops.clip(x * like(x, alpha) + like(x, beta), 0.0, 1.0)


def _elu(call: Call, x: Any) -> Any:
    return ops.elu(x, alpha=call.attr("alpha", 1.0))


def _celu(call: Call, x: Any) -> Any:
    return ops.celu(x, alpha=call.attr("alpha", 1.0))


def _selu(call: Call, x: Any) -> Any:
    alpha = call.attr("alpha", 1.67326319217681884765625)
    gamma = call.attr("gamma", 1.05070102214813232421875)
    return ops.elu(x, alpha=alpha) * like(x, gamma)


def _swish(call: Call, x: Any) -> Any:
    alpha = call.attr("alpha", 1.0)
    return ops.silu(x) if alpha == 1.0 else x * ops.sigmoid(x * like(x, alpha))


def _shift(call: Call, x: Any, y: Any) -> Any:
    left = call.attr("direction", "") == "LEFT"
    return ops.left_shift(x, y) if left else ops.right_shift(x, y)


def _folded(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(call: Call, *xs: Any) -> Any:
        found = xs[0]
        for x in xs[1:]:
            found = function(found, x)
        return found

    return apply


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda call, x: function(x)


def _binary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda call, x, y: function(x, y)


_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": ops.absolute, "Acos": ops.arccos, "Acosh": ops.arccosh, "Asin": ops.arcsin,
    "Asinh": ops.arcsinh, "Atan": ops.arctan, "Atanh": ops.arctanh, "BitwiseNot": ops.bitwise_not,
    "Ceil": ops.ceil, "Cos": ops.cos, "Cosh": ops.cosh, "Erf": ops.erf, "Exp": ops.exp,
    "Floor": ops.floor, "HardSwish": ops.hard_silu, "Identity": lambda x: x, "IsNaN": ops.isnan,
    "Log": ops.log, "Mish": ops.mish, "Neg": ops.negative, "Not": ops.logical_not,
    "Reciprocal": ops.reciprocal, "Relu": ops.relu, "Round": ops.round, "Sigmoid": ops.sigmoid,
    "Sign": ops.sign, "Sin": ops.sin, "Sinh": ops.sinh, "Softplus": ops.softplus,
    "Softsign": ops.softsign, "Sqrt": ops.sqrt, "Tan": ops.tan, "Tanh": ops.tanh,
}  # fmt: skip
_BINARY: dict[str, Callable[..., Any]] = {
    "Add": ops.add, "And": ops.logical_and, "BitwiseAnd": ops.bitwise_and, "BitwiseOr":
    ops.bitwise_or, "BitwiseXor": ops.bitwise_xor, "Equal": ops.equal, "Greater": ops.greater,
    "GreaterOrEqual": ops.greater_equal, "Less": ops.less, "LessOrEqual": ops.less_equal,
    "Mul": ops.multiply, "Or": ops.logical_or, "Sub": ops.subtract, "Xor": ops.logical_xor,
}  # fmt: skip
_FORMS: dict[str, Callable[..., Any]] = {
    "BitShift": _shift,
    "Celu": _celu,
    "Clip": _clip,
    "Div": _div,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "IsInf": _isinf,
    "LeakyRelu": lambda c, x: ops.leaky_relu(x, negative_slope=c.attr("alpha", 0.01)),
    "Max": _folded(ops.maximum),
    "Mean": lambda c, *xs: _folded(ops.add)(c, *xs) / like(xs[0], len(xs)),
    "Min": _folded(ops.minimum),
    "Mod": _mod,
    "PRelu": lambda c, x, slope: ops.where(ops.less(x, like(x, 0)), x * slope, x),
    "Pow": _pow,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sum": _folded(ops.add),
    "Swish": _swish,
    "ThresholdedRelu": lambda c, x: ops.where(
        ops.greater(x, c.attr("alpha", 1.0)), x, ops.zeros_like(x)
    ),
    "Where": lambda c, condition, x, y: ops.where(condition, x, y),
}
_FORMS |= {name: _unary(function) for name, function in _UNARY.items()}
_FORMS |= {name: _binary(function) for name, function in _BINARY.items()}
for _name, _form in _FORMS.items():
    _elementwise(_name, _form)


@rule("Cast", keeps_order=True)
def cast(call: Call, x: Any) -> Any:
    """To a dtype by ONNX's number; those that programs do not know are only given to arrays."""
    to = DTYPES.get(call.attr("to", 0))
    if to is None:
        raise Unreadable(f"the type {call.attr('to')} is not read")
    return _to(x, to)


@rule("CastLike")
def cast_like(call: Call, x: Any, other: Any) -> Any:
    """To the dtype of another tensor."""
    return _to(x, _dtype(other))


def _to(x: Any, dtype: str) -> Any:
    if isinstance(x, np.ndarray):
        return x.astype(dtype)
    if isinstance(x, Last):
        return Last(ops.cast(x.tensor, known_dtype(dtype)))
    return ops.cast(x, known_dtype(dtype))


@rule("Dropout", keeps_order=True)
def dropout(call: Call, x: Any, ratio: Any = None, training: Any = None) -> Any:
    """What inference leaves of it: the operand, and that all of it was kept."""
    call.attr("ratio")
    if training is not None and bool(np.any(call.known(training, "training_mode"))):
        raise Unreadable("it is in training mode")
    if len(call.step.outputs) < 2 or not call.step.outputs[1]:
        return x
    ones = ops.ones_like(x.tensor if isinstance(x, Last) else x, dtype="bool")
    return x, Last(ones) if isinstance(x, Last) else ones


@rule("Constant")
def constant(call: Call) -> Any:
    """A tensor in the file."""
    attrs = call.step.attrs
    if isinstance(call.attr("value"), np.ndarray):
        return attrs["value"]
    for name, dtype in (("value_float", "float32"), ("value_int", "int64"),
                        ("value_floats", "float32"), ("value_ints", "int64")):  # fmt: skip
        if call.attr(name) is not None:
            return np.asarray(attrs[name], dtype)
    raise Unreadable("it has no tensor of numbers")


@rule("Hardmax")
def hardmax(call: Call, x: Any) -> Any:
    """1 at the first largest entry."""
    axis = call.axis(call.attr("axis", -1 if call.opset >= 13 else 1), len(x.shape))
    at = ops.argmax(x, axis=axis)
    moved = ops.one_hot(at, int(x.shape[axis]), axis=axis)
    return ops.cast(moved, known_dtype(_dtype(x)))


@rule("Softmax", "LogSoftmax")
def softmax(call: Call, x: Any) -> Any:
    """Along an axis; before version 13 along all axes from one on."""
    function = ops.softmax if call.step.op == "Softmax" else ops.log_softmax
    rank = len(x.shape)
    if call.opset >= 13:
        return function(x, axis=call.axis(call.attr("axis", -1), rank))
    axis = call.axis(call.attr("axis", 1), rank)
    if axis == rank - 1:
        return function(x, axis=axis)
    count = math.prod(int(size) for size in x.shape[axis:])
    return ops.reshape(function(ops.reshape(x, (*x.shape[:axis], count)), axis=axis), x.shape)
