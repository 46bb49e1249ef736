"""Losses of how near embeddings of one class are to each other."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.ir.trace import with_mask
from handmill.losses.loss import LossFunctionWrapper, as_float
from handmill.primitives.operands import shape_of

# A pair that does not count has this exponent: its term is 0, as with minus infinity, but a row
# without any partner keeps a gradient of 0 instead of NaN.
_NO_TERM = -1e30


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Any:
    """Circle loss: pairs of one class should be near, those of two classes far, by their cosines.

    The further a pair is from where it should be, the more it counts.

    Args:
        y_true: class numbers.
        y_pred: embeddings of length 1, one a sample.
        ref_labels: class numbers of the references. Default: ``y_true``.
        ref_embeddings: embeddings to compare with. Default: ``y_pred``.
        remove_diagonal: whether sample i and reference i are no pair.
        gamma: the scale of the exponents.
        margin: how near and how far is enough.

    Returns:
        One number a sample.
    """
    y_pred, y_true = as_float(y_pred), ops.cast(ops.convert_to_tensor(y_true), "int32")
    references = y_pred if ref_embeddings is None else as_float(ref_embeddings)
    labels = y_true if ref_labels is None else ops.cast(ops.convert_to_tensor(ref_labels), "int32")
    distances = ops.subtract(1.0, ops.matmul(y_pred, ops.transpose(references)))
    distances = ops.maximum(distances, 0.0)
    equal = ops.equal(ops.reshape(y_true, (-1, 1)), ops.reshape(labels, (1, -1)))
    near, far = equal, ops.logical_not(equal)
    if remove_diagonal:
        rows, columns = (ops.arange(shape_of(x)[0]) for x in (y_pred, references))
        others = ops.not_equal(ops.expand_dims(rows, 1), ops.expand_dims(columns, 0))
        near = ops.logical_and(near, others)
    pull = ops.maximum(ops.add(distances, margin), 0.0)
    push = ops.maximum(ops.subtract(1.0 + margin, distances), 0.0)
    pulled = ops.multiply(ops.multiply(pull, -gamma), ops.subtract(margin, distances))
    pushed = ops.multiply(ops.multiply(push, gamma), ops.subtract(1.0 - margin, distances))
    total = ops.add(
        ops.logsumexp(ops.where(near, pulled, _NO_TERM), axis=1),
        ops.logsumexp(ops.where(far, pushed, _NO_TERM), axis=1),
    )
    values = ops.softplus(total)
    return with_mask(values, ops.greater(values, 0.0))


class Circle(LossFunctionWrapper):
    """Circle loss of embeddings and class numbers; samples whose loss is 0 do not count in a mean.

    Args:
        gamma: the scale of the exponents.
        margin: how near and how far is enough.
        remove_diagonal: whether a sample is no pair with itself.
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "circle",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            circle,
            reduction,
            name,
            dtype,
            gamma=gamma,
            margin=margin,
            remove_diagonal=remove_diagonal,
        )

    def reduce(self, values: Any, sample_weight: Any = None, mask: Any = None) -> Any:
        """Reduces one number a sample to a scalar."""
        counts = ops.greater(values, 0.0)
        mask = counts if mask is None else ops.logical_and(mask, counts)
        return super().reduce(values, sample_weight, mask)
