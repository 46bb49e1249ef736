"""Coordinates of the plane, as complex numbers."""

from __future__ import annotations

from handmill.ir.op import Array
from handmill.ops.numpy.arrange import stack
from handmill.ops.numpy.complex_numbers import view_as_complex
from handmill.ops.numpy.elementwise import cos, multiply, sin
from handmill.primitives.operands import Tensor, promote_float


def polar(abs_: Tensor, angle: Tensor) -> Array:
    """Returns the complex numbers of given absolute values and angles.

    Args:
        abs_: absolute values.
        angle: angles in radians, of a shape that broadcasts with theirs.

    Raises:
        TypeError: for symbolic tensors: complex numbers exist as arrays only.

    Example:
        >>> from handmill import ops
        >>> ops.polar([2.0, 3.0], [0.0, 0.0])
        array([2.+0.j, 3.+0.j], dtype=complex64)
    """
    abs_, angle = promote_float(abs_, angle)
    parts = [multiply(abs_, cos(angle)), multiply(abs_, sin(angle))]
    return view_as_complex(stack(parts, axis=-1))
