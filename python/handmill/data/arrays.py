"""Labels as one-hot rows, rows of unit length."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.primitives.operands import is_symbolic


def to_categorical(x: Any, num_classes: int | None = None) -> Array:
    """Returns class numbers as one-hot rows (float32).

    Args:
        x: class numbers, from 0; a last axis of size 1 is dropped.
        num_classes: default: the largest number plus one.

    Raises:
        ValueError: if a number is not a class; the message names its index.

    Example:
        >>> to_categorical([0, 2])
        array([[1., 0., 0.],
               [0., 0., 1.]], dtype=float32)
    """
    labels = np.asarray(x)
    if labels.dtype.kind not in "iubf":
        raise ValueError(
            f"to_categorical: expected class numbers, got an array of dtype {labels.dtype}; for "
            "texts: classes, x = numpy.unique(labels, return_inverse=True)"
        )
    if labels.dtype.kind == "f":
        whole = labels.astype(np.int64)
        if not np.array_equal(whole, labels):
            raise ValueError(f"to_categorical: expected whole numbers, got {labels.dtype}")
        labels = whole
    shape = labels.shape
    if len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    flat = labels.reshape(-1).astype(np.int64)
    classes = int(num_classes) if num_classes else int(flat.max(initial=-1)) + 1
    wrong = np.flatnonzero((flat < 0) | (flat >= classes))
    if wrong.size:
        raise ValueError(
            f"to_categorical: label {flat[wrong[0]]} at index {wrong[0]} is not in "
            f"[0, {classes - 1}]"
        )
    rows = np.zeros((flat.size, classes), np.float32)
    rows[np.arange(flat.size), flat] = 1.0
    return rows.reshape((*shape, classes))


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """Returns ``x`` divided by its norm along ``axis``.

    Args:
        x: an array, or a value of what is traced, as for ``ops.normalize``.
        axis: the axis of the norm.
        order: 1 for sums of absolute values, 2 for the Euclidean norm, and so on.

    Example:
        >>> normalize([[3.0, 4.0]])
        array([[0.6, 0.8]])
    """
    if is_symbolic(x):
        from handmill import ops

        return ops.normalize(x, axis, order)
    array = np.asarray(x)
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    norms = np.atleast_1d(np.linalg.norm(array, order, axis))
    norms[norms == 0] = 1
    result: Array = array / np.expand_dims(norms, axis)
    return result
