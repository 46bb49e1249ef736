"""What quantized layers compute, in float32 and with gradients: what training simulates.

Forward, numbers are rounded by the formulas with which :mod:`handmill.quantizers` makes integers.
Products are those of the integers themselves, which float32 holds: sums below 2^24 are exact, and
such products have the bits of the quantized layer. Backward, rounding counts as the identity where
a number lies in its range, and as a constant beyond (the straight-through estimator: Bengio et al.
2013; Jacob et al., CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from handmill import ops
from handmill.ir.trace import apply, autocast_scope
from handmill.primitives.matmul import MATMUL
from handmill.primitives.straight_through import straight_product, straight_through

_LEAST_STEP = 1e-30
_NIBBLE = (-8.0, 7.0)


class Rounded(NamedTuple):
    """Numbers as whole ones: ``integers * step`` is near them.

    Attributes:
        integers: whole numbers, float32, 0 where the number is 0.
        step: what 1 stands for; it broadcasts against ``integers``.
        inside: False where a number lies beyond the range; None: it lies there nowhere.
    """

    integers: Any
    step: Any
    inside: Any = None

    def flat(self, size: int) -> Rounded:
        """The same as a matrix whose rows are the last axis, of ``size`` numbers."""
        step = ops.reshape(self.step, (-1, 1)) if self.step.shape else self.step
        inside = None if self.inside is None else ops.reshape(self.inside, (-1, size))
        return Rounded(ops.reshape(self.integers, (-1, size)), step, inside)


def full_width(variable: Any) -> Any:
    """A variable in its own dtype, whatever the layer computes in."""
    with autocast_scope(None):
        return ops.cast(ops.convert_to_tensor(variable), "float32")


def largest_step(x: Any, axis: int, most: float, epsilon: float) -> tuple[Any, Any]:
    """The largest magnitudes of rows or columns, not 0, and the factors that make them ``most``."""
    low, high = (f(x, axis=axis, keepdims=True) for f in (ops.min, ops.max))
    largest = ops.add(ops.maximum(high, ops.negative(low)), epsilon)
    return largest, ops.divide(most, largest)


def rounded_rows(x: Any) -> Rounded:
    """Numbers as 8-bit products round them: each row has the step of its largest magnitude."""
    largest, factor = largest_step(x, -1, 127.0, 1e-7)
    return Rounded(ops.round(ops.multiply(x, factor)), ops.divide(largest, 127.0))


def rounded_table(
    matrix: Any, axis: int, value_range: Sequence[float], epsilon: float
) -> tuple[Rounded, Any]:
    """A matrix with one step for each output, and the factors by which it was multiplied.

    Args:
        matrix: float32.
        axis: that of the inputs, over which a magnitude is the largest.
        value_range: the lowest and highest integer.
        epsilon: added to the magnitude.
    """
    low, high = (float(v) for v in value_range)
    _, factor = largest_step(matrix, axis, high, epsilon)
    scaled = ops.multiply(matrix, factor)
    inside = None if low <= -high else ops.greater_equal(scaled, low - 0.5)
    integers = ops.round(scaled)
    if inside is not None:
        integers = ops.maximum(integers, low)
    return Rounded(integers, ops.reciprocal(factor), inside), factor


def byte_format(low: Any, high: Any) -> tuple[Any, Any]:
    """The step and the zero point of bytes that reach from ``low`` to ``high`` and hold 0."""
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    step = ops.divide(ops.subtract(high, low), 255.0)
    some = ops.greater_equal(step, _LEAST_STEP)  # else all of it was 0
    step = ops.where(some, step, 1.0)
    zero = ops.clip(ops.round(ops.divide(ops.negative(low), step)), 0.0, 255.0)
    return step, ops.where(some, zero, 0.0)


def rounded_bytes(x: Any, step: Any, zero: Any, known: Any = None) -> Rounded:
    """Numbers as bytes of a fixed step, less the byte that stands for 0.

    Args:
        x: float32.
        step: see :func:`byte_format`.
        zero: likewise.
        known: whether the range is; numbers stay as they are where it is not. None: it is.
    """
    scaled = ops.multiply(x, ops.reciprocal(step))
    low, high = ops.negative(zero), ops.subtract(255.0, zero)
    clipped = ops.minimum(ops.maximum(scaled, low), high)
    integers, inside = ops.round(clipped), ops.equal(clipped, scaled)
    if known is not None:
        integers = ops.where(known, integers, scaled)
        inside = ops.logical_or(inside, ops.logical_not(known))
    return Rounded(integers, step, inside)


def whole_already(x: Any) -> Rounded:
    """Numbers that are bytes as they are given, such as pixels."""
    return Rounded(x, ops.ones((), "float32"))


def straight(x: Any, rounded: Rounded) -> Any:
    """The integers of rounded numbers, with the gradient of ``x / step``."""
    return straight_through(rounded.integers, x, rounded.step, rounded.inside)


def grouped_numbers(matrix: Any, axis: int, block: int, epsilon: float = 1e-7) -> Any:
    """A matrix in 4 bits, in groups with a step and a zero point each, as numbers again.

    The range of a group is that of its numbers, so that nothing lies beyond it.

    Args:
        matrix: float32, (..., K, N), or (..., N, K) with ``axis=-1``.
        axis: -2 or -1: along which ``block`` neighbours are a group.
        block: how many; the last group may have fewer.
        epsilon: added to a range.
    """
    shape = ops.shape(matrix)
    size, last = int(shape[axis]), axis == -1
    groups = -(-size // block)
    if over := groups * block - size:
        pads = [(0, 0)] * len(shape)
        pads[axis] = (0, over)
        matrix = ops.pad(matrix, pads)  # zeros, which each range holds
    kept = tuple(shape[:axis])
    x = ops.reshape(matrix, (*kept, groups, block) if last else (*kept, groups, block, shape[-1]))
    low, high = _NIBBLE
    least = ops.minimum(ops.min(x, axis=axis, keepdims=True), 0.0)
    most = ops.maximum(ops.max(x, axis=axis, keepdims=True), 0.0)
    step = ops.divide(ops.add(ops.subtract(most, least), epsilon), high - low)
    zero = ops.clip(ops.add(ops.round(ops.divide(ops.negative(least), step)), low), low, high)
    q = ops.clip(ops.add(ops.round(ops.divide(x, step)), zero), low, high)
    numbers = ops.multiply(ops.subtract(q, zero), step)
    whole = (*kept, groups * block) if last else (*kept, groups * block, shape[-1])
    numbers = ops.reshape(numbers, whole)
    if over:
        numbers = numbers[..., :size] if last else numbers[..., :size, :]
    return numbers


def fake_product(
    x: Any, table: Any, inputs: Rounded | None, outputs: tuple[Rounded, Any], by_rows: bool
) -> Any:
    """``x @ table`` of rounded numbers, as the quantized layer adds and scales it.

    Args:
        x: float32, (rows, K).
        table: float32, (K, N), or (N, K) with ``by_rows``.
        inputs: the inputs as integers; None: they stay as they are.
        outputs: the table as integers, and the factors that it was multiplied by.
        by_rows: see ``table``.
    """
    whole, factor = outputs[0], ops.reshape(outputs[1], (-1,))
    given = Rounded(x, None) if inputs is None else inputs
    sums = _matmul(given.integers, whole.integers, by_rows)
    factors = ops.reciprocal(factor)
    if given.step is None:
        y = ops.divide(sums, factor)
    elif not given.step.shape:
        y = ops.multiply(sums, ops.divide(given.step, factor))
    else:
        y = ops.multiply(sums, ops.multiply(given.step, factors))
    integers = given.integers, whole.integers
    inside = given.inside, whole.inside
    return straight_product(y, (x, table), integers, factors, given.step, inside, by_rows)


def _matmul(a: Any, b: Any, transpose_b: bool) -> Any:
    return apply(MATMUL, a, b, transpose_a=False, transpose_b=transpose_b)
