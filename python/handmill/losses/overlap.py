"""Losses of how far two areas overlap, as of masks of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import config, ops
from handmill.losses.loss import LossFunctionWrapper, pair


def dice(y_true: Any, y_pred: Any, axis: int | Sequence[int] | None = None) -> Any:
    """1 less twice the common area, divided by the sum of both areas.

    Args:
        y_true: targets in [0, 1].
        y_pred: predictions in [0, 1].
        axis: the axes of each area. Default: all, which gives one number for the batch.

    Example:
        >>> round(float(dice([[1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])), 4)
        0.3333
    """
    y_true, y_pred = pair(y_true, y_pred)
    common = ops.sum(ops.multiply(y_true, y_pred), axis=axis)
    both = ops.add(ops.sum(y_true, axis=axis), ops.sum(y_pred, axis=axis))
    share = ops.divide(ops.multiply(common, 2.0), ops.add(both, config.epsilon()))
    return ops.subtract(1.0, share)


def tversky(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.5,
    beta: float = 0.5,
    axis: int | Sequence[int] | None = None,
) -> Any:
    """1 less the common area, divided by it and the weighted areas that are not common.

    Args:
        y_true: targets in [0, 1].
        y_pred: predictions in [0, 1].
        alpha: the weight of what only the targets cover.
        beta: the weight of what only the predictions cover.
        axis: the axes of each area. Default: all, which gives one number for the batch.
    """
    y_true, y_pred = pair(y_true, y_pred)
    common = ops.sum(ops.multiply(y_true, y_pred), axis=axis)
    missed = ops.sum(ops.multiply(ops.subtract(1.0, y_pred), y_true), axis=axis)
    beyond = ops.sum(ops.multiply(y_pred, ops.subtract(1.0, y_true)), axis=axis)
    around = ops.add(ops.multiply(missed, alpha), ops.multiply(beyond, beta))
    share = ops.divide(common, ops.add(ops.add(common, around), config.epsilon()))
    return ops.subtract(1.0, share)


class Dice(LossFunctionWrapper):
    """1 less twice the common area, divided by the sum of both areas.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        axis: the axes of each area. Default: all.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice",
        axis: int | Sequence[int] | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(dice, reduction, name, dtype, axis=axis)


class Tversky(LossFunctionWrapper):
    """1 less the common area, divided by it and the weighted areas that are not common.

    Args:
        alpha: the weight of what only the targets cover.
        beta: the weight of what only the predictions cover.
        reduction: see :class:`Loss`.
        name: the loss's name.
        axis: the axes of each area. Default: all.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky",
        axis: int | Sequence[int] | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(tversky, reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)
