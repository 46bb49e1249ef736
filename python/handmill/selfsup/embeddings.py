"""Rows of embeddings: what losses, probes and checks of collapse ask of them."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.arguments import finite_number
from handmill.ir.dims import at_least, same
from handmill.losses.loss import as_float
from handmill.primitives.operands import shape_of

TINIEST = 1e-24
"""A row whose squares add up to no more has no direction."""


def rows_of(loss: str, name: str, z: Any, least: int = 1) -> Any:
    """Embeddings (B, D) as floats.

    Args:
        loss: who asks, for errors.
        name: what the argument is called.
        z: the embeddings.
        least: the smallest B; what only a call can tell is looked at when it is made.

    Raises:
        ValueError: for another rank, or fewer rows.
    """
    z = as_float(z)
    shape = shape_of(z)
    if len(shape) != 2:
        raise ValueError(
            f"{loss}: `{name}` must be rows of embeddings, of shape (batch, dimensions). Received "
            f"shape {shape}. Flatten images or sequences first, or average over their places."
        )
    if not at_least(shape[0], least):
        raise ValueError(
            f"{loss}: `{name}` has {shape[0]} row(s), but at least {least} are needed: each row is "
            "compared with others of its batch. Use a larger batch_size; a last batch that is too "
            "small can be left out."
        )
    return z


def views_of(loss: str, za: Any, zb: Any, least: int = 1) -> tuple[Any, Any]:
    """Two views (B, D) of the same rows as floats; errors as for :func:`rows_of`."""
    za, zb = rows_of(loss, "za", za, least), rows_of(loss, "zb", zb, least)
    shapes = shape_of(za), shape_of(zb)
    if not all(same(a, b) for a, b in zip(*shapes, strict=True)):
        raise ValueError(
            f"{loss}: both views must have one shape, row i of both being of sample i. Received "
            f"shapes {shapes[0]} and {shapes[1]}"
        )
    return za, zb


def positive(loss: str, name: str, value: Any) -> float:
    """A finite number above 0.

    Raises:
        ValueError: for any other.
    """
    number = finite_number(f"{loss}: `{name}`", value)
    if number <= 0:
        raise ValueError(f"{loss}: `{name}` must be above 0. Received: {value!r}")
    return number


def unit(z: Any) -> Any:
    """Rows of length 1; a row of zeros stays one, and gets no gradient."""
    squares = ops.sum(ops.square(z), axis=-1, keepdims=True)
    inverse = ops.rsqrt(ops.maximum(squares, TINIEST))
    return ops.multiply(z, ops.where(ops.greater(squares, TINIEST), inverse, 0.0))
