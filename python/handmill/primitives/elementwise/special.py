"""Functions of one operand that networks rarely need. They run in NumPy: no kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import Array, Op, Sample, Ulp, never_native, register
from handmill.ir.shapes import Spec
from handmill.primitives.elementwise.unary import (
    erf_reference,
    erfc_reference,
)
from handmill.primitives.emit import exp, negative, square
from handmill.primitives.samples import given, uniform


def _special(name: str, reference: Any, derivative: Callable[..., Any], samples: Any) -> Op:
    def infer(x: Spec) -> Spec:
        if not x.is_float:
            raise shape_error(name, f"a floating dtype was expected, got {x.dtype}", {"x": x})
        return x

    return register(
        Op(
            name,
            infer=infer,
            reference=reference,
            samples=samples,
            # Computed in float64 and rounded once, by reference and kernel alike.
            bound=Ulp(0.5),
            vjp=lambda inputs, outputs, dys: (derivative(inputs[0], outputs[0], dys[0]),),
            native=never_native,
        )
    )


def _samples(low: float, high: float, *special: float) -> Callable[[], Iterable[Sample]]:
    return lambda: [
        Sample("17", uniform((17,), low=low, high=high)),
        Sample("5x3", uniform((5, 3), low=low, high=high)),
        Sample("none", uniform((0,)), smooth=False),
        Sample("special", given([0.0, -0.0, np.nan, *special]), smooth=False),
    ]


ERFC = _special(
    "erfc",
    erfc_reference,
    lambda x, y, dy: dy * (exp(negative(square(x))) * (-2 / math.sqrt(math.pi))),
    _samples(-3.0, 3.0, np.inf, -np.inf, 5.0, -5.0),
)


def _erfinv_reference(x: Array) -> Array:
    wide = np.asarray(x, np.float64)
    size = np.abs(wide)
    near_one = size > 0.5
    with np.errstate(all="ignore"):
        # Winitzki's approximation is good to 2e-3; each of Halley's steps triples the digits.
        log = np.log1p(-size * size)
        half = 2 / (np.pi * 0.147) + log / 2
        y = np.sqrt(np.sqrt(half * half - log / 0.147) - half)
        for _ in range(3):
            # 1 - |x| has digits near 1 that |x| has not.
            error = np.empty_like(y)
            error[near_one] = (1 - size[near_one]) - erfc_reference(y[near_one])
            error[~near_one] = erf_reference(y[~near_one]) - size[~near_one]
            step = error * (math.sqrt(math.pi) / 2) * np.exp(y * y)
            y = np.where(step == 0, y, y - step / (1 + y * step))
        y = np.where(size == 1, np.inf, np.where(size < 1, y, np.nan))
    return np.copysign(y, wide).astype(x.dtype)


# y = erf^-1(x): dy/dx = sqrt(pi) / 2 exp(y^2).
ERFINV = _special(
    "erfinv",
    _erfinv_reference,
    lambda x, y, dy: dy * (exp(square(y)) * (math.sqrt(math.pi) / 2)),
    _samples(-0.9, 0.9, 1.0, -1.0, 1.5, 0.999999, 1e-30),
)
