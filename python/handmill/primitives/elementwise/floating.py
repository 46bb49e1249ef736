"""The parts of floating-point numbers: sign, exponent, neighbours; they run in NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import Exact, Op, Sample, Ulp, never_native, register
from handmill.ir.shapes import Spec, broadcast_shapes
from handmill.ir.trace import apply
from handmill.primitives.elementwise.arithmetic import binary_op, unary_op
from handmill.primitives.elementwise.trigonometry import in_float64
from handmill.primitives.emit import divide, unbroadcast
from handmill.primitives.samples import both, given, integers, unary, uniform

SIGNBIT = unary_op(
    "signbit",
    np.signbit,
    None,
    unary(smooth=False),
    Exact(),
    kernel=False,
    dtype="bool",
)
# y = x^(1/3): dy/dx = y / (3 x).
CBRT = unary_op(
    "cbrt",
    in_float64(np.cbrt),
    lambda x, y, dy: dy * divide(y, x * 3),
    unary(0.1, 9.0),
    Ulp(1),
    kernel=False,
)


def _neighbours() -> Iterable[Sample]:
    yield Sample("pairs", uniform((5, 7), (5, 7)), smooth=False)
    yield Sample("broadcast", uniform((5, 7), (7,)), smooth=False)
    special = given([0.0, 1.0, -1.0, 1.0, np.nan], [1.0, 0.0, -1.0, np.nan, 1.0])
    yield Sample("special", special, smooth=False)


# The neighbours of float64 lie nearer, so both results are one unit of float32 apart at most. It
# is x and a step that does not change: the gradient goes through.
NEXTAFTER = binary_op(
    "nextafter",
    np.nextafter,
    lambda x, y, out, dy: (dy, None),
    _neighbours,
    Ulp(1),
    kernel=False,
)


def _ldexp_infer(x: Spec, exponent: Spec) -> Spec:
    operands: dict[str, object] = {"x": x, "exponent": exponent}
    if not x.is_float or exponent.is_float or exponent.dtype == "bool":
        raise shape_error("ldexp", "a float and an integer exponent were expected", operands)
    try:
        return Spec(broadcast_shapes(x.shape, exponent.shape), x.dtype)
    except ValueError as error:
        raise shape_error("ldexp", str(error), operands) from error


def _ldexp(x: Any, exponent: Any) -> Any:
    # Beyond 3000 the result is 0 or infinite, whatever x is; C's int holds no int64.
    with np.errstate(all="ignore"):
        return np.ldexp(x, np.clip(exponent, -3000, 3000).astype(np.int32))


def _ldexp_samples() -> Iterable[Sample]:
    yield Sample("17x5", both(uniform((17, 5)), integers((17, 5), low=-9, high=9)))
    yield Sample("column", both(uniform((3, 1)), integers((7,), low=-9, high=9, dtype="int64")))
    wide = both(
        given([1e-45, 1.0, np.inf, np.nan, 0.0]), given([200, 300, -4, 5, 9], dtype="int32")
    )
    yield Sample("special", wide, smooth=False)


# x 2^e: exact, but for what is rounded below the smallest normal number.
LDEXP: Op = register(
    Op(
        "ldexp",
        infer=_ldexp_infer,
        reference=_ldexp,
        samples=_ldexp_samples,
        bound=Ulp(0.5),
        vjp=lambda inputs, outputs, dys: (
            unbroadcast(apply(LDEXP, dys[0], inputs[1]), inputs[0].shape),
            None,
        ),
        native=never_native,
        grad_none=(1,),
    )
)
