"""Losses of margins: targets of -1 and 1, or one-hot rows."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.losses.loss import LossFunctionWrapper, pair


def hinge(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``max(1 - y_true * y_pred, 0)`` along the last axis.

    Args:
        y_true: -1 or 1. Where all of them are 0 or 1, 0 means -1.
        y_pred: scores.

    Example:
        >>> hinge([[-1.0, 1.0], [1.0, 1.0]], [[0.5, 0.5], [2.0, 0.0]])
        array([1. , 0.5], dtype=float32)
    """
    return ops.mean(_missing_margins(y_true, y_pred), axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """Mean of ``max(1 - y_true * y_pred, 0) ** 2`` along the last axis.

    Args:
        y_true: -1 or 1. Where all of them are 0 or 1, 0 means -1.
        y_pred: scores.
    """
    return ops.mean(ops.square(_missing_margins(y_true, y_pred)), axis=-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """How much the score of the right class falls short of 1 above the best other one.

    Args:
        y_true: one-hot rows.
        y_pred: scores.

    Example:
        >>> categorical_hinge([[0.0, 1.0, 0.0]], [[0.5, 1.0, 0.25]])
        array([0.5], dtype=float32)
    """
    y_true, y_pred = pair(y_true, y_pred)
    right = ops.sum(ops.multiply(y_true, y_pred), axis=-1)
    other = ops.max(ops.multiply(ops.subtract(1.0, y_true), y_pred), axis=-1)
    return ops.maximum(ops.add(ops.subtract(other, right), 1.0), 0.0)


def _missing_margins(y_true: Any, y_pred: Any) -> Any:
    """``max(1 - y_true * y_pred, 0)``; targets that are all 0 or 1 become -1 or 1."""
    y_true, y_pred = pair(y_true, y_pred)
    binary = ops.all(ops.logical_or(ops.equal(y_true, 0.0), ops.equal(y_true, 1.0)))
    signs = ops.where(binary, ops.subtract(ops.multiply(y_true, 2.0), 1.0), y_true)
    return ops.maximum(ops.subtract(1.0, ops.multiply(signs, y_pred)), 0.0)


class Hinge(LossFunctionWrapper):
    """Mean of ``max(1 - y_true * y_pred, 0)``, for targets of -1 and 1, or 0 and 1.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(hinge, reduction, name, dtype)


class SquaredHinge(LossFunctionWrapper):
    """Mean of ``max(1 - y_true * y_pred, 0) ** 2``, for targets of -1 and 1, or 0 and 1.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "squared_hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(squared_hinge, reduction, name, dtype)


class CategoricalHinge(LossFunctionWrapper):
    """How much the right class falls short of a margin of 1, for one-hot targets.

    Args:
        reduction: see :class:`Loss`.
        name: the loss's name.
        dtype: see :class:`Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(categorical_hinge, reduction, name, dtype)
