"""Losses of sequences whose labels are not assigned to steps."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.errors import ShapeError
from handmill.losses.loss import LossFunctionWrapper, _shown
from handmill.primitives.operands import shape_of


def ctc(y_true: Any, y_pred: Any) -> Any:
    """The negative logarithm of the probability of labels: connectionist temporal classification.

    The class 0 is the blank, and what labels are padded with: as many of them count as are not 0.

    Args:
        y_true: labels, of shape ``(batch, labels)``.
        y_pred: logits of shape ``(batch, steps, classes)``.

    Raises:
        ShapeError: if shapes do not fit.

    Example:
        >>> ctc([[1, 2, 0]], [[[0.0, 3.0, 0.0], [0.0, 0.0, 3.0], [3.0, 0.0, 0.0]]]).round(3)
        array([0.231], dtype=float32)
    """
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    labels, outputs = shape_of(y_true), shape_of(y_pred)
    for name, shape, want in (
        ("Targets `y_true`", labels, ("batch_size", "max_length")),
        ("Logits `y_pred`", outputs, ("batch_size", "max_length", "num_classes")),
    ):
        if len(shape) != len(want):
            raise ShapeError(
                f"{name} are expected to be a tensor of shape `({', '.join(want)})`. "
                f"Received: {name.split('`')[1]}.shape={_shown(shape)}"
            )
    counts = ops.sum(ops.cast(ops.not_equal(y_true, 0), "int32"), axis=-1)
    steps = ops.add(ops.zeros_like(counts), outputs[1])
    return ops.ctc_loss(y_true, y_pred, counts, steps)


class CTC(LossFunctionWrapper):
    """The negative logarithm of the probability of labels, wherever they stand in a sequence.

    Targets are whole numbers of shape ``(batch, labels)``, in which 0 is padding, predictions
    logits of shape ``(batch, steps, classes)``, in which 0 is the blank.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.

    Example:
        >>> import numpy as np
        >>> round(float(CTC()(np.array([[1]]), np.zeros((1, 2, 2), "float32"))), 4)
        0.2877
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ctc",
        dtype: Any = None,
    ) -> None:
        super().__init__(ctc, reduction=reduction, name=name, dtype=dtype)
